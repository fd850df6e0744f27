//! Containers of our own making: namespaces, an overlay root and a supervisor each; no daemon.
//!
//! Own code over `nix` and not libcontainer, whose start costs several milliseconds and several processes, and which
//! would not make our supervisor process 1.
//!
//! The server itself never unshares or forks: it starts `whistlestop supervise …` and speaks to it over a socket.
//! What is on disk below the state directory, and who answers on those sockets, is all there is to know; so a new
//! [`Embedded`] on the same directory goes on where another left off.

mod archive;
mod blueprint;
mod cgroup;
mod changed;
mod confine;
mod container;
mod detour;
mod filter;
pub(super) mod init;
mod layer;
mod layers;
mod pack;
mod probe;
mod rootfs;
mod strays;
mod tree;
mod volume;

pub(super) use archive::run as run_archive;
pub(super) use probe::run as run_probe;

pub use blueprint::NATIVE_EXE;
pub use probe::Found;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use self::archive::Job;
use self::blueprint::{Blueprint, Bounds, Layers, Names, Network, Placed, Root};
use self::container::{Directory, LOST, PATIENCE};
use self::volume::{Created, Volumes};
use super::capability;
use super::descriptors;
use super::extent;
use super::network::{Leases, short};
use super::room::Watermark;
use super::supervisor::frame::Frame;
use super::supervisor::link::{self, Frames};
use super::{
    Attached, ContainerHandle, ContainerSpec, Error, Exec, Image, ImageLayers, Isolation, Listing, Origin, Privilege,
    Process, Result, Runtime, Stopped, TarStream, VolumeHandle,
};

/// Files and directories of the host that no step may see, besides those an operator names.
const MASKED: &[&str] = &[
    "/boot",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/krb5.keytab",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/wireguard",
    "/lost+found",
    "/root/.ssh",
    "/run",
    "/var/backups",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/private",
    "/var/log",
    "/var/mail",
    "/var/spool",
];

/// Where people keep files: seen only by native types, where the operator allows repositories on this host.
const PEOPLES: &[&str] = &["/home", "/media", "/mnt", "/root", "/srv", "/tmp", "/var/tmp"];

/// How an [`Embedded`] is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether steps may run on [`Image::Host`].
    pub allow_host_rootfs: bool,
    /// Our own binary, whose `supervise` subcommand is the supervisor.
    pub self_exe: PathBuf,
    /// Whether native types may use repositories anywhere on this host.
    pub allow_local: bool,
    /// More of the host that must not be seen; the state directory always belongs to it.
    pub masked: Vec<PathBuf>,
    /// The operator's word on networks, rights and bounds.
    pub isolation: Isolation,
    /// What an image may unpack to, with all its layers.
    pub most_image_bytes: u64,
    /// Below so much free space no image is unpacked.
    pub watermark: Watermark,
}

/// The runtime that needs nothing but the kernel.
pub struct Embedded {
    state: PathBuf,
    options: Options,
    volumes: OnceLock<Volumes>,
    leases: Arc<Leases>,
    /// Whether no other process uses the directory.
    alone: bool,
    /// Layers that must not be collected now.
    holds: layers::Holds,
    /// Who is changing which container or volume.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

fn failed(what: &str, handle: &impl std::fmt::Display) -> impl Fn(io::Error) -> Error {
    let what = format!("cannot {what} {handle}");
    move |e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(format!("{what}: {e}")),
        _ => Error::Failed(format!("{what}: {e}")),
    }
}

/// How the names of layers begin among the parts of a volume.
const LAYER: &str = "layer ";

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

impl Embedded {
    /// On this directory, which is made when it is first needed. Touches nothing of the system yet.
    pub fn new(state: PathBuf, options: Options) -> Result<Embedded> {
        let state = std::path::absolute(&state).map_err(failed("use", &state.display()))?;
        let leases = Leases::new(options.isolation.network.clone(), &state, &options.self_exe);
        Ok(Embedded {
            state,
            options,
            alone: true,
            volumes: OnceLock::new(),
            leases,
            holds: layers::Holds::default(),
            busy: Mutex::default(),
        })
    }

    /// As [`Embedded::new`], beside a server that may use the directory: what looks half made may be its work.
    pub fn beside(state: PathBuf, options: Options) -> Result<Embedded> {
        Ok(Embedded { alone: false, ..Embedded::new(state, options)? })
    }

