//! A runtime without containers, for tests of what drives one: files in memory, and processes that are words.
//!
//! A process is its arguments, one action each: `out:TEXT`, `err:TEXT`, `write:VOLUME PATH:FILE:TEXT`,
//! `answer:JSON` (to standard output), `exit:N`, `hang` (until stopped), `hold` (until released or stopped), `lost:WHY`,
//! `flood` (output of which there is no end, also once it is stopped), `panic` (the runtime does, at the start).
//! Programs called `/opt/resource/…` take their actions from [`Fake::script`].

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc};

use super::{
    Attached, ContainerHandle, ContainerSpec, Error, Exec, Exit, Input, Listing, Origin, Output, Process, Result,
    Runtime, Stopped, Stream, TarStream, VolumeHandle,
};

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct State {
    volumes: HashMap<VolumeHandle, Files>,
    containers: HashMap<ContainerHandle, Arc<Ran>>,
    scripts: HashMap<String, Vec<String>>,
    started: Vec<(ContainerHandle, ContainerSpec)>,
}

#[derive(Default)]
struct Ran {
    outputs: Mutex<Vec<Output>>,
    more: Notify,
    stopped: Notify,
    held: Mutex<Held>,
    floods: AtomicBool,
    released: Notify,
}

/// Where a process is that waits to be released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Yes,
    /// With this exit status; lost with its container where it is negative.
    Released(i32),
}

/// See the module's doc. Clones share it.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

impl Fake {
    /// Nothing exists yet.
    pub fn new() -> Fake {
        Fake::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What programs at this path do.
    pub fn script(&self, path: &str, actions: &[&str]) {
        self.state().scripts.insert(path.to_owned(), actions.iter().map(|a| (*a).to_owned()).collect());
    }

    /// Every process that was started, in order.
    pub fn started(&self) -> Vec<(ContainerHandle, ContainerSpec)> {
        self.state().started.clone()
    }

    /// The containers whose processes wait to be released.
    pub fn held(&self) -> Vec<ContainerHandle> {
        let state = self.state();
        let held = state.containers.iter().filter(|(_, ran)| ran.hold() == Held::Yes);
        held.map(|(handle, _)| handle.clone()).collect()
    }

    /// Lets a held process exit with this status, or be lost with its container where it is negative.
    pub fn release(&self, container: &ContainerHandle, status: i32) {
        if let Some(ran) = self.state().containers.get(container) {
            *ran.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::Released(status);
            ran.released.notify_one();
        }
    }

    /// A file of a volume.
    pub fn file(&self, volume: &VolumeHandle, path: &str) -> Option<Vec<u8>> {
        self.state().volumes.get(volume)?.get(path).cloned()
    }

    /// Writes a file into a volume.
    pub fn write(&self, volume: &VolumeHandle, path: &str, text: &str) {
        self.state().volumes.entry(volume.clone()).or_default().insert(path.to_owned(), text.as_bytes().to_vec());
    }

    fn spawn(&self, spec: &ContainerSpec) -> Arc<Ran> {
        let ran = Arc::new(Ran::default());
        let actions = match self.state().scripts.get(&spec.process.path) {
            Some(actions) => actions.clone(),
            None => spec.process.args.clone(),
        };
        assert_ne!(actions.first().map(String::as_str), Some("panic"), "this process is to break its runtime");
        tokio::spawn(act(self.clone(), spec.clone(), actions, ran.clone()));
        ran
    }
}

/// Does what the words say, then exits.
async fn act(fake: Fake, spec: ContainerSpec, actions: Vec<String>, ran: Arc<Ran>) {
    let mut offset = 0;
    let mut status = 0;
    for action in actions {
        let (word, rest) = action.split_once(':').unwrap_or((&action, ""));
        match word {
            "out" | "answer" | "err" => {
                let stream = if word == "err" { Stream::Stderr } else { Stream::Stdout };
                let bytes = Bytes::from(rest.to_owned());
                let length = bytes.len() as u64;
                ran.tell(Output::Data { stream, offset, bytes });
                offset += length;
            }
            "write" => {
                let mut parts = rest.splitn(3, ':');
                let (mount, file, text) = (parts.next(), parts.next(), parts.next());
                let volume = spec.mounts.iter().find(|m| Some(m.path.as_str()) == mount).map(|m| m.volume.clone());
                if let (Some(volume), Some(file)) = (volume, file) {
                    fake.write(&volume, file, text.unwrap_or_default());
                }
            }
            "exit" => {
                status = rest.parse().unwrap_or(1);
                break;
            }
            "hang" | "flood" => {
                ran.floods.store(word == "flood", Ordering::Relaxed);
                ran.more.notify_waiters();
                ran.stopped.notified().await;
                status = 143;
                break;
            }
            "hold" => {
                *ran.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::Yes;
                tokio::select! {
                    () = ran.released.notified() => {}
                    () = ran.stopped.notified() => {}
                }
                status = match std::mem::take(&mut *ran.held.lock().unwrap_or_else(PoisonError::into_inner)) {
                    Held::Released(lost @ ..0) => {
                        return ran.tell(Output::Lost(format!("the container is gone ({lost})")));
                    }
                    Held::Released(status) => status,
                    Held::Yes | Held::No => 143,
                };
                break;
            }
            "lost" => return ran.tell(Output::Lost(rest.to_owned())),
            _ => {}
        }
    }
    ran.tell(Output::Exited(Exit::Status(status)));
}

impl Ran {
    fn hold(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> bool {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.last().is_some_and(|last| !matches!(last, Output::Data { .. }))
    }

    fn tell(&self, output: Output) {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).push(output);
        self.more.notify_waiters();
    }

