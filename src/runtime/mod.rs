//! Where steps run: volumes and containers behind one trait.
//!
//! Call order for one step: `create_volume` for each mount, `start` (which finds or creates), read the output to
//! its end, `remove_container`, later `remove_volume`. The caller chooses handles and records them in the store
//! *before* it calls, so nothing is ever made that nobody knows of.
//!
//! Every method is safe to repeat with the same arguments, also after a crash of the server half way: a volume
//! or container that exists is found, not made anew, and a process that was started is attached to, never
//! started twice. Any methods may run at once, for different handles and for the same.

pub mod capability;
pub mod descriptors;
pub mod docker;
pub mod embedded;
mod extent;
pub mod fake;
pub mod isolation;
pub mod namespaces;
pub mod network;
pub mod room;
pub mod stray;
pub mod supervisor;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

pub use crate::base::stream::Stream;
pub use isolation::{Isolation, Privilege, PrivilegedMode};
pub use room::Intake;

/// Names a volume: lower-case letters, digits and dashes, at most 36 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeHandle(pub String);

/// Names a container, in the same alphabet; it is also the step's host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerHandle(pub String);

macro_rules! handle_display {
    ($($t:ty),*) => {$(impl std::fmt::Display for $t {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) }
    })*};
}
handle_display!(VolumeHandle, ContainerHandle);

/// What a new volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nothing.
    Empty,
    /// A copy-on-write child of another volume. The parent must not change any more and must be kept while the
    /// child lives; the caller counts that.
    CopyOf(VolumeHandle),
}

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// `rootfs/` in this volume, at the given path below it (`""` for the volume's top).
    Volume { volume: VolumeHandle, path: String },
    /// A directory of the server's own host that is a root file system (an unpacked bundle). Never written to.
    Directory(PathBuf),
    /// The host's own files, read-only below a throw-away layer, with what is private masked. Embedded only.
    Host,
    /// The host's own files as for [`Image::Host`], with `rootfs/opt/resource` of this volume at `/opt/resource`: the
    /// image of a native type that mirrors itself. Embedded only.
    HostWithScripts(VolumeHandle),
    /// An image in the engine's own store, by id or digest. Docker only.
    Engine(String),
}

/// One volume in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The volume.
    pub volume: VolumeHandle,
    /// Absolute path in the container; missing directories are made. Mounts are applied in order of path, so
    /// one may lie below another.
    pub path: String,
    /// Whether the step may write there.
    pub read_only: bool,
}

/// Upper bounds for one container; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU shares (1024 is one usual container's worth).
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A process to run in a container.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program: absolute, relative to `dir` if it contains a slash, else looked up in `PATH` of `env`.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// `NAME=value`. A usual `PATH`, `HOME` and `USER` are added where absent.
    pub env: Vec<String>,
    /// Working directory. Made if it is missing when the container starts, but nothing below a step's own directory
    /// (`/tmp/build/NAME`); an error for `exec`.
    pub dir: String,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the container's `/etc/passwd`; root where `None`.
    pub user: Option<String>,
    /// A terminal of this size, or separate pipes.
    pub tty: Option<WindowSize>,
    /// All of the standard input, for processes that are started with the container.
    pub stdin: Vec<u8>,
    /// Directories that become its user's with all that is in them before it starts. Nothing does where the user is
    /// root, or where the container has no `/etc/passwd` and `/etc/group` to tell who that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owns: Vec<String>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Environment, arguments and input may hold secrets.
        f.debug_struct("Process")
            .field("path", &self.path)
            .field("dir", &self.dir)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Everything about a container, its first process included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The team it belongs to; walls between containers follow from it.
    pub team: String,
    /// What an operator may want to find it by (`build_id`, `step`, `type` …).
    pub labels: BTreeMap<String, String>,
    /// Its root.
    pub image: Image,
    /// All the host can give instead of Concourse's fourteen capabilities and the seccomp filter.
    pub privileged: bool,
    /// No outbound network.
    pub hermetic: bool,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// Bounds.
    pub limits: Limits,
    /// The process whose end is the step's end.
    pub process: Process,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this status; death by signal N is 128 + N.
    Status(i32),
    /// The program could not be started at all: the text says why, as Concourse words it
    /// (`exec: "nope": executable file not found in $PATH`), and whether that was because there is no such program.
    NotStarted { message: String, not_found: bool },
}

/// What a process tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes, in the order they were written. `offset` is the position of the first of them among all bytes of
    /// the process, both streams counted together, so an `attach` can go on where another ended.
    Data { stream: Stream, offset: u64, bytes: Bytes },
    /// It ended; nothing follows.
    Exited(Exit),
    /// The container is gone or its engine is; nothing follows. The text says why.
    Lost(String),
}

/// What a stop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The process ran, and was ended.
    Now,
    /// It had ended by itself, as its exit says.
    Before,
}

/// A process's output as it comes. Dropping it detaches; the process goes on.
pub type Attached = mpsc::Receiver<Output>;

