//! Whether the kernel ended something for want of memory: a step that dies so should hear it, not only see 137.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The counts of one cgroup, opened while it could be seen.
#[derive(Debug)]
pub struct MemoryEvents {
    counts: File,
    limit: Option<u64>,
}

impl MemoryEvents {
    /// Of the cgroup in this directory, in either version; `None` if it does not count.
    pub fn of(group: &Path) -> Option<MemoryEvents> {
        let counts = File::open(group.join("memory.events")).or_else(|_| File::open(group.join("memory.oom_control")));
        let limit = ["memory.max", "memory.limit_in_bytes"].iter().find_map(|file| {
            let text = fs::read_to_string(group.join(file)).ok()?;
            text.trim().parse().ok()
        });
        Some(MemoryEvents { counts: counts.ok()?, limit })
    }

    /// Of the container that the caller is in, as engines show it.
    pub fn inside() -> Option<MemoryEvents> {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].iter().find_map(|group| MemoryEvents::of(Path::new(group)))
    }

    /// What to tell the step's log, if anything was ended.
    pub fn told(&self) -> Option<String> {
        let mut text = vec![0; 4096];
        let n = self.counts.read_at(&mut text, 0).ok()?;
        killed(&String::from_utf8_lossy(&text[..n])).then(|| message(self.limit))
    }
}

fn killed(counts: &str) -> bool {
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok();
    counts.lines().find_map(count).is_some_and(|n| n > 0)
}

fn message(limit: Option<u64>) -> String {
    // Without a bound the kernel reports a number near the largest there is.
    let limit = limit.filter(|bytes| *bytes < 1 << 60);
    let limit = limit.map(|bytes| format!(" of {} MiB", bytes.div_ceil(1 << 20))).unwrap_or_default();
    format!("out of memory: the step reached its limit{limit} and the kernel ended a process (container_limits.memory)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count() {
        assert!(killed("low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n"));
        assert!(killed("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(!killed("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"));
        assert!(!killed(""));
    }

    #[test]
    fn the_limit_is_named() {
        assert!(message(Some(20_000_000)).contains("its limit of 20 MiB"));
        assert!(message(Some(u64::MAX / 2)).contains("its limit and"));
    }
}
