//! Bounds on memory, processor and processes, in whichever version of cgroups the host has and lets us write to.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::blueprint::{Blueprint, Bounds};
use crate::runtime::supervisor::memory::MemoryEvents;
use crate::runtime::{Limits, Privilege};

/// Lists, in the container's directory, the cgroups to be removed with it.
const MADE: &str = "cgroups";
/// The root that cgroups are mounted below.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// A control file and what to write to it.
type Setting = (&'static str, Option<String>);

/// The cgroups of one container.
#[derive(Default)]
pub struct Groups {
    /// The group of the second version, which its processes are born in.
    pub cradle: Option<OwnedFd>,
    /// The files its processes join them by.
    pub join: Vec<File>,
    /// Counts of what was ended for want of memory.
    pub memory: Option<MemoryEvents>,
    /// Each group, with the place below [`MOUNT`] where the container sees it.
    pub seen: Vec<(PathBuf, PathBuf)>,
}

/// Makes the container's cgroups; empty where nothing is bounded or the host does not let us.
pub fn make(dir: &Path, blueprint: &Blueprint) -> Groups {
    let bounds = &blueprint.bounds;
    let mut made = groups(Path::new(MOUNT), &blueprint.hostname, bounds);
    if blueprint.privilege == Privilege::All && !is_unified(Path::new(MOUNT)) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let hierarchies = hierarchies(&mounts);
        made = all_groups(Path::new(MOUNT), &hierarchies, &Path::new(&bounds.parent).join(&blueprint.hostname), made);
    }
    if made.is_empty() {
        return Groups::default();
    }
    let list: Vec<String> = made.iter().map(|(group, _)| group.display().to_string()).collect();
    fs::write(dir.join(MADE), list.join("\n")).ok();
    let unified = is_unified(Path::new(MOUNT));
    // A process of one thread may join a group of the first version as a thread: with `cgroup.procs` the kernel waits
    // until no process anywhere forks or ends, which takes some ten milliseconds.
    let open = |group: &PathBuf| {
        let open = |file| File::options().write(true).open(group.join(file));
        open("tasks").or_else(|_| open("cgroup.procs")).ok()
    };
    let cradle = made.first().filter(|_| unified).and_then(|(group, _)| File::open(group).ok());
    Groups {
        cradle: cradle.map(OwnedFd::from),
        join: made.iter().filter_map(|(group, _)| open(group)).collect(),
        memory: bounds.limits.memory.and_then(|_| made.iter().find_map(|(group, _)| MemoryEvents::of(group))),
        seen: made,
    }
}

/// Removes what [`make`] made. The processes must have gone.
pub fn remove(dir: &Path) {
    let Ok(list) = fs::read_to_string(dir.join(MADE)) else { return };
    for group in list.lines().filter(|l| l.starts_with(MOUNT)) {
        remove_group(Path::new(group)).ok();
    }
}

/// Removes one group; those that processes made in it go first.
pub fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Every group below `parent`, of whichever version.
pub fn below(parent: &str) -> Vec<PathBuf> {
    let entries = |place: &Path| -> Vec<PathBuf> {
        let all = fs::read_dir(place).into_iter().flatten().flatten();
        all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    };
    let mut places = vec![PathBuf::from(MOUNT)];
    places.extend(entries(Path::new(MOUNT)));
    places.iter().flat_map(|place| entries(&place.join(parent))).collect()
}

/// Hierarchies of the first version, and the second's beside them, by their names below [`MOUNT`].
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let below = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = Path::new(mount.split(' ').nth(4)?).strip_prefix(MOUNT).ok()?.to_owned();
        let is_cgroup = ["cgroup", "cgroup2"].contains(&kind.split(' ').next()?);
        (is_cgroup && !point.as_os_str().is_empty()).then_some(point)
    };
    mountinfo.lines().filter_map(below).collect()
}