    /// Whether its directory (or where it will be made) lies on an overlay, where volumes are copies and not layers.
    pub fn on_overlay(&self) -> bool {
        self.state.ancestors().find(|path| path.exists()).is_some_and(rootfs::on_overlay)
    }

    /// The networks of its containers.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    fn volumes(&self) -> Result<&Volumes> {
        if let Some(volumes) = self.volumes.get() {
            return Ok(volumes);
        }
        // Opening twice at once would sweep away what the other has begun.
        let _one = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if self.volumes.get().is_none() {
            let opened = self.prepare().map_err(failed("use", &self.state.display()))?;
            self.volumes.set(opened).ok();
        }
        self.volumes.get().ok_or_else(|| Error::Failed("volumes are not open".into()))
    }

    fn prepare(&self) -> io::Result<Volumes> {
        use std::os::unix::fs::DirBuilderExt;
        // Volumes hold files of any owner and mode; only this directory keeps the host's other users out.
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.state)?;
        std::fs::create_dir_all(self.state.join("containers"))?;
        std::fs::create_dir_all(self.staging())?;
        std::fs::create_dir_all(self.layers_dir())?;
        if self.alone {
            layers::sweep(&self.layers_dir())?;
        }
        Volumes::open(self.state.join("volumes"), self.layers_dir(), self.alone)
    }

    /// The cgroup that those of all its containers are in.
    fn parent(&self) -> String {
        format!("whistlestop-{}", short(&self.state.display().to_string()))
    }

    fn staging(&self) -> PathBuf {
        self.state.join("staging")
    }

    fn directory(&self, container: &ContainerHandle) -> Directory {
        Directory(self.state.join("containers").join(&container.0))
    }

    /// Waits until nobody else changes what `name` names.
    async fn turn(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(name).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// As [`Runtime::start`], for our own binary: native resource types. They run on the host's files whatever the
    /// options say, unless the specification names a directory. The binary is found at [`NATIVE_EXE`], the network is the
    /// host's. What they write to the host's files is thrown away, but for what is in the directories `changes`.
    pub async fn start_native(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        changes: &[PathBuf],
    ) -> Result<Attached> {
        let people = self.options.allow_local;
        // First, since it makes the state directory: what is not there yet could not be covered.
        let usual = self.blueprint(container, spec, true)?;
        let blueprint = Blueprint {
            root: match &spec.image {
                Image::Directory(path) => Root::Directory(path.clone()),
                _ => Root::Host { masked: self.masked(people) },
            },
            changes: changed::allowed(changes, &self.masked(people), &spec.process.dir)?,
            native_exe: Some(self.options.self_exe.clone()),
            ..usual
        };
        self.start_with(container, blueprint, None).await
    }

    fn masked(&self, people: bool) -> Vec<PathBuf> {
        let mut masked: Vec<PathBuf> = MASKED.iter().map(PathBuf::from).collect();
        if !people {
            masked.extend(PEOPLES.iter().map(PathBuf::from));
        }
        masked.push(self.state.clone());
        masked.extend(self.options.masked.iter().cloned());
        masked
    }

    fn blueprint(&self, container: &ContainerHandle, spec: &ContainerSpec, native: bool) -> Result<Blueprint> {
        let volumes = self.volumes()?;
        let isolation = &self.options.isolation;
        let root = match &spec.image {
            Image::Volume { volume, path } => {
                let below = if path.is_empty() { "rootfs".to_owned() } else { format!("{path}/rootfs") };
                Root::Volume(volumes.layers(volume)?, below)
            }
            Image::Directory(path) => Root::Directory(path.clone()),
            Image::Host if native || self.options.allow_host_rootfs => Root::Host { masked: self.masked(false) },
            Image::HostWithScripts(_) if self.options.allow_host_rootfs => Root::Host { masked: self.masked(false) },
            Image::Host | Image::HostWithScripts(_) => {
                return Err(Error::Invalid(
                    "the operator does not allow steps on the host's own files (--allow-host-rootfs)".into(),
                ));
            }
            Image::Engine(name) => {
                return Err(Error::Invalid(format!("image {name} is in a Docker engine, which this runtime has not")));
            }
        };
        let mut mounts = Vec::with_capacity(spec.mounts.len());
        for mount in &spec.mounts {
            let layers = volumes.layers(&mount.volume)?;
            mounts.push(Placed { layers, path: mount.path.clone(), read_only: mount.read_only });
        }
        if let Image::HostWithScripts(volume) = &spec.image {
            mounts.push(scripts(volume, &volumes.layers(volume)?)?);
        }
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Blueprint {
            staging: self.staging(),
            names: Names { resolv: String::new(), hosts: String::new() },
            hostname: container.0.chars().take(64).collect(),
            root,
            mounts,
            privilege: isolation.privilege(spec),
            no_new_privileges: isolation.no_new_privileges,
            network: if spec.hermetic { Network::Loopback } else { Network::Host },
            bounds: Bounds {
                limits: isolation.limits(spec),
                processes: isolation.processes,
                open_files: isolation.open_files,
                files_before: descriptors::before(),
                output: isolation.output,
                parent: self.parent(),
            },
            changes: Vec::new(),
            native_exe: None,
            process: spec.process.clone(),
        })
    }

    /// Makes what a blueprint says. A team says that the container gets a network of its own if it can.
    async fn start_with(
        &self,
        container: &ContainerHandle,
        blueprint: Blueprint,
        team: Option<&str>,
    ) -> Result<Attached> {
        let _turn = self.turn(format!("container {container}")).await;
        let directory = self.directory(container);
        let failed = failed("start container", container);
        let mut stream = directory.connect().await.map_err(&failed)?;
        if stream.is_none() {
            if directory.may_have_started() {
                return Ok(directory.replay(0));
            }
            let (making, exe, leases) = (directory.clone(), self.options.self_exe.clone(), self.leases.clone());
            let (name, team) = (container.0.clone(), team.map(str::to_owned));
            blocking(move || {
                let (blueprint, namespace) = connected(blueprint, &leases, &name, team.as_deref())?;
                making.launch(&exe, &blueprint, namespace)
            })
            .await
            .map_err(&failed)?;
            stream = directory.connect().await.map_err(&failed)?;
        }
        let Some(mut stream) = stream else { return Err(Error::Failed(LOST.into())) };
        // Should it be gone by now, the next line finds out.
        send(&mut stream, &Frame::Attach(0)).await.ok();
        let mut frames = Frames::new(stream);
        match frames.next().await {
            Ok(Some(Frame::Lost(text))) if !directory.may_have_started() => {
                blocking(move || directory.remove()).await.map_err(&failed)?;
                Err(Error::Failed(text))
            }
            Ok(first @ Some(_)) => Ok(directory.follow(frames, first, 0)),
            _ if directory.may_have_started() => Ok(directory.replay(0)),
            _ => Err(Error::Failed(format!("cannot start container {container}: its supervisor ended at once"))),
        }
    }

    fn job(&self, volume: &VolumeHandle, path: &str, unpack: bool) -> Result<Job> {
        let layers = self.volumes()?.layers(volume)?;
        Ok(Job { layers, staging: self.staging(), path: path.to_owned(), unpack, layer: None })
    }

    /// Fills a new volume with a copy of its parent, where layers cannot be had.
    async fn copy(&self, volume: &VolumeHandle, origin: &Origin) -> Result<()> {
        let Origin::CopyOf(parent) = origin else { return Ok(()) };
        let tar = archive::pack_with(&self.options.self_exe, &self.job(parent, "", false)?).await?;
        let layers = self.volumes()?.draft_layers(volume);
        let job = Job { layers, staging: self.staging(), path: String::new(), unpack: true, layer: None };
        archive::unpack_with(&self.options.self_exe, &job, tar).await?;
        self.volumes()?.publish(volume)
    }
}