    fn attach(self: &Arc<Self>, from: u64) -> Attached {
        let (sender, receiver) = mpsc::channel(64);
        let ran = self.clone();
        tokio::spawn(async move {
            let mut next = 0;
            loop {
                if ran.floods.load(Ordering::Relaxed) {
                    return flood(&sender, from).await;
                }
                let notified = ran.more.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                let fresh = ran.outputs.lock().unwrap_or_else(PoisonError::into_inner)[next..].to_vec();
                next += fresh.len();
                for output in fresh {
                    let end = matches!(output, Output::Exited(_) | Output::Lost(_));
                    if matches!(&output, Output::Data { offset, .. } if *offset < from) {
                        continue;
                    }
                    if sender.send(output).await.is_err() || end {
                        return;
                    }
                }
                notified.await;
            }
        });
        receiver
    }
}

/// Sends pieces until nobody takes them any more.
async fn flood(sender: &mpsc::Sender<Output>, from: u64) {
    const PIECE: &[u8] = &[b'y'; 64 << 10];
    let mut offset = from;
    while sender.send(Output::Data { stream: Stream::Stdout, offset, bytes: Bytes::from_static(PIECE) }).await.is_ok() {
        offset += PIECE.len() as u64;
    }
}

fn no_volume(volume: &VolumeHandle) -> Error {
    Error::NotFound(format!("no volume {volume}"))
}

#[async_trait]
impl Runtime for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn create_volume(&self, volume: &VolumeHandle, _team: &str, origin: &Origin) -> Result<()> {
        let mut state = self.state();
        if state.volumes.contains_key(volume) {
            return Ok(());
        }
        let files = match origin {
            Origin::Empty => Files::new(),
            Origin::CopyOf(parent) => state.volumes.get(parent).cloned().ok_or_else(|| no_volume(parent))?,
        };
        state.volumes.insert(volume.clone(), files);
        Ok(())
    }

    async fn holds(&self, volume: &VolumeHandle) -> Result<bool> {
        Ok(self.state().volumes.contains_key(volume))
    }

    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached> {
        let found = self.state().containers.get(container).cloned();
        if let Some(ran) = found {
            return Ok(ran.attach(0));
        }
        let ran = self.spawn(spec);
        let mut state = self.state();
        state.started.push((container.clone(), spec.clone()));
        state.containers.insert(container.clone(), ran.clone());
        Ok(ran.attach(0))
    }

