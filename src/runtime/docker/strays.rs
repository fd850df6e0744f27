//! What lies around of this installation on the engine, and what the engine is.

use super::Docker;
use crate::runtime::network::{firewall, link};
use crate::runtime::stray::{Known, Stray};
use crate::runtime::{ContainerHandle, Error, Result, Runtime, VolumeHandle};

/// What an engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// Version of runc, or what it runs containers with.
    pub runc: String,
    /// `1` or `2`.
    pub cgroups: String,
    /// How it keeps layers.
    pub storage: String,
    /// `seccomp`, `rootless`, `userns` …
    pub security: Vec<String>,
    /// Where it keeps everything, on its own host.
    pub root: String,
    /// It bounds memory and processes.
    pub bounds: bool,
}

impl Docker {
    /// Asks the engine what it is.
    pub async fn facts(&self) -> Result<EngineFacts> {
        let client = self.connection.client().await?;
        let info = client.info().await.map_err(|e| self.connection.failure("ask the engine about itself", &e))?;
        Ok(EngineFacts {
            version: info.server_version.unwrap_or_default(),
            runc: client.version().await.ok().and_then(runc).unwrap_or_default(),
            cgroups: info.cgroup_version.map(|v| v.to_string()).unwrap_or_default(),
            storage: info.driver.unwrap_or_default(),
            security: info.security_options.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_default(),
            bounds: info.memory_limit.unwrap_or_default() && info.pids_limit.unwrap_or_default(),
        })
    }

    /// Whether the engine's host is this one, as far as one can tell.
    pub fn is_local(&self) -> bool {
        self.connection.is_local()
    }

    /// Everything of ours that no row knows of; see [`crate::runtime::embedded::Embedded::strays`].
    pub async fn strays(&self, known: impl AsyncFnOnce() -> Result<Known>) -> Result<Vec<Stray>> {
        let listing = self.list().await?;
        let idle = self.networks.idle().await?;
        let waiting = self.leases.idle().await?;
        let known = known().await?;
        let mut found: Vec<Stray> = Vec::new();
        found.extend(listing.containers.iter().filter(|c| !known.containers.contains(&c.0)).map(Stray::container));
        found.extend(listing.volumes.iter().filter(|v| !known.volumes.contains(&v.0)).map(Stray::volume));
        if !known.served {
            let why = "no server runs and no step has its network";
            found.extend(waiting.into_iter().map(|name| Stray::new("waiting container", name, why.to_owned())));
            let why = "no server runs and no container is on it";
            found.extend(idle.into_iter().map(|name| Stray::new("network", name, why.to_owned())));
            let walls = self.networks.walls();
            let bridges = link::names().unwrap_or_default().iter().any(|name| name.starts_with(&walls.prefix));
            if !bridges && firewall::table_exists(&walls.table) {
                found.push(Stray::new("packet filter", walls.table.clone(), "no network of ours is left".to_owned()));
            }
        }
        Ok(found)
    }

    /// Removes one of [`Docker::strays`].
    pub async fn remove_stray(&self, stray: &Stray) -> Result<()> {
        match stray.kind {
            "container" => self.remove_container(&ContainerHandle(stray.name.clone())).await,
            "volume" => self.remove_volume(&VolumeHandle(stray.name.clone())).await,
            "waiting container" => {
                self.leases.remove(&stray.name).await;
                Ok(())
            }
            "network" => self.networks.remove(&stray.name).await,
            "packet filter" => {
                self.networks.walls().lower().map_err(|e| Error::Failed(format!("cannot remove {}: {e}", stray.name)))
            }
            _ => Ok(()),
        }
    }
}

fn runc(version: bollard::models::SystemVersion) -> Option<String> {
    let part = version.components?.into_iter().find(|c| c.name == "runc" || c.name == "crun")?;
    Some(format!("{} {}", part.name, part.version))
}