/// What a person at a terminal sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes for the standard input.
    Data(Bytes),
    /// The terminal has a new size.
    Resize(WindowSize),
    /// The standard input ends.
    Close,
}

/// A further process in a container, with both directions open. Dropping `input` hangs up: the process gets
/// end-of-file, and SIGHUP where it has a terminal.
pub struct Exec {
    /// To the process.
    pub input: mpsc::Sender<Input>,
    /// From the process.
    pub output: Attached,
}

/// What exists on the runtime, for the collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every container of this installation.
    pub containers: Vec<ContainerHandle>,
    /// Every volume of this installation.
    pub volumes: Vec<VolumeHandle>,
}

/// A stream of tar bytes, not compressed.
pub type TarStream = Pin<Box<dyn AsyncRead + Send>>;

/// What can go wrong on a runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine cannot be reached. Names what was tried and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// There is no such volume or container, or no such file in it.
    #[error("{0}")]
    NotFound(String),
    /// The step's own configuration cannot work here (no such image, `hermetic` where it cannot be had …).
    #[error("{0}")]
    Invalid(String),
    /// The disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Result of a runtime's method.
pub type Result<T> = std::result::Result<T, Error>;

/// Credentials for a registry.
#[derive(Clone, Default)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// An image as an engine knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineImage {
    /// The engine's id of it.
    pub id: String,
    /// The registry's digest, `sha256:…`.
    pub digest: String,
    /// `NAME=value` from its configuration.
    pub env: Vec<String>,
    /// Its user, if it names one.
    pub user: Option<String>,
    /// Its entry point and command.
    pub command: Vec<String>,
    /// Small files to lie beside `rootfs/` when its files are wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// An engine's own image store: what Docker has and the embedded runtime has not.
#[async_trait]
pub trait EngineImages: Send + Sync {
    /// The digest a reference (`host/repository:tag`) has in its registry now; nothing is pulled.
    async fn digest(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<String>;

    /// The image of a reference (`host/repository@sha256:…`) if it is in the store; nothing is pulled.
    async fn find(&self, reference: &str) -> Result<Option<EngineImage>>;

    /// Makes sure the image is in the store; `progress` gets lines for the build log. `reference` should name a digest.
    async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        progress: mpsc::Sender<String>,
    ) -> Result<EngineImage>;

    /// Whether the image is still in the store, as of some seconds ago at most. Who asks is about to use it.
    async fn holds(&self, id: &str) -> Result<bool>;

    /// Bytes of an image with all its layers, if it is there.
    async fn size(&self, id: &str) -> Result<Option<u64>>;

    /// Removes the images that it has pulled itself but those that are `used`, by id, those in containers and those that
    /// were asked for within `idle`. Whether all others could go.
    async fn collect(&self, used: &HashSet<String>, idle: Duration) -> Result<bool>;

    /// Its root file system as a tar stream, for those who need it as files.
    async fn export(&self, id: &str) -> Result<TarStream>;
}

/// What is known of an unpacked layer besides its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// Bytes of its files.
    pub bytes: u64,
    /// Teams that have shown that they may have it; `*` is everybody.
    pub teams: BTreeSet<String>,
    /// Repositories with the digest it has there, `host/name@sha256:…`.
    pub origins: BTreeSet<String>,
}

/// An image that was loaded from a file, for use without a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedImage {
    /// `host/repository:tag`.
    pub name: String,
    /// Its manifest's digest.
    pub digest: String,
    /// Its manifest and its configuration, as they are written.
    pub manifest: String,
    /// See `manifest`.
    pub config: String,
    /// The digests of its layers, unpacked, the lowest first.
    pub layers: Vec<String>,
    /// Whether all its layers are there.
    pub whole: bool,
}

/// Layers of images, each unpacked once for all who use it: what runtimes have whose volumes are directories of their
/// own. A layer is named by the digest of its archive without compression.
///
/// Whoever may name a layer's digest is not yet allowed to have its files: the caller compares [`KnownLayer`].
#[async_trait]
pub trait ImageLayers: Send + Sync {
    /// Keeps the layers of an image from collection as long as the answer lives, whether they are there yet or not.
    fn intake(&self, image: &str, layers: &[String]) -> Intake;

    /// What is known of a layer, if it is there.
    async fn find(&self, layer: &str) -> Result<Option<KnownLayer>>;

    /// Unpacks a layer of an image, compressed in whatever way, and adds what is known. Where it is there already the
    /// content is only compared. Content of another digest is refused, and so is what makes the image too large or the
    /// disk too full; nothing of it stays then.
    async fn add(&self, layer: &str, content: TarStream, known: KnownLayer, of: &Intake) -> Result<()>;

    /// Adds to what is known of a layer.
    async fn admit(&self, layer: &str, known: KnownLayer) -> Result<()>;