/// A group in each hierarchy, `made` among them: engines that run in a step make groups of their own, and they shall be
/// within the step's.
fn all_groups(
    root: &Path,
    hierarchies: &[PathBuf],
    name: &Path,
    made: Vec<(PathBuf, PathBuf)>,
) -> Vec<(PathBuf, PathBuf)> {
    // A controller's name may be a link to the hierarchy of several.
    let real = |seen: &Path| fs::canonicalize(root.join(seen)).unwrap_or_else(|_| root.join(seen));
    let bounded: Vec<PathBuf> = made.iter().map(|(_, seen)| real(seen)).collect();
    let mut all: Vec<(PathBuf, PathBuf)> = made
        .into_iter()
        .zip(&bounded)
        .map(|((group, seen), real)| {
            let seen = real.strip_prefix(root).map_or(seen, Path::to_owned);
            (group, seen)
        })
        .collect();
    for hierarchy in hierarchies.iter().filter(|hierarchy| !bounded.contains(&real(hierarchy))) {
        let group = root.join(hierarchy).join(name);
        if fs::create_dir_all(&group).is_ok() {
            inherit(&root.join(hierarchy), name);
            all.push((group, hierarchy.clone()));
        }
    }
    all
}

/// Groups of processors and memory nodes begin empty, and take no process before they have some.
fn inherit(hierarchy: &Path, name: &Path) {
    let mut above = hierarchy.to_owned();
    for part in name {
        let group = above.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |group: &Path| fs::read_to_string(group.join(file)).unwrap_or_default();
            if read(&group).trim().is_empty() && !read(&above).is_empty() {
                fs::write(group.join(file), read(&above)).ok();
            }
        }
        above = group;
    }
}

/// Which limits have no effect on this host, as the step's log says it; `None` where all have.
pub fn without_effect(limits: &Limits) -> Option<String> {
    unbounded(Path::new(MOUNT), limits)
}

fn unbounded(root: &Path, limits: &Limits) -> Option<String> {
    let is_given = |name: &str| match is_unified(root) {
        true => {
            let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            controllers.split_whitespace().any(|controller| controller == name) && is_writable(root)
        }
        false => is_writable(&root.join(name)),
    };
    let wanted = [("memory", limits.memory.is_some()), ("cpu", limits.cpu.is_some())];
    let lacking: Vec<&str> =
        wanted.iter().filter(|(name, set)| *set && !is_given(name)).map(|(name, _)| *name).collect();
    (!lacking.is_empty()).then(|| {
        let names = lacking.join(" and ");
        format!("container_limits: {names} not bounded, the server has no such cgroup on this host to write to")
    })
}

fn is_writable(group: &Path) -> bool {
    nix::unistd::access(group, nix::unistd::AccessFlags::W_OK).is_ok()
}

fn is_unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

fn groups(root: &Path, name: &str, bounds: &Bounds) -> Vec<(PathBuf, PathBuf)> {
    if is_unified(root) {
        return unified(root, name, bounds).map(|group| (group, PathBuf::new())).into_iter().collect();
    }
    let memory = bounds.limits.memory.map(|m| m.to_string());
    let settings: [(&str, Vec<Setting>); 3] = [
        (
            "memory",
            vec![
                ("memory.limit_in_bytes", memory.clone()),
                // Only where swap is accounted for.
                ("memory.memsw.limit_in_bytes", memory),
            ],
        ),
        ("cpu", vec![("cpu.shares", bounds.limits.cpu.map(|c| c.to_string()))]),
        ("pids", vec![("pids.max", bounds.processes.map(|p| p.to_string()))]),
    ];
    settings
        .into_iter()
        .filter(|(_, values)| values.iter().any(|(_, v)| v.is_some()))
        .filter_map(|(controller, values)| {
            let group = root.join(controller).join(&bounds.parent).join(name);
            fs::create_dir_all(&group).ok()?;
            write_all(&group, &values);
            Some((group, PathBuf::from(controller)))
        })
        .collect()
}

