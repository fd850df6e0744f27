//! How far the operator trusts steps: the same word for every runtime.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::network::Policy;
use super::{ContainerSpec, Limits};

/// What `privileged: true` gives (Concourse: `--containerd-privileged-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrivilegedMode {
    /// All the host has: root there in all but name.
    #[default]
    Full,
    /// Enough to mount file systems of one's own, such as fuse-overlayfs, in a user namespace.
    FuseOnly,
    /// Nothing more.
    Ignore,
}

/// What one container gets of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// Fourteen capabilities, filtered system calls, a user namespace of its own.
    Usual,
    /// These, and to mount and unmount in that user namespace.
    Fuse,
    /// Everything the host gives.
    All,
}

/// The operator's word on isolation and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Networks.
    pub network: Policy,
    /// What privileged means.
    pub privileged: PrivilegedMode,
    /// What it means for a team, where that is something else.
    pub privileged_by_team: BTreeMap<String, PrivilegedMode>,
    /// Programs cannot gain rights by set-user-id files (`sudo` does not work then; Concourse leaves it off).
    pub no_new_privileges: bool,
    /// Bounds for tasks that name none.
    pub tasks: Limits,
    /// Processes and threads in one container, at most.
    pub processes: Option<u64>,
    /// Open files of one process, at most; as the host's own where `None`.
    pub open_files: Option<u64>,
    /// Bytes that one process may write to its log; it is ended beyond.
    pub output: Option<u64>,
}

impl Default for Isolation {
    fn default() -> Self {
        Isolation {
            network: Policy::default(),
            privileged: PrivilegedMode::default(),
            privileged_by_team: BTreeMap::new(),
            no_new_privileges: false,
            tasks: Limits::default(),
            processes: Some(usual_processes()),
            open_files: None,
            output: None,
        }
    }
}

/// Processes and threads in one container where the operator names no number: as many as Docker's hosts usually give, but
/// no more than an eighth of what the whole host has, so that one bomb leaves room for other steps and the server.
pub fn usual_processes() -> u64 {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok();
    processes_of(read("pid_max"), read("threads-max"))
}

fn processes_of(numbers: Option<u64>, threads: Option<u64>) -> u64 {
    const MOST: u64 = 16_384;
    const SHARE: u64 = 8;
    let whole = numbers.into_iter().chain(threads).min().unwrap_or(u64::MAX);
    MOST.min(whole / SHARE).max(1)
}

impl Isolation {
    /// Rights of a container.
    pub fn privilege(&self, spec: &ContainerSpec) -> Privilege {
        match (spec.privileged, self.privileged_for(&spec.team)) {
            (false, _) | (true, PrivilegedMode::Ignore) => Privilege::Usual,
            (true, PrivilegedMode::FuseOnly) => Privilege::Fuse,
            (true, PrivilegedMode::Full) => Privilege::All,
        }
    }

    fn privileged_for(&self, team: &str) -> PrivilegedMode {
        self.privileged_by_team.get(team).copied().unwrap_or(self.privileged)
    }

    /// What a privileged container does not get by the operator's word, in words for its log.
    pub fn withheld(&self, spec: &ContainerSpec) -> Option<String> {
        let given = match (spec.privileged, self.privileged_for(&spec.team)) {
            (false, _) | (true, PrivilegedMode::Full) => return None,
            (true, PrivilegedMode::FuseOnly) => "mounts in a user namespace and /dev/fuse, and nothing more",
            (true, PrivilegedMode::Ignore) => "no more than other steps have",
        };
        Some(format!("privileged: the operator of this server gives the team {} {given}", spec.team))
    }

    /// Bounds of a container: its own, else those for tasks. 0 is no bound.
    pub fn limits(&self, spec: &ContainerSpec) -> Limits {
        let Limits { cpu, memory } = match spec.labels.get("type").is_some_and(|kind| kind == "task") {
            true => {
                Limits { cpu: spec.limits.cpu.or(self.tasks.cpu), memory: spec.limits.memory.or(self.tasks.memory) }
            }
            false => spec.limits,
        };
        Limits { cpu: cpu.filter(|n| *n > 0), memory: memory.filter(|n| *n > 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Image, Process};

    fn spec(kind: &str, privileged: bool, limits: Limits) -> ContainerSpec {
        ContainerSpec {
            team: "main".into(),
            labels: [("type".to_owned(), kind.to_owned())].into(),
            image: Image::Host,
            privileged,
            hermetic: false,
            mounts: Vec::new(),
            limits,
            process: Process::default(),
        }
    }

    #[test]
    fn privileged_means_what_the_operator_says() {
        for (mode, expected) in [
            (PrivilegedMode::Full, Privilege::All),
            (PrivilegedMode::FuseOnly, Privilege::Fuse),
            (PrivilegedMode::Ignore, Privilege::Usual),
        ] {
            let isolation = Isolation { privileged: mode, ..Isolation::default() };
            assert_eq!(isolation.privilege(&spec("task", true, Limits::default())), expected);
            assert_eq!(isolation.privilege(&spec("task", false, Limits::default())), Privilege::Usual);
        }
    }

    #[test]
    fn a_team_may_have_a_word_of_its_own() {
        let isolation = Isolation {
            privileged: PrivilegedMode::Ignore,
            privileged_by_team: [("trusted".to_owned(), PrivilegedMode::Full)].into(),
            ..Isolation::default()
        };
        let of =
            |team: &str, privileged| ContainerSpec { team: team.into(), ..spec("task", privileged, Limits::default()) };
        assert_eq!(isolation.privilege(&of("trusted", true)), Privilege::All);
        assert_eq!(isolation.privilege(&of("trusted", false)), Privilege::Usual);
        assert_eq!(isolation.privilege(&of("main", true)), Privilege::Usual);
        assert_eq!(isolation.withheld(&of("trusted", true)), None);
        assert_eq!(isolation.withheld(&of("main", false)), None);
        assert!(isolation.withheld(&of("main", true)).unwrap().contains("the team main no more"));
    }

    #[test]
    fn a_bomb_gets_an_eighth_of_the_host_at_most() {
        for (numbers, threads, most) in [
            (Some(4_194_304), Some(1_000_000), 16_384),
            (Some(4_194_304), Some(30_000), 3_750),
            (Some(32_768), Some(192_730), 4_096),
            (Some(32_768), None, 4_096),
            (None, None, 16_384),
        ] {
            assert_eq!(processes_of(numbers, threads), most, "{numbers:?} {threads:?}");
        }
        assert_eq!(Isolation::default().processes, Some(usual_processes()));
    }

    #[test]
    fn defaults_are_for_tasks_that_name_none() {
        let tasks = Limits { cpu: Some(512), memory: Some(1 << 30) };
        let isolation = Isolation { tasks, ..Isolation::default() };
        let own = Limits { cpu: None, memory: Some(1 << 20) };
        assert_eq!(isolation.limits(&spec("task", false, own)), Limits { cpu: Some(512), memory: Some(1 << 20) });
        assert_eq!(isolation.limits(&spec("get", false, Limits::default())), Limits::default());
        let unbounded = Limits { cpu: Some(0), memory: Some(0) };
        assert_eq!(isolation.limits(&spec("task", false, unbounded)), Limits::default());
    }
}
