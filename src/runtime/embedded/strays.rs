//! What lies around of this installation and belongs to nothing: found for `doctor`, removed if it is told to.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::cgroup;
use super::container::Directory;
use super::init;
use super::probe::Found;
use super::{Embedded, blocking};
use crate::runtime::network::{firewall, link};
use crate::runtime::stray::{Known, Stray};
use crate::runtime::{ContainerHandle, Error, Result, Runtime, VolumeHandle};

impl Embedded {
    /// What every container needs, tried out.
    pub async fn probe(&self) -> Result<Found> {
        self.volumes()?;
        let answer = tokio::process::Command::new(&self.options.self_exe)
            .args(["supervise".as_ref(), "--probe".as_ref(), self.state.as_os_str()])
            .output()
            .await;
        let answer = answer.map_err(|e| Error::Failed(format!("cannot run this program: {e}")))?;
        serde_json::from_slice(&answer.stdout).map_err(|e| {
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            Error::Failed(format!("the probe ended early ({}): {e} {said}", answer.status))
        })
    }

    /// Why no containers can be made here, if so.
    pub async fn shortcoming(&self) -> Option<String> {
        match self.probe().await {
            Ok(found) => found.shortcoming(),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether this directory was ever used by this runtime.
    pub fn is_used(&self) -> bool {
        self.state.join("volumes").exists()
    }

    /// Everything of ours that no row knows of. A listing is made before `known` is asked for, and rows are older than
    /// what they stand for, so nothing that is just being made is among it.
    pub async fn strays(&self, known: impl AsyncFnOnce() -> Result<Known>) -> Result<Vec<Stray>> {
        if !self.is_used() {
            return Ok(Vec::new());
        }
        let listing = self.list().await?;
        let supervisors = self.supervisors();
        let groups = cgroup::below(&self.parent());
        let known = known().await?;
        let mut found: Vec<Stray> = Vec::new();
        let there: HashSet<&str> = listing.containers.iter().map(|c| c.0.as_str()).collect();
        found.extend(listing.containers.iter().filter(|c| !known.containers.contains(&c.0)).map(Stray::container));
        found.extend(listing.volumes.iter().filter(|v| !known.volumes.contains(&v.0)).map(Stray::volume));
        found.extend(supervisors.into_iter().filter(|(_, directory)| !directory.exists()).map(|(pid, directory)| {
            Stray::new("supervisor", pid.to_string(), format!("of {}, which is gone", directory.display()))
        }));
        let ours = |group: &PathBuf| group.file_name().is_some_and(|n| there.contains(n.to_string_lossy().as_ref()));
        found.extend(
            groups.into_iter().filter(|g| !ours(g)).map(|group| {
                Stray::new("cgroup", group.display().to_string(), "of a container that is gone".to_owned())
            }),
        );
        if !known.served && there.is_empty() {
            found.extend(
                self.leases
                    .interfaces()
                    .into_iter()
                    .map(|name| Stray::new("interface", name, "of a container that is gone".to_owned())),
            );
            let table = &self.leases.walls().table;
            if firewall::table_exists(table) {
                found.push(Stray::new(
                    "packet filter",
                    table.clone(),
                    "no server and no container needs it".to_owned(),
                ));
            }
        }
        Ok(found)
    }

    /// Removes one of [`Embedded::strays`].
    pub async fn remove_stray(&self, stray: &Stray) -> Result<()> {
        let failed = |e: std::io::Error| Error::Failed(format!("cannot remove {} {}: {e}", stray.kind, stray.name));
        match stray.kind {
            "container" => self.remove_container(&ContainerHandle(stray.name.clone())).await,
            "volume" => self.remove_volume(&VolumeHandle(stray.name.clone())).await,
            "supervisor" => {
                let directory = self.supervisors().into_iter().find(|(pid, _)| pid.to_string() == stray.name);
                let Some((pid, _)) = directory else { return Ok(()) };
                blocking(move || Directory::kill_process(pid, init::start_time(pid))).await.map_err(failed)
            }
            "cgroup" => cgroup::remove_group(stray.name.as_ref()).map_err(failed),
            "interface" => link::remove(&stray.name).map_err(failed),
            "packet filter" => self.leases.walls().lower().map_err(failed),
            _ => Ok(()),
        }
    }

    /// Our supervisors that run, with the directories of their containers.
    fn supervisors(&self) -> Vec<(i32, PathBuf)> {
        let containers = self.state.join("containers");
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let supervisor = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = line.split(|b| *b == 0).skip(1);
            let is_ours = words.next()? == b"supervise" && words.next()? == b"--container";
            let directory = PathBuf::from(String::from_utf8_lossy(words.next()?).into_owned());
            (is_ours && directory.starts_with(&containers)).then_some((pid, directory))
        };
        entries.filter_map(supervisor).collect()
    }
}
