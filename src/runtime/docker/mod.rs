//! Steps as containers of a Docker engine, over its API alone, so that the engine may be on another host or the
//! server in a container itself.
//!
//! PID 1 of every container is our own binary, from a read-only volume that is filled once. It is told the step's
//! process over its standard input, frames and spools what the process writes, and stays when the process has ended
//! so that one can look around. After a restart of the server, `docker exec` of the same binary reads the spool.

mod archive;
mod attachment;
mod binary;
mod connection;
mod container;
mod hostname;
mod lease;
mod naming;
mod network;
mod process;
mod pulled;
mod registry;
mod remains;
mod rootfs;
mod strays;
mod tree;
mod turn;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore};

pub use self::strays::EngineFacts;

use self::archive::Archive;
use self::binary::Binary;
use self::connection::Connection;
use self::lease::Leases;
use self::naming::Naming;
use self::network::Networks;
use self::process::Processes;
use self::pulled::Pulled;
use self::registry::Registry;
use self::rootfs::Rootfs;
use self::volume::Volumes;
use super::extent;
use super::room::Watermark;
use super::{
    Attached, ContainerHandle, ContainerSpec, EngineImages, Error, Exec, Isolation, Listing, Origin, PrivilegedMode,
    Process, Result, Runtime, Stopped, TarStream, VolumeHandle,
};

/// Usually at most so many network namespaces wait or are lent.
pub const LEASES: usize = 8;

/// How to reach an engine and what to do there.
#[derive(Debug, Clone)]
pub struct Options {
    /// Marks what belongs to us. One process at a time uses an installation's id on an engine.
    pub installation: String,
    /// `unix:///path` or `tcp://host:port`; `DOCKER_HOST`, else the usual socket, where `None`.
    pub host: Option<String>,
    /// The engine's network for containers that may have one; a network for each team where `None`.
    pub network: Option<String>,
    /// The binary that is PID 1 in containers: our own, where `None`.
    pub binary: Option<PathBuf>,
    /// Containers that start at the same time, at most; twice the processors where `None`. More only wait for each
    /// other in the engine.
    pub starts: Option<usize>,
    /// Network namespaces that wait or are lent to steps, at most; see [`lease`]. Each step has one of its own at 0.
    pub leases: usize,
    /// The operator's word on networks, rights and bounds.
    pub isolation: Isolation,
    /// Below so much free space no image is pulled.
    pub watermark: Watermark,
}

impl Options {
    /// The defaults for an installation.
    pub fn new(installation: impl Into<String>) -> Self {
        Options {
            installation: installation.into(),
            host: None,
            network: None,
            binary: None,
            starts: None,
            leases: LEASES,
            isolation: Isolation::default(),
            watermark: Watermark::NONE,
        }
    }
}

/// The runtime over one Docker engine.
#[derive(Debug, Clone)]
pub struct Docker {
    connection: Arc<Connection>,
    archive: Arc<Archive>,
    volumes: Arc<Volumes>,
    rootfs: Arc<Rootfs>,
    processes: Arc<Processes>,
    registry: Arc<Registry>,
    networks: Arc<Networks>,
    leases: Arc<Leases>,
    swept: Arc<OnceCell<()>>,
}

impl Docker {
    /// Takes note of where the engine is; nothing is sent before the first use.
    pub fn connect(options: Options) -> Self {
        let naming = Naming::new(&options.installation);
        let connection = Arc::new(Connection::new(options.host));
        let archive = Arc::new(Archive::new(connection.clone(), naming.clone()));
        let volumes = Arc::new(Volumes::new(connection.clone(), naming.clone(), archive.clone()));
        let rootfs = Arc::new(Rootfs::new(connection.clone(), naming.clone(), archive.clone(), volumes.clone()));
        let path = options.binary.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let binary = Arc::new(Binary::new(connection.clone(), naming.clone(), archive.clone(), path));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let policy = options.isolation.network.clone();
        let networks = Arc::new(Networks::new(connection.clone(), naming.clone(), options.network, policy.clone()));
        let engine = (connection.clone(), naming.clone());
        let leases = Leases::new(engine, archive.clone(), binary.clone(), networks.clone(), policy, options.leases);
        let pulled = Arc::new(Pulled::new(connection.clone(), naming.clone()));
        let processes = Arc::new(Processes {
            connection: connection.clone(),
            naming: naming.clone(),
            archive: archive.clone(),
            volumes: volumes.clone(),
            rootfs: rootfs.clone(),
            pulled: pulled.clone(),
            binary,
            networks: networks.clone(),
            leases: leases.clone(),
            isolation: options.isolation,
            starts: Semaphore::new(options.starts.unwrap_or(2 * cores).max(1)),
            privileged_refused: false.into(),
            own_users: OnceCell::new(),
            turns: turn::Turns::default(),
        });
        let registry = Arc::new(Registry::new(connection.clone(), naming, pulled, options.watermark));
        Docker { connection, archive, volumes, rootfs, processes, registry, networks, leases, swept: Arc::default() }
    }

