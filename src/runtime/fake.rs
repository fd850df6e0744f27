//! A runtime for tests: keeps what it is told in memory and runs nothing.
//!
//! A container's first process says what [`Fake::script`] was given for its step, or ends well at once. A further
//! process echoes its input.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Attached, ContainerHandle, ContainerSpec, Error, Exec, Exit, Input, Listing, Origin, Output, Process, Result,
    Runtime, Stream, TarStream, VolumeHandle,
};

/// See the module's doc.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scripts: BTreeMap<String, (String, i32)>,
    containers: BTreeMap<ContainerHandle, ContainerSpec>,
    volumes: BTreeSet<VolumeHandle>,
}

impl Fake {
    /// Nothing exists.
    pub fn new() -> Fake {
        Fake::default()
    }

    /// Lets processes that are called `path` say `text` and end with `status`.
    pub fn script(&self, path: &str, text: &str, status: i32) {
        self.state().scripts.insert(path.to_owned(), (text.to_owned(), status));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, process: &Process, from: u64) -> Attached {
        let (text, status) = self.state().scripts.get(&process.path).cloned().unwrap_or_default();
        let (send, receive) = mpsc::channel(2);
        let at = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
        if at < text.len() {
            let bytes = Bytes::copy_from_slice(&text.as_bytes()[at..]);
            // The channel holds two, so neither send can fail.
            let _ = send.try_send(Output::Data { stream: Stream::Stdout, offset: from, bytes });
        }
        let _ = send.try_send(Output::Exited(Exit::Status(status)));
        receive
    }
}

#[async_trait]
impl Runtime for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn create_volume(&self, volume: &VolumeHandle, _team: &str, _origin: &Origin) -> Result<()> {
        self.state().volumes.insert(volume.clone());
        Ok(())
    }

    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached> {
        self.state().containers.entry(container.clone()).or_insert_with(|| spec.clone());
        self.attach(container, 0).await
    }

    async fn attach(&self, container: &ContainerHandle, from: u64) -> Result<Attached> {
        let spec = self.state().containers.get(container).cloned();
        let spec = spec.ok_or_else(|| Error::NotFound(format!("container {container} does not exist")))?;
        Ok(self.say(&spec.process, from))
    }

    async fn exec(&self, container: &ContainerHandle, process: &Process) -> Result<Exec> {
        if !self.state().containers.contains_key(container) {
            return Err(Error::NotFound(format!("container {container} does not exist")));
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

    async fn stop(&self, _container: &ContainerHandle, _grace: Duration) -> Result<()> {
        Ok(())
    }

    async fn stream_in(&self, _volume: &VolumeHandle, _path: &str, _tar: TarStream) -> Result<()> {
        Ok(())
    }

    async fn stream_out(&self, volume: &VolumeHandle, path: &str) -> Result<TarStream> {
        Err(Error::NotFound(format!("no {path:?} in volume {volume}")))
    }

    fn local_path(&self, _volume: &VolumeHandle) -> Option<PathBuf> {
        None
    }

    async fn list(&self) -> Result<Listing> {
        let state = self.state();
        Ok(Listing {
            containers: state.containers.keys().cloned().collect(),
            volumes: state.volumes.iter().cloned().collect(),
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