    async fn attach(&self, container: &ContainerHandle, from: u64) -> Result<Attached> {
        let ran = self.state().containers.get(container).cloned();
        ran.map(|r| r.attach(from)).ok_or_else(|| Error::NotFound(format!("no container {container}")))
    }

    /// Echoes its input; programs called `no-such…` are not there.
    async fn exec(&self, container: &ContainerHandle, process: &Process) -> Result<Exec> {
        if !self.state().containers.contains_key(container) {
            return Err(Error::NotFound(format!("no container {container}")));
        }
        let (input, mut received) = mpsc::channel(8);
        let (send, output) = mpsc::channel(8);
        let missing = process.path.starts_with("no-such").then(|| Exit::NotStarted {
            message: format!("exec: {:?}: executable file not found in $PATH", process.path),
            not_found: true,
        });
        tokio::spawn(async move {
            let mut offset = 0;
            while missing.is_none() {
                match received.recv().await {
                    Some(Input::Data(bytes)) => {
                        let length = bytes.len() as u64;
                        let _ = send.send(Output::Data { stream: Stream::Stdout, offset, bytes }).await;
                        offset += length;
                    }
                    Some(Input::Resize(_)) => {}
                    Some(Input::Close) | None => break,
                }
            }
            let _ = send.send(Output::Exited(missing.unwrap_or(Exit::Status(0)))).await;
        });
        Ok(Exec { input, output })
    }

    async fn stop(&self, container: &ContainerHandle, _grace: Duration) -> Result<Stopped> {
        match self.state().containers.get(container) {
            Some(ran) if !ran.ended() => ran.stopped.notify_one(),
            _ => return Ok(Stopped::Before),
        }
        Ok(Stopped::Now)
    }

    async fn stream_in(&self, volume: &VolumeHandle, path: &str, mut tar: TarStream) -> Result<()> {
        let failed = |e: std::io::Error| Error::Failed(e.to_string());
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).await.map_err(failed)?;
        let mut state = self.state();
        let files = state.volumes.get_mut(volume).ok_or_else(|| no_volume(volume))?;
        for entry in tar::Archive::new(bytes.as_slice()).entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let name = entry.path().map_err(failed)?.display().to_string();
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut text).map_err(failed)?;
            files.insert(if path.is_empty() { name } else { format!("{path}/{name}") }, text);
        }
        Ok(())
    }

    async fn stream_out(&self, volume: &VolumeHandle, path: &str) -> Result<TarStream> {
        let state = self.state();
        let files = state.volumes.get(volume).ok_or_else(|| no_volume(volume))?;
        let mut archive = tar::Builder::new(Vec::new());
        let mut found = path.is_empty();
        for (name, text) in files {
            let inner = match name.strip_prefix(path) {
                Some("") => name.rsplit('/').next().unwrap_or(name),
                Some(rest) if path.is_empty() => rest,
                Some(rest) if rest.starts_with('/') => &rest[1..],
                _ => continue,
            };
            found = true;
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, inner, text.as_slice()).map_err(|e| Error::Failed(e.to_string()))?;
        }
        if !found {
            return Err(Error::NotFound(format!("no file {path} in volume {volume}")));
        }
        let bytes = archive.into_inner().map_err(|e| Error::Failed(e.to_string()))?;
        Ok(Box::pin(std::io::Cursor::new(bytes)))
    }

    fn local_path(&self, _volume: &VolumeHandle) -> Option<PathBuf> {
        None
    }

    async fn list(&self) -> Result<Listing> {
        let state = self.state();
        Ok(Listing {
            containers: state.containers.keys().cloned().collect(),
            volumes: state.volumes.keys().cloned().collect(),
        })
    }

    async fn remove_container(&self, container: &ContainerHandle) -> Result<()> {
        self.state().containers.remove(container);
        Ok(())
    }

    async fn remove_volume(&self, volume: &VolumeHandle) -> Result<()> {
        self.state().volumes.remove(volume);
        Ok(())
    }
}
