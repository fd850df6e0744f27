//! Memory and CPU bounds, in whichever version of cgroups the host has and lets us write to.
//!
//! A container without bounds gets no cgroup: making and removing one costs more than the rest of its start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::blueprint::Blueprint;
use crate::runtime::Limits;

/// Lists, in the container's directory, the cgroups to be removed with it.
const MADE: &str = "cgroups";
/// The root that cgroups are mounted below.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group that holds those of all containers.
const PARENT: &str = "whistlestop";
/// Processes in one bounded container.
const MAX_PROCESSES: &str = "16384";

/// A control file and what to write to it.
type Setting = (&'static str, Option<String>);

/// Makes the container's cgroups and opens the files its processes join them by; empty where nothing is bounded or
/// the host does not let us.
pub fn join_files(dir: &Path, blueprint: &Blueprint) -> Vec<File> {
    if blueprint.limits == Limits::default() {
        return Vec::new();
    }
    let made = groups(&blueprint.hostname, &blueprint.limits);
    let list: Vec<String> = made.iter().map(|g| g.display().to_string()).collect();
    fs::write(dir.join(MADE), list.join("\n")).ok();
    let files: Vec<File> =
        made.iter().filter_map(|g| File::options().write(true).open(g.join("cgroup.procs")).ok()).collect();
    if files.is_empty() {
        eprintln!("cgroups cannot be written to, so the limits of this container have no effect");
    }
    files
}

/// Removes what [`join_files`] made. The processes must have gone.
pub fn remove(dir: &Path) {
    let Ok(list) = fs::read_to_string(dir.join(MADE)) else { return };
    for group in list.lines().filter(|l| l.starts_with(MOUNT)) {
        fs::remove_dir(group).ok();
    }
}

fn groups(name: &str, limits: &Limits) -> Vec<PathBuf> {
    let root = Path::new(MOUNT);
    if root.join("cgroup.controllers").exists() {
        return unified(root, name, limits).into_iter().collect();
    }
    let memory = limits.memory.map(|m| m.to_string());
    let settings: [(&str, Vec<Setting>); 3] = [
        (
            "memory",
            vec![
                ("memory.limit_in_bytes", memory.clone()),
                // Only where swap is accounted for.
                ("memory.memsw.limit_in_bytes", memory),
            ],
        ),
        ("cpu", vec![("cpu.shares", limits.cpu.map(|c| c.to_string()))]),
        ("pids", vec![("pids.max", Some(MAX_PROCESSES.to_owned()))]),
    ];
    settings
        .into_iter()
        .filter(|(_, values)| values.iter().any(|(_, v)| v.is_some()))
        .filter_map(|(controller, values)| {
            let group = root.join(controller).join(PARENT).join(name);
            fs::create_dir_all(&group).ok()?;
            write_all(&group, &values);
            Some(group)
        })
        .collect()
}

fn unified(root: &Path, name: &str, limits: &Limits) -> Option<PathBuf> {
    let parent = root.join(PARENT);
    let group = parent.join(name);
    fs::create_dir_all(&group).ok()?;
    for at in [root, &parent] {
        for controller in ["+memory", "+cpu", "+pids"] {
            fs::write(at.join("cgroup.subtree_control"), controller).ok();
        }
    }
    // Docker's translation of shares to weights.
    let weight = limits.cpu.map(|shares| (1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142).to_string());
    let values = [
        ("memory.max", limits.memory.map(|m| m.to_string())),
        ("memory.swap.max", limits.memory.map(|_| "0".to_owned())),
        ("cpu.weight", weight),
        ("pids.max", Some(MAX_PROCESSES.to_owned())),
    ];
    write_all(&group, &values);
    Some(group)
}

fn write_all(group: &Path, values: &[Setting]) {
    for (file, value) in values {
        if let Some(value) = value {
            fs::write(group.join(file), value).ok();
        }
    }
}