/// The blueprint with its network: a lease for a team's step, if that can be had.
fn connected(
    mut blueprint: Blueprint,
    leases: &Arc<Leases>,
    name: &str,
    team: Option<&str>,
) -> io::Result<(Blueprint, Option<OwnedFd>)> {
    let wanted = team.filter(|_| blueprint.network == Network::Host);
    let refused = |why: String| {
        io::Error::other(format!("--step-network own: this host cannot give steps a network of their own: {why}"))
    };
    let mut namespace = None;
    if let Some(team) = wanted
        && leases.ready().map_err(refused)?
    {
        let (descriptor, address) = leases.take(name, team, blueprint.privilege != Privilege::Usual)?;
        blueprint.network = Network::Leased(address);
        namespace = Some(descriptor);
    }
    let address = match blueprint.network {
        Network::Leased(address) => Some(address),
        _ => None,
    };
    blueprint.names = Names {
        resolv: leases.policy().resolv(address.is_some()),
        hosts: leases.policy().hosts(&blueprint.hostname, address),
    };
    Ok((blueprint, namespace))
}

async fn send(stream: &mut tokio::net::UnixStream, frame: &Frame) -> io::Result<()> {
    tokio::io::AsyncWriteExt::write_all(stream, &frame.to_bytes()).await
}