    /// The network that all steps share by the operator's word, around which there are no walls of ours.
    pub fn fixed_network(&self) -> Option<&str> {
        self.networks.fixed()
    }

    /// Whether any team's privileged steps get `/dev/fuse` and are to mount, by the operator's word.
    pub fn gives_fuse(&self) -> bool {
        let isolation = &self.processes.isolation;
        let mut modes = isolation.privileged_by_team.values().chain([&isolation.privileged]);
        modes.any(|mode| *mode == PrivilegedMode::FuseOnly)
    }

    /// Whether the engine answers within `patience`; the error says what was tried and what to do.
    pub async fn ping(&self, patience: Duration) -> Result<()> {
        self.connection.ping(patience).await
    }

    /// The networks of its teams.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Clears away, once, what a former server process left in the middle of its work.
    async fn sweep(&self) -> Result<()> {
        self.swept.get_or_try_init(|| self.archive.sweep()).await.map(drop)
    }
}

#[async_trait]
impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn create_volume(&self, volume: &VolumeHandle, team: &str, origin: &Origin) -> Result<()> {
        self.sweep().await?;
        self.volumes.create(volume, team, origin).await
    }

    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached> {
        self.sweep().await?;
        self.processes.start(container, spec).await
    }

    async fn holds(&self, volume: &VolumeHandle) -> Result<bool> {
        self.volumes.holds(volume).await
    }

    fn withheld(&self, spec: &ContainerSpec) -> Option<String> {
        self.processes.withheld(spec)
    }

    async fn attach(&self, container: &ContainerHandle, from: u64) -> Result<Attached> {
        self.processes.attach(container, from).await
    }

    async fn exec(&self, container: &ContainerHandle, process: &Process) -> Result<Exec> {
        self.processes.exec(container, process).await
    }

    async fn stop(&self, container: &ContainerHandle, grace: Duration) -> Result<Stopped> {
        self.processes.stop(container, grace).await
    }

    async fn stream_in(&self, volume: &VolumeHandle, path: &str, tar: TarStream) -> Result<()> {
        self.sweep().await?;
        self.archive.unpack(&self.volumes.existing(volume).await?, path, tar).await
    }

    async fn stream_out(&self, volume: &VolumeHandle, path: &str) -> Result<TarStream> {
        self.sweep().await?;
        self.archive.pack(&self.volumes.existing(volume).await?, path).await
    }

    fn local_path(&self, volume: &VolumeHandle) -> Option<PathBuf> {
        self.volumes.local_path(volume)
    }

    async fn list(&self) -> Result<Listing> {
        let (containers, volumes) = tokio::try_join!(self.processes.list(), self.volumes.list())?;
        Ok(Listing { containers, volumes })
    }

    async fn remove_container(&self, container: &ContainerHandle) -> Result<()> {
        self.processes.remove(container).await
    }

    async fn remove_volume(&self, volume: &VolumeHandle) -> Result<()> {
        self.volumes.remove(volume).await?;
        self.rootfs.remove(volume).await
    }

    async fn forget_output(&self, container: &ContainerHandle) -> Result<()> {
        self.processes.forget_output(container).await
    }

    async fn parts_of(&self, volume: &VolumeHandle) -> Result<Vec<String>> {
        self.volumes.parts(volume).await
    }

    async fn size_of(&self, volume: &VolumeHandle) -> Result<Option<u64>> {
        let Some(own) = self.volumes.parts(volume).await?.into_iter().next() else { return Ok(None) };
        self.size_of_part(&own).await.map(Some)
    }

    async fn written_by(&self, container: &ContainerHandle) -> Result<Option<u64>> {
        self.processes.written_by(container).await
    }

    async fn size_of_part(&self, part: &str) -> Result<u64> {
        let path = PathBuf::from(part);
        let size = tokio::task::spawn_blocking(move || extent::size(&path)).await.ok().flatten();
        size.ok_or_else(|| Error::NotFound(format!("{part} cannot be looked at")))
    }

    async fn disk(&self) -> Option<PathBuf> {
        let root = PathBuf::from(self.facts().await.ok()?.root);
        (self.connection.is_local() && root.exists()).then_some(root)
    }

    async fn tend(&self) {
        self.networks.tend();
    }

    async fn close(&self) {
        self.leases.close().await;
        self.networks.close().await;
    }

    fn engine_images(&self) -> Option<&dyn EngineImages> {
        Some(self.registry.as_ref())
    }
}