    /// Makes a volume of `team`, or finds it: `rootfs/` is made of the layers, the lowest first, and beside it lie
    /// `files`, by name.
    async fn compose(
        &self,
        volume: &VolumeHandle,
        team: &str,
        layers: &[String],
        files: &[(String, Vec<u8>)],
    ) -> Result<()>;

    /// The saved image of that name, if it is whole.
    async fn saved(&self, name: &str) -> Result<Option<SavedImage>>;

    /// All saved images, by name.
    async fn all_saved(&self) -> Result<Vec<SavedImage>>;

    /// Writes a saved image down, in place of the one of that name. Its layers stay until it is forgotten, so this
    /// comes before they are added (`whole` is false then) and after.
    async fn save(&self, image: &SavedImage) -> Result<()>;

    /// Forgets a saved image; whether there was one.
    async fn forget(&self, name: &str) -> Result<bool>;

    /// Removes layers that nothing is made of, such as those of a fetch that was broken off.
    async fn collect(&self) -> Result<()>;
}

/// A place that runs containers.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// `docker` or `embedded`, for messages.
    fn name(&self) -> &'static str;

    /// Makes a volume of `team`, or finds it.
    async fn create_volume(&self, volume: &VolumeHandle, team: &str, origin: &Origin) -> Result<()>;

    /// Whether a volume is still there with all that it is made of: an engine's volumes can be removed by others.
    async fn holds(&self, _volume: &VolumeHandle) -> Result<bool> {
        Ok(true)
    }

    /// Finds the container and attaches from the first byte, or makes it and starts its process. A container that was
    /// made but whose process was certainly never started is made anew.
    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> Result<Attached>;

    /// What a privileged container asks for and does not get, in words for its log; `None` where it gets all. Asked
    /// after its start, which may find that out.
    fn withheld(&self, _spec: &ContainerSpec) -> Option<String> {
        None
    }

    /// Output from byte `from` on, then the exit; at once if it has ended. [`Error::NotFound`] if it never was.
    async fn attach(&self, container: &ContainerHandle, from: u64) -> Result<Attached>;

    /// Runs another process in it, also after its first process has ended, until it is removed.
    async fn exec(&self, container: &ContainerHandle, process: &Process) -> Result<Exec>;

    /// SIGTERM to the first process and all it started; SIGKILL after `grace`. Returns when they are gone; the
    /// exit arrives at whoever is attached.
    async fn stop(&self, container: &ContainerHandle, grace: Duration) -> Result<Stopped>;

    /// Unpacks a tar stream below `path` of a volume (`""` is its top).
    async fn stream_in(&self, volume: &VolumeHandle, path: &str, tar: TarStream) -> Result<()>;

    /// Packs `path` of a volume: a file as one entry named by its file name, a directory's contents as entries
    /// relative to it. [`Error::NotFound`] if there is no such path.
    async fn stream_out(&self, volume: &VolumeHandle, path: &str) -> Result<TarStream>;

    /// Where the volume's files lie on this host, if the server can reach them as plain files (not for
    /// copy-on-write children).
    fn local_path(&self, volume: &VolumeHandle) -> Option<PathBuf>;

    /// All that exists.
    async fn list(&self) -> Result<Listing>;

    /// Kills and removes a container and its private layers; absent is fine.
    async fn remove_container(&self, container: &ContainerHandle) -> Result<()>;

    /// Removes a volume; absent is fine. Children must have gone before.
    async fn remove_volume(&self, volume: &VolumeHandle) -> Result<()>;

    /// The output of a finished container is kept elsewhere by now: what is spooled of it may go. It can still be
    /// entered.
    async fn forget_output(&self, _container: &ContainerHandle) -> Result<()> {
        Ok(())
    }

    /// What a volume's files are made of, its own and those of its parents and of an image: names, each the same for all
    /// who share that part. None where the sizes cannot be told.
    async fn parts_of(&self, _volume: &VolumeHandle) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Bytes on disk of a volume's own files, where that can be told without much work.
    async fn size_of(&self, _volume: &VolumeHandle) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Bytes on disk of such a part.
    async fn size_of_part(&self, part: &str) -> Result<u64> {
        Err(Error::NotFound(format!("nothing is made of {part}")))
    }

    /// Bytes on disk of what a container's processes have written outside of its volumes, where that can be told.
    async fn written_by(&self, _container: &ContainerHandle) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Where on this host it keeps what steps write, if that is not below the state directory.
    async fn disk(&self) -> Option<PathBuf> {
        None
    }

    /// Sets right what others on this host may have undone, such as walls in the packet filter; asked now and then.
    async fn tend(&self) {}

    /// The server ends: what only helps running containers and is not needed by any goes.
    async fn close(&self) {}

    /// The engine's image store, where there is one.
    fn engine_images(&self) -> Option<&dyn EngineImages> {
        None
    }

    /// Layers of images, where the runtime keeps them itself.
    fn image_layers(&self) -> Option<&dyn ImageLayers> {
        None
    }
}
