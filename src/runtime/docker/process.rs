//! Containers and the processes in them: start, attach, exec, stop, remove.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerState, ContainerStateStatusEnum as Status, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    ListContainersOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OnceCell, Semaphore, mpsc};

use super::archive::Archive;
use super::attachment::{self, Beginning, Next, Raw, Reader};
use super::binary::Binary;
use super::connection::Connection;
use super::container::{self, Privilege, Surroundings};
use super::hostname;
use super::lease::{Leases, Lent};
use super::naming::{HANDLE, Naming};
use super::network::Networks;
use super::pulled::Pulled;
use super::remains;
use super::rootfs::Rootfs;
use super::turn::Turns;
use super::volume::Volumes;
use crate::runtime::network::link;
use crate::runtime::supervisor::frame::{self, Frame};
use crate::runtime::supervisor::pid1;
use crate::runtime::{
    self, Attached, ContainerHandle, ContainerSpec, Error, Exec, Image, Input, Isolation, Process, Result, Stopped,
};

/// Does something to a container from outside, where the engine is on this host: with its process and its id.
async fn from_outside(
    client: &bollard::Docker,
    name: &str,
    work: impl FnOnce(i64, &str) -> std::io::Result<()> + Send + 'static,
) -> std::result::Result<(), String> {
    let told = client.inspect_container(name, None::<InspectContainerOptions>).await.map_err(|e| e.to_string())?;
    let (Some(id), Some(pid)) = (told.id, told.state.and_then(|state| state.pid).filter(|pid| *pid > 0)) else {
        return Err("the container has no process".to_owned());
    };
    let done = tokio::task::spawn_blocking(move || work(pid, &id)).await;
    done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// How often a start begins anew when what was there turns out to be in the way.
const MOST_ATTEMPTS: u32 = 4;
/// How often, and how long apart, a container that runs and says nothing is looked at.
const MOST_LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The containers of one installation.
#[derive(Debug)]
pub struct Processes {
    pub(super) connection: Arc<Connection>,
    pub(super) naming: Naming,
    pub(super) archive: Arc<Archive>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) rootfs: Arc<Rootfs>,
    pub(super) pulled: Arc<Pulled>,
    pub(super) binary: Arc<Binary>,
    pub(super) networks: Arc<Networks>,
    pub(super) leases: Arc<Leases>,
    pub(super) isolation: Isolation,
    /// Hands out starts in the order they were asked for.
    pub(super) starts: Semaphore,
    /// The engine cannot give what it has not got itself; found out once.
    pub(super) privileged_refused: AtomicBool,
    /// See [`Processes::own_users`].
    pub(super) own_users: OnceCell<bool>,
    pub(super) turns: Turns,
}

/// What there is under a container's name.
enum Found {
    Nothing,
    /// Made, and its process certainly never started.
    Unused,
    Running,
    /// PID 1 is gone; the text says how.
    Dead(String),
}

/// What became of an attempt to start.
enum Attempt {
    Done(Attached),
    Exists,
    Again,
    /// Again, with a network of its own.
    Alone,
}

