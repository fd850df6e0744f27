//! Things of an installation that belong to nothing any more.

use std::collections::HashSet;

use serde::Serialize;

use super::{ContainerHandle, VolumeHandle};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// `container`, `volume`, `network` …
    pub kind: &'static str,
    /// What it is called.
    pub name: String,
    /// Why it is one.
    pub why: String,
}

impl Stray {
    /// From its parts.
    pub fn new(kind: &'static str, name: String, why: String) -> Stray {
        Stray { kind, name, why }
    }

    /// A container without a row.
    pub fn container(handle: &ContainerHandle) -> Stray {
        Stray::new("container", handle.0.clone(), "not in the database".to_owned())
    }

    /// A volume without a row.
    pub fn volume(handle: &VolumeHandle) -> Stray {
        Stray::new("volume", handle.0.clone(), "not in the database".to_owned())
    }
}

/// What the database knows of.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Containers.
    pub containers: HashSet<String>,
    /// Volumes.
    pub volumes: HashSet<String>,
    /// Whether a server runs, which may need what no container uses right now.
    pub served: bool,
}
