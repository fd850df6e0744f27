//! What the server tells a container's supervisor: everything needed to build it, as one private file.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::changed::Changed;
use crate::runtime::{Limits, Privilege, Process};

/// Where the server's own binary is found in a container for native resource types.
pub const NATIVE_EXE: &str = "/.whistlestop/whistlestop";

/// A volume as the directories that make it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Where changes go, with the file system's scratch directory; `None` for a plain directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// What lies below, the topmost first; for a plain directory only itself.
    pub lower: Vec<PathBuf>,
}

/// A volume in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// What is mounted.
    pub layers: Layers,
    /// Where.
    pub path: String,
    /// Whether it can be written to.
    pub read_only: bool,
}

/// What the container's root is made of; changes always go to a throw-away layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// A directory within a volume.
    Volume(Layers, String),
    /// A directory of the host.
    Directory(PathBuf),
    /// The host's own root without what is listed.
    Host {
        /// Files and directories that are empty in the container.
        masked: Vec<PathBuf>,
    },
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    Host,
    /// One of its own with nothing but loopback.
    Loopback,
    /// One of its own, leased: its namespace is passed as standard output.
    Leased(Ipv4Addr),
}

/// How names are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// `/etc/resolv.conf`.
    pub resolv: String,
    /// `/etc/hosts`.
    pub hosts: String,
}

/// How much a container may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Of processor and memory.
    pub limits: Limits,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Open files that the server was started with, where it has raised that for itself.
    pub files_before: Option<u64>,
    /// Bytes of output of the first process.
    pub output: Option<u64>,
    /// The cgroup that its own is made in.
    pub parent: String,
}

/// A container to build.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// An empty directory to build on.
    pub staging: PathBuf,
    /// Host name.
    pub hostname: String,
    /// Root.
    pub root: Root,
    /// Volumes, in the order in which they are mounted.
    pub mounts: Vec<Placed>,
    /// What it may do.
    pub privilege: Privilege,
    /// Programs cannot gain rights by set-user-id files.
    pub no_new_privileges: bool,
    /// Its network.
    pub network: Network,
    /// Texts of its `/etc/resolv.conf` and `/etc/hosts`.
    pub names: Names,
    /// Bounds.
    pub bounds: Bounds,
    /// Directories of the host that it changes.
    #[serde(default)]
    pub changes: Vec<Changed>,
    /// Bound to [`NATIVE_EXE`].
    pub native_exe: Option<PathBuf>,
    /// The first process.
    pub process: Process,
}