impl Processes {
    /// Finds the container and reads from its first byte, or makes and starts it.
    pub async fn start(self: &Arc<Self>, handle: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached> {
        let name = self.naming.container(handle)?;
        let _turn = self.turns.take(&handle.0).await;
        let mut borrows = borrows(spec, &self.isolation);
        for _ in 0..MOST_ATTEMPTS {
            match self.attempt(&name, handle, spec, borrows).await? {
                Attempt::Done(attached) => return Ok(attached),
                Attempt::Again => {}
                Attempt::Alone => borrows = false,
                Attempt::Exists => match self.find(&name).await? {
                    Found::Nothing => {}
                    Found::Unused => self.delete(&name).await?,
                    Found::Running => {
                        if let Some(attached) = self.resume(&name, 0).await? {
                            return Ok(attached);
                        }
                    }
                    Found::Dead(reason) => return Ok(remains::read(&self.connection, &name, 0, reason).await),
                },
            }
        }
        Err(Error::Failed(format!("container '{handle}' could not be started in {MOST_ATTEMPTS} attempts")))
    }

    /// Output from a byte on, of a container that was started.
    pub async fn attach(self: &Arc<Self>, handle: &ContainerHandle, from: u64) -> Result<Attached> {
        let name = self.naming.container(handle)?;
        match self.settled(handle, &name).await? {
            Found::Nothing | Found::Unused => Err(absent(handle)),
            Found::Dead(reason) => Ok(remains::read(&self.connection, &name, from, reason).await),
            Found::Running => self.resume(&name, from).await?.ok_or_else(|| absent(handle)),
        }
    }

    /// A further process.
    pub async fn exec(self: &Arc<Self>, handle: &ContainerHandle, process: &Process) -> Result<Exec> {
        let name = self.naming.container(handle)?;
        let (raw, mut stdin) = match self.run(&name, &["--exec"], true).await {
            Ok(io) => io,
            Err(error) => return Err(self.explain(handle, &name, error).await),
        };
        let (input, mut typed) = mpsc::channel(16);
        let first = Frame::Exec(Box::new(process.clone())).to_bytes();
        tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(bytes) = next {
                if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                    return;
                }
                next = typed.recv().await.map(|input| input_frame(input).to_bytes());
            }
            // The sender was dropped: nobody is there any more.
            let _ = stdin.write_all(&Frame::HangUp.to_bytes()).await;
            let _ = stdin.shutdown().await;
        });
        let processes = self.clone();
        let output = attachment::follow(Reader::new(raw, 0, Beginning::Spool), move |cut, _| {
            let (processes, name) = (processes.clone(), name.clone());
            async move {
                Next::Lost(match processes.find(&name).await {
                    Ok(Found::Running) => cut.explain("the connection to the process was lost".to_string()),
                    other => cut.explain(gone(other)),
                })
            }
        });
        Ok(Exec { input, output })
    }

    /// Ends the first process and all it started; returns when they are gone.
    pub async fn stop(&self, handle: &ContainerHandle, grace: Duration) -> Result<Stopped> {
        let name = self.naming.container(handle)?;
        match self.settled(handle, &name).await? {
            Found::Nothing | Found::Unused => return Err(absent(handle)),
            Found::Dead(_) => return Ok(Stopped::Before),
            Found::Running => {}
        }
        let error = match self.ask_to_stop(&name, grace).await {
            Ok(stopped) => return Ok(stopped),
            Err(error) => error,
        };
        if matches!(self.find(&name).await?, Found::Running) {
            // A container that is full of processes or out of memory takes no further one.
            tracing::warn!(container = name, %error, "the container cannot be asked to stop its process and is killed");
            let client = self.connection.client().await?;
            client
                .kill_container(&name, None::<KillContainerOptions>)
                .await
                .map_err(|e| self.connection.failure("kill the step's container", &e))?;
        }
        Ok(Stopped::Now)
    }

    /// Asks a finished container to give back the space of its output.
    pub async fn forget_output(&self, handle: &ContainerHandle) -> Result<()> {
        let name = self.naming.container(handle)?;
        self.leases.keep(&name);
        if !matches!(self.settled(handle, &name).await?, Found::Running) {
            return Ok(());
        }
        let (raw, mut stdin) = self.run(&name, &["--exec"], true).await?;
        let failed = |e: std::io::Error| Error::Failed(format!("the container's supervisor does not answer: {e}"));
        stdin.write_all(&Frame::Forget.to_bytes()).await.map_err(failed)?;
        stdin.flush().await.map_err(failed)?;
        attachment::answer(raw).await.map(drop).map_err(Error::Failed)
    }

    async fn ask_to_stop(&self, name: &str, grace: Duration) -> Result<Stopped> {
        let (raw, mut stdin) = self.run(name, &["--exec"], true).await?;
        let failed = |e: std::io::Error| Error::Failed(format!("the container's supervisor does not answer: {e}"));
        stdin.write_all(&Frame::Stop(grace).to_bytes()).await.map_err(failed)?;
        stdin.flush().await.map_err(failed)?;
        match attachment::answer(raw).await.map_err(Error::Failed)? {
            Frame::HadEnded => Ok(Stopped::Before),
            _ => Ok(Stopped::Now),
        }
    }

    /// Kills and removes a container; absent is fine.
    pub async fn remove(&self, handle: &ContainerHandle) -> Result<()> {
        let name = self.naming.container(handle)?;
        let _turn = self.turns.take(&handle.0).await;
        self.delete(&name).await
    }

    /// Every container a caller knows of.
    pub async fn list(&self) -> Result<Vec<ContainerHandle>> {
        let client = self.connection.client().await?;
        let options = ListContainersOptions { all: true, filters: Some(self.naming.filter()), ..Default::default() };
        let listed = client.list_containers(Some(options)).await;
        let listed = listed.map_err(|e| self.connection.failure("list containers", &e))?;
        let handle = |labels: Option<std::collections::HashMap<String, String>>| labels?.remove(HANDLE);
        Ok(listed.into_iter().filter_map(|container| handle(container.labels)).map(ContainerHandle).collect())
    }

    async fn attempt(
        self: &Arc<Self>,
        name: &str,
        handle: &ContainerHandle,
        spec: &ContainerSpec,
        borrows: bool,
    ) -> Result<Attempt> {
        let client = self.connection.client().await?;
        let privilege = self.privilege();
        let lent = if borrows { self.leases.take(&spec.team, name, &handle.0).await } else { None };
        let lease = lent.as_ref().map(|lent| lent.name.clone());
        let body = match self.body(handle, spec, privilege, lease.clone()).await {
            Ok(body) => body,
            Err(error) => {
                self.give_back(lent, name);
                return Err(error);
            }
        };
        let options = CreateContainerOptions { name: Some(name.to_string()), ..Default::default() };
        if let Err(error) = client.create_container(Some(options), body).await {
            let conflict = is_conflict(&error);
            let text = error.to_string();
            if let Some(lease) = lease.filter(|lease| text.contains(lease.as_str()) || text.contains("such container"))
            {
                self.leases.distrust(&lease);
                return Ok(Attempt::Alone);
            }
            self.give_back(lent, name);
            if conflict {
                return Ok(Attempt::Exists);
            }
            return match self.connection.failure("create the step's container", &error) {
                Error::NotFound(text) if text.contains("network") && self.networks.forget(&spec.team) => {
                    Ok(Attempt::Again)
                }
                Error::NotFound(_) if self.rootfs.forget_imported(&spec.image) => Ok(Attempt::Again),
                Error::NotFound(text) => Err(self.without_image(&spec.image, text)),
                other => Err(other),
            };
        }
        match self.launch(&client, name, (handle, spec), lease.is_some()).await {
            Ok(attached) => Ok(Attempt::Done(attached)),
            Err(error) => {
                let failure = self.connection.failure("start the step's container", &error);
                self.delete(name).await?;
                let text = failure.to_string();
                if let Some(lease) = lease {
                    tracing::debug!(lease, text, "a step could not start in the network that was kept ready");
                    self.leases.distrust(&lease);
                    return Ok(Attempt::Alone);
                }
                if spec.privileged && privilege == Privilege::Full && cannot_give_all(&text) {
                    tracing::info!(
                        reason = text,
                        "the engine cannot give all capabilities; privileged steps get all but SYS_RESOURCE"
                    );
                    self.privileged_refused.store(true, Ordering::Relaxed);
                    return Ok(Attempt::Again);
                }
                if text.contains("network") && text.contains("not found") && self.networks.forget(&spec.team) {
                    return Ok(Attempt::Again);
                }
                if text.contains(container::SUPERVISOR) && self.binary.forget().await {
                    return Ok(Attempt::Again);
                }
                Err(if let Error::NotFound(text) = failure { Error::Invalid(text) } else { failure })
            }
        }
    }

    /// See [`runtime::Runtime::withheld`].
    pub(super) fn withheld(&self, spec: &ContainerSpec) -> Option<String> {
        let by_engine = || {
            let all = spec.privileged && self.privilege() != Privilege::Full;
            all.then(|| "privileged: the Docker engine cannot give CAP_SYS_RESOURCE".to_owned())
        };
        let of_users = || {
            let known = self.own_users.get().is_some_and(|own| !own);
            let fuse = known && self.isolation.privilege(spec) == runtime::Privilege::Fuse;
            fuse.then(|| {
                format!(
                    "privileged: the operator of this server gives the team {} /dev/fuse and no mounts: this Docker engine \
                     has no user namespaces for that (it would have to be rootless, or run with --userns-remap)",
                    spec.team
                )
            })
        };
        of_users().or_else(|| self.isolation.withheld(spec)).or_else(by_engine)
    }

    /// Whether root in the engine's containers is somebody else on its host; asked once.
    pub(super) async fn own_users(&self) -> Result<bool> {
        let ask = async {
            let client = self.connection.client().await?;
            let info = client.info().await.map_err(|e| self.connection.failure("ask the engine about itself", &e))?;
            let options = info.security_options.unwrap_or_default();
            Ok(options.iter().any(|option| option.contains("rootless") || option.contains("userns")))
        };
        self.own_users.get_or_try_init(|| ask).await.copied()
    }

    /// Why a container cannot be made of an image that is not there.
    fn without_image(&self, image: &Image, text: String) -> Error {
        let Image::Engine(id) = image else { return Error::Invalid(text) };
        self.pulled.forget(id);
        Error::Invalid(format!(
            "{text}: somebody has removed it from the Docker engine since the build has fetched it (docker image prune?); \
             start the build again, which fetches it anew"
        ))
    }

    /// What was lent for an attempt that came to nothing, unless the container had it before.
    fn give_back(&self, lent: Option<Lent>, name: &str) {
        if lent.is_some_and(|lent| lent.fresh) {
            self.leases.give_back(name);
        }
    }

    fn privilege(&self) -> Privilege {
        if self.privileged_refused.load(Ordering::Relaxed) { Privilege::AllTheEngineHas } else { Privilege::Full }
    }

    async fn body(
        &self,
        handle: &ContainerHandle,
        spec: &ContainerSpec,
        privilege: Privilege,
        lease: Option<String>,
    ) -> Result<bollard::models::ContainerCreateBody> {
        let volumes = futures_util::future::try_join_all(spec.mounts.iter().map(|m| self.volumes.existing(&m.volume)));
        let (image, binary, volumes) =
            tokio::try_join!(self.rootfs.resolve(&spec.image), self.binary.volume(), volumes)?;
        for (index, path) in container::hidden_mount_points(spec) {
            self.archive.make_directory(&volumes[index], &path).await?;
        }
        // Also where it joins another: the walls are put up with it.
        let network = if spec.hermetic { None } else { self.networks.of(&spec.team).await? };
        let isolation = &self.isolation;
        let own_users = isolation.privilege(spec) == runtime::Privilege::Fuse && self.own_users().await?;
        let around = Surroundings {
            naming: &self.naming,
            image,
            volumes,
            binary,
            network,
            lease,
            privilege,
            own_users,
            isolation,
        };
        Ok(container::body(handle, spec, around))
    }

    /// Attaches first, so that not a byte is missed, then starts.
    async fn launch(
        self: &Arc<Self>,
        client: &bollard::Docker,
        name: &str,
        (handle, spec): (&ContainerHandle, &ContainerSpec),
        leased: bool,
    ) -> std::result::Result<Attached, bollard::errors::Error> {
        let options =
            AttachContainerOptions { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
        let attachment = client.attach_container(name, Some(options)).await?;
        let (mut stdin, told) = (attachment.input, frame::launch(&spec.process));
        let tell = async move {
            // The engine takes it when PID 1 reads; a failure shows in the output's end.
            if stdin.write_all(&told).await.is_ok() {
                let _ = stdin.flush().await;
            }
            let _ = stdin.shutdown().await;
        };
        let start = async {
            // The semaphore is never closed, so this cannot fail.
            let _permit = self.starts.acquire().await;
            client.start_container(name, None::<StartContainerOptions>).await
        };
        if !spec.hermetic && !leased {
            tokio::spawn(tell);
            start.await?;
        } else {
            start.await?;
            // Before PID 1 knows what to run.
            let own = handle.0.clone();
            let work = move |pid, id: &str| match leased {
                true => hostname::give(pid, id, own),
                false => link::lead_nowhere_of(pid, id),
            };
            if let Err(error) = from_outside(client, name, work).await {
                let instead = match leased {
                    true => "the step's host has the name of the container whose network it has",
                    false => "what a hermetic step sends is refused and not dropped",
                };
                tracing::debug!(%error, name, instead);
            }
            tokio::spawn(tell);
        }
        Ok(self.follow(name, Reader::new(attachment.output, 0, Beginning::BeforeStart)))
    }

    /// Output of a container that runs. Nothing if its process turns out never to have started: a server that dies
    /// while it tells PID 1 the process leaves a container that runs for a moment and then ends.
    async fn resume(self: &Arc<Self>, name: &str, from: u64) -> Result<Option<Attached>> {
        let mut reason = String::new();
        for _ in 0..MOST_LOOKS {
            match self.run(name, &["--read", &from.to_string()], false).await {
                // It has written, so it was started; and from here on it may be silent for long.
                Ok((raw, _)) if from > 0 => {
                    return Ok(Some(self.follow(name, Reader::new(raw, from, Beginning::Spool))));
                }
                Ok((raw, _)) => match Reader::begin(raw, from).await {
                    Ok(reader) => return Ok(Some(self.follow(name, reader))),
                    Err(text) => reason = text,
                },
                Err(error) => reason = error.to_string(),
            }
            match self.find(name).await? {
                Found::Running => self.await_end(name, LOOK_AGAIN).await?,
                Found::Nothing | Found::Unused => return Ok(None),
                Found::Dead(reason) => return Ok(Some(remains::read(&self.connection, name, from, reason).await)),
            }
        }
        Err(Error::Failed(reason))
    }

    /// Returns when the container has ended, or after a while.
    async fn await_end(&self, name: &str, longest: Duration) -> Result<()> {
        let client = self.connection.client().await?;
        let mut waiting = Box::pin(client.wait_container(name, None::<WaitContainerOptions>));
        // How it ended is looked at by the caller.
        let _ = tokio::time::timeout(longest, waiting.next()).await;
        Ok(())
    }

    fn follow(self: &Arc<Self>, name: &str, reader: Reader) -> Attached {
        let (processes, name) = (self.clone(), name.to_string());
        attachment::follow(reader, move |cut, offset| {
            let (processes, name) = (processes.clone(), name.clone());
            async move {
                match processes.find(&name).await {
                    Ok(Found::Running) => {}
                    Ok(Found::Dead(reason)) => {
                        let reason = cut.explain(reason);
                        return Next::Rest(remains::read(&processes.connection, &name, offset, reason).await);
                    }
                    other => return Next::Lost(cut.explain(gone(other))),
                }
                match processes.run(&name, &["--read", &offset.to_string()], false).await {
                    Ok((raw, _)) => Next::Again(raw),
                    Err(error) => Next::Lost(error.to_string()),
                }
            }
        })
    }

    /// Runs our binary in the container, over `docker exec`.
    async fn run(&self, name: &str, arguments: &[&str], stdin: bool) -> Result<(Raw, Pin<Box<dyn AsyncWrite + Send>>)> {
        let client = self.connection.client().await?;
        let command = [container::SUPERVISOR, "supervise"].iter().chain(arguments).map(|part| (*part).to_string());
        let config = ExecConfig {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some("0:0".to_string()),
            cmd: Some(command.collect()),
            ..Default::default()
        };
        let failure = |e: &bollard::errors::Error| self.connection.failure("enter the container", e);
        let made = client.create_exec(name, config).await.map_err(|e| failure(&e))?;
        let options = StartExecOptions { output_capacity: Some(64 * 1024), ..Default::default() };
        match client.start_exec(&made.id, Some(options)).await.map_err(|e| failure(&e))? {
            StartExecResults::Attached { output, input } => Ok((output, input)),
            StartExecResults::Detached => Err(Error::Failed("the Docker engine did not attach to an exec".to_string())),
        }
    }

    async fn explain(&self, handle: &ContainerHandle, name: &str, error: Error) -> Error {
        match self.find(name).await {
            Ok(Found::Nothing | Found::Unused) => absent(handle),
            Ok(Found::Dead(reason)) => Error::Failed(format!(
                "this step's container does not run any more, so nobody can enter it: {reason}; run the build again to \
                 have one that stays"
            )),
            _ => error,
        }
    }

    /// What there is when nobody is about to start or remove it.
    async fn settled(&self, handle: &ContainerHandle, name: &str) -> Result<Found> {
        let _turn = self.turns.take(&handle.0).await;
        self.find(name).await
    }

    async fn find(&self, name: &str) -> Result<Found> {
        let client = self.connection.client().await?;
        match client.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(container) => Ok(found(container.state.unwrap_or_default())),
            Err(error) => match self.connection.failure("look for a container", &error) {
                Error::NotFound(_) => Ok(Found::Nothing),
                other => Err(other),
            },
        }
    }

    /// Bytes of the layer that a container writes to; `None` if there is no such container.
    pub async fn written_by(&self, handle: &ContainerHandle) -> Result<Option<u64>> {
        let client = self.connection.client().await?;
        let options = InspectContainerOptions { size: true };
        match client.inspect_container(&self.naming.container(handle)?, Some(options)).await {
            Ok(container) => Ok(container.size_rw.and_then(|bytes| u64::try_from(bytes).ok())),
            Err(error) => match self.connection.failure("look for a container", &error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Removes a container, and takes back what it had borrowed.
    async fn delete(&self, name: &str) -> Result<()> {
        self.remove_from_engine(name).await?;
        self.leases.give_back(name);
        Ok(())
    }

    async fn remove_from_engine(&self, name: &str) -> Result<()> {
        let client = self.connection.client().await?;
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        let Err(error) = client.remove_container(name, Some(options)).await else { return Ok(()) };
        if is_conflict(&error) {
            // Someone else is at it; his work is ours.
            let options = WaitContainerOptions { condition: "removed".to_string() };
            let mut waiting = Box::pin(client.wait_container(name, Some(options)));
            while let Some(Ok(_)) = waiting.next().await {}
            return match self.find(name).await? {
                Found::Nothing => Ok(()),
                _ => Err(self.connection.failure("remove a container", &error)),
            };
        }
        match self.connection.failure("remove a container", &error) {
            Error::NotFound(_) => Ok(()),
            other => Err(other),
        }
    }
}

/// Whether a step may have a network namespace that others of its team had before: it must not be able to change it.
/// Containers of checks stay for minutes after a second's work, and would keep what they have for as long.
fn borrows(spec: &ContainerSpec, isolation: &Isolation) -> bool {
    let check = spec.labels.get("type").is_some_and(|kind| kind == "check");
    !spec.hermetic && !check && isolation.privilege(spec) == runtime::Privilege::Usual
}

fn found(state: ContainerState) -> Found {
    match state.status {
        Some(Status::CREATED) => Found::Unused,
        Some(Status::EXITED) if state.exit_code == Some(i64::from(pid1::NEVER_LAUNCHED)) => Found::Unused,
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING) => Found::Running,
        Some(Status::REMOVING) => Found::Dead("the container is being removed from the Docker engine".to_string()),
        _ => {
            let memory = if state.oom_killed == Some(true) { ", out of memory" } else { "" };
            let status = state.exit_code.unwrap_or_default();
            let error = state.error.filter(|error| !error.is_empty()).map(|error| format!(": {error}"));
            Found::Dead(format!(
                "the Docker engine ended the container (status {status}{memory}){}",
                error.unwrap_or_default()
            ))
        }
    }
}

fn input_frame(input: Input) -> Frame {
    match input {
        Input::Data(bytes) => Frame::Input(bytes),
        Input::Resize(size) => Frame::Resize(size),
        Input::Close => Frame::Close,
    }
}

/// Why there will be no more of a container that does not run.
fn gone(found: Result<Found>) -> String {
    match found {
        Ok(Found::Nothing) => "the container was removed from the Docker engine".to_string(),
        Ok(Found::Dead(reason)) => reason,
        Ok(Found::Unused | Found::Running) => "the container did not run".to_string(),
        Err(Error::Unavailable(text)) => format!("the connection to the Docker engine was lost: {text}"),
        Err(error) => error.to_string(),
    }
}

fn absent(handle: &ContainerHandle) -> Error {
    Error::NotFound(format!(
        "container '{handle}' is not on the Docker engine: it never ran, has been collected, or somebody has removed it; run \
         the build again to have one"
    ))
}

fn is_conflict(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 409, .. })
}

/// What engines say that lack a capability themselves, as in a container or a small virtual machine.
fn cannot_give_all(text: &str) -> bool {
    ["unable to apply caps", "unable to apply bounding set", "capset", "operation not permitted"]
        .iter()
        .any(|sign| text.to_lowercase().contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart_by_whether_the_process_ran() {
        let state = |status, exit_code, oom_killed| ContainerState {
            status: Some(status),
            exit_code: Some(exit_code),
            oom_killed: Some(oom_killed),
            ..Default::default()
        };
        assert!(matches!(found(state(Status::CREATED, 0, false)), Found::Unused));
        assert!(matches!(found(state(Status::EXITED, i64::from(pid1::NEVER_LAUNCHED), false)), Found::Unused));
        assert!(matches!(found(state(Status::RUNNING, 0, false)), Found::Running));
        let Found::Dead(text) = found(state(Status::EXITED, 137, true)) else { panic!("not dead") };
        assert!(text.contains("status 137, out of memory"), "{text}");
    }
}