/// The scripts of a type that mirrors itself, for `/opt/resource`. No component may be a link: it would be followed
/// outside of the volume.
fn scripts(volume: &VolumeHandle, layers: &Layers) -> Result<Placed> {
    let mut path = match (&layers.upper, layers.lower.as_slice()) {
        (None, [only]) => only.clone(),
        _ => return Err(Error::Invalid(format!("volume {volume} was changed since it was fetched: it is no image"))),
    };
    for part in ["rootfs", "opt", "resource"] {
        path.push(part);
        if !path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            return Err(Error::Invalid(format!(
                "volume {volume} is no image of a resource type: no opt/resource in it"
            )));
        }
    }
    let layers = Layers { upper: None, lower: vec![path] };
    Ok(Placed { layers, path: "/opt/resource".to_owned(), read_only: true })
}

fn no_container(container: &ContainerHandle) -> Error {
    Error::NotFound(format!("there is no container {container}"))
}

#[async_trait]
impl Runtime for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn create_volume(&self, volume: &VolumeHandle, team: &str, origin: &Origin) -> Result<()> {
        let _turn = self.turn(format!("volume {volume}")).await;
        match self.volumes()?.create(volume, team, origin)? {
            Created::Done => Ok(()),
            Created::Copy => self.copy(volume, origin).await,
        }
    }

    async fn holds(&self, volume: &VolumeHandle) -> Result<bool> {
        let layers = match self.volumes()?.layers(volume) {
            Ok(layers) => layers,
            Err(Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let upper = layers.upper.map(|(files, _)| files);
        Ok(upper.iter().chain(&layers.lower).all(|directory| directory.is_dir()))
    }

    fn withheld(&self, spec: &ContainerSpec) -> Option<String> {
        let isolation = &self.options.isolation;
        let rights = match isolation.privilege(spec) {
            Privilege::All => capability::shortfall(),
            Privilege::Fuse => isolation.withheld(spec).map(capability::without_device),
            Privilege::Usual => isolation.withheld(spec),
        };
        let told: Vec<String> = rights.into_iter().chain(cgroup::without_effect(&isolation.limits(spec))).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached> {
        let blueprint = self.blueprint(container, spec, false)?;
        self.start_with(container, blueprint, Some(&spec.team)).await
    }

    async fn attach(&self, container: &ContainerHandle, from: u64) -> Result<Attached> {
        let directory = self.directory(container);
        let failed = failed("attach to container", container);
        match directory.connect().await.map_err(&failed)? {
            Some(mut stream) => {
                send(&mut stream, &Frame::Attach(from)).await.ok();
                Ok(directory.follow(Frames::new(stream), None, from))
            }
            None if directory.may_have_started() => Ok(directory.replay(from)),
            None => Err(no_container(container)),
        }
    }

    async fn exec(&self, container: &ContainerHandle, process: &Process) -> Result<Exec> {
        let directory = self.directory(container);
        if directory.changes_the_host() {
            return Err(Error::Invalid(
                "this step pushed to a repository on the server's own machine, whose files it can change: nobody can \
                 enter its container. To look at what it was given, hijack a task with the same inputs"
                    .into(),
            ));
        }
        if directory.on_the_hosts_files() && !self.options.allow_host_rootfs {
            return Err(Error::Invalid(
                "this step ran in the server's own program, on the server's own files: there is no container of an image \
                 to enter. To look at what it fetched, hijack a task that has it as an input; an operator can allow this \
                 with --allow-host-rootfs"
                    .into(),
            ));
        }
        match directory.connect().await.map_err(failed("enter container", container))? {
            Some(stream) => {
                let (reader, writer) = stream.into_split();
                Ok(link::exec(reader, writer, process, LOST.to_owned()))
            }
            None if directory.exists() => Err(Error::Failed(format!("cannot enter container {container}: {LOST}"))),
            None => Err(no_container(container)),
        }
    }

    async fn stop(&self, container: &ContainerHandle, grace: Duration) -> Result<Stopped> {
        let directory = self.directory(container);
        let failed = failed("stop container", container);
        let Some(stream) = directory.connect().await.map_err(&failed)? else { return Ok(Stopped::Before) };
        let asked = link::ask(stream, Frame::Stop(grace));
        match tokio::time::timeout(grace + PATIENCE, asked).await {
            Ok(Ok(Frame::HadEnded)) => return Ok(Stopped::Before),
            Ok(Ok(_)) => return Ok(Stopped::Now),
            Ok(Err(_)) | Err(_) => {}
        }
        blocking(move || directory.kill()).await.map_err(&failed)?;
        Ok(Stopped::Now)
    }

    async fn stream_in(&self, volume: &VolumeHandle, path: &str, tar: TarStream) -> Result<()> {
        archive::unpack_with(&self.options.self_exe, &self.job(volume, path, true)?, tar).await
    }

    async fn stream_out(&self, volume: &VolumeHandle, path: &str) -> Result<TarStream> {
        archive::pack_with(&self.options.self_exe, &self.job(volume, path, false)?).await
    }

    fn local_path(&self, volume: &VolumeHandle) -> Option<PathBuf> {
        let layers = self.volumes().ok()?.layers(volume).ok()?;
        match layers.lower.as_slice() {
            [only] if layers.upper.is_none() => Some(only.clone()),
            _ => None,
        }
    }

    async fn forget_output(&self, container: &ContainerHandle) -> Result<()> {
        let directory = self.directory(container);
        let failed = failed("give back the output of container", container);
        match directory.connect().await.map_err(&failed)? {
            Some(stream) => link::ask(stream, Frame::Forget).await.map(drop).map_err(&failed),
            None => blocking(move || directory.forget_output()).await.map_err(&failed),
        }
    }

    async fn parts_of(&self, volume: &VolumeHandle) -> Result<Vec<String>> {
        let (directories, layers) = match self.volumes()?.parts(volume) {
            Err(Error::NotFound(_)) => return Ok(Vec::new()),
            parts => parts?,
        };
        let directories = directories.into_iter().map(|directory| directory.display().to_string());
        Ok(directories.chain(layers.into_iter().map(|layer| format!("{LAYER}{layer}"))).collect())
    }

    async fn size_of(&self, volume: &VolumeHandle) -> Result<Option<u64>> {
        let path = self.volumes()?.path(volume);
        Ok(blocking(move || extent::size(&path)).await)
    }

    async fn size_of_part(&self, part: &str) -> Result<u64> {
        if let Some(layer) = part.strip_prefix(LAYER) {
            return self.layer_bytes(layer).ok_or_else(|| Error::NotFound(format!("there is no {part}")));
        }
        let path = PathBuf::from(part);
        let size = blocking(move || extent::size(&path)).await;
        size.ok_or_else(|| Error::NotFound(format!("{part} cannot be looked at")))
    }

    async fn written_by(&self, container: &ContainerHandle) -> Result<Option<u64>> {
        let directory = self.directory(container);
        Ok(blocking(move || extent::size(&directory.0)).await)
    }

    async fn tend(&self) {
        let leases = self.leases.clone();
        blocking(move || leases.tend()).await;
    }

    async fn close(&self) {
        let leases = self.leases.clone();
        blocking(move || leases.close()).await;
    }

    async fn list(&self) -> Result<Listing> {
        let state = self.state.display();
        let failed = failed("list", &state);
        let volumes = self.volumes()?.list().map_err(&failed)?;
        let containers = volume::names(&self.state.join("containers")).map_err(&failed)?;
        Ok(Listing { containers: containers.into_iter().map(ContainerHandle).collect(), volumes })
    }

    async fn remove_container(&self, container: &ContainerHandle) -> Result<()> {
        let _turn = self.turn(format!("container {container}")).await;
        let (directory, leases, name) = (self.directory(container), self.leases.clone(), container.0.clone());
        let removed = blocking(move || directory.remove().inspect(|()| leases.give_back(&name))).await;
        removed.map_err(failed("remove container", container))
    }

    async fn remove_volume(&self, volume: &VolumeHandle) -> Result<()> {
        let _turn = self.turn(format!("volume {volume}")).await;
        let (volumes, volume) = (self.volumes()?.clone(), volume.clone());
        let was_image = volumes.is_image(&volume);
        blocking(move || volumes.remove(&volume)).await?;
        if was_image { self.collect_layers().await } else { Ok(()) }
    }

    fn image_layers(&self) -> Option<&dyn ImageLayers> {
        Some(self)
    }
}