fn unified(root: &Path, name: &str, bounds: &Bounds) -> Option<PathBuf> {
    let parent = root.join(&bounds.parent);
    let group = parent.join(name);
    fs::create_dir_all(&group).ok()?;
    for at in [root, &parent] {
        for controller in ["+memory", "+cpu", "+pids"] {
            fs::write(at.join("cgroup.subtree_control"), controller).ok();
        }
    }
    // Docker's translation of shares to weights.
    let weight = bounds.limits.cpu.map(|shares| (1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142).to_string());
    let values = [
        ("memory.max", bounds.limits.memory.map(|m| m.to_string())),
        ("memory.swap.max", bounds.limits.memory.map(|_| "0".to_owned())),
        ("cpu.weight", weight),
        ("pids.max", bounds.processes.map(|p| p.to_string())),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds {
            limits: Limits { cpu: Some(512), memory: Some(1 << 20) },
            processes: Some(100),
            open_files: None,
            files_before: None,
            output: None,
            parent: "whistlestop-x".into(),
        }
    }

    /// Both versions are plain files, so a directory will do to see what is written where.
    fn written(root: &Path, file: &str) -> String {
        fs::read_to_string(root.join(file)).unwrap_or_default()
    }

    #[test]
    fn each_controller_of_the_first_version_has_its_own_group() {
        let root = tempfile::tempdir().unwrap();
        let made = groups(root.path(), "c1", &bounds());
        assert_eq!(made.iter().map(|(_, seen)| seen.to_str().unwrap()).collect::<Vec<_>>(), ["memory", "cpu", "pids"]);
        assert_eq!(written(root.path(), "memory/whistlestop-x/c1/memory.limit_in_bytes"), "1048576");
        assert_eq!(written(root.path(), "cpu/whistlestop-x/c1/cpu.shares"), "512");
        assert_eq!(written(root.path(), "pids/whistlestop-x/c1/pids.max"), "100");
    }

    #[test]
    fn the_second_version_has_one_group_for_all() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let made = groups(root.path(), "c1", &bounds());
        assert_eq!(made, [(root.path().join("whistlestop-x/c1"), PathBuf::new())]);
        assert_eq!(written(root.path(), "whistlestop-x/c1/memory.max"), "1048576");
        assert_eq!(written(root.path(), "whistlestop-x/c1/memory.swap.max"), "0");
        assert_eq!(written(root.path(), "whistlestop-x/c1/cpu.weight"), "20");
        assert_eq!(written(root.path(), "whistlestop-x/c1/pids.max"), "100");
    }

    #[test]
    fn a_privileged_container_has_a_group_in_each_hierarchy() {
        let mounts = "22 21 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      23 22 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu\n\
                      24 22 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      25 22 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      26 22 0:32 / /mnt/cgroup rw - cgroup cgroup rw,memory\n";
        let found = hierarchies(mounts);
        assert_eq!(found, ["cpu,cpuacct", "cpuset", "unified"].map(PathBuf::from));
        assert!(hierarchies("22 21 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").is_empty());
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for name in &found {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("cpuset/cpuset.cpus"), "0-1\n").unwrap();
        std::os::unix::fs::symlink("cpu,cpuacct", root.join("cpu")).unwrap();
        let mut bounds = bounds();
        bounds.limits.memory = None;
        bounds.processes = None;
        let all = all_groups(&root, &found, Path::new("whistlestop-x/c1"), groups(&root, "c1", &bounds));
        let seen: Vec<&str> = all.iter().map(|(_, seen)| seen.to_str().unwrap()).collect();
        assert_eq!(seen, ["cpu,cpuacct", "cpuset", "unified"]);
        assert!(all.iter().all(|(group, _)| group.is_dir()), "{all:?}");
        assert_eq!(written(&root, "cpuset/whistlestop-x/c1/cpuset.cpus"), "0-1\n");
    }

    #[test]
    fn limits_without_effect_are_told() {
        let root = tempfile::tempdir().unwrap();
        let told = |memory, cpu| unbounded(root.path(), &Limits { memory, cpu });
        assert_eq!(told(None, None), None);
        assert!(told(Some(1), Some(2)).unwrap().contains("memory and cpu not bounded"));
        fs::create_dir(root.path().join("memory")).unwrap();
        assert_eq!(told(Some(1), None), None);
        assert!(told(Some(1), Some(2)).unwrap().starts_with("container_limits: cpu not bounded"));
        fs::write(root.path().join("cgroup.controllers"), "cpu io pids\n").unwrap();
        assert!(told(Some(1), Some(2)).unwrap().starts_with("container_limits: memory not bounded"));
        fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(told(Some(1), Some(2)), None);
    }
}
