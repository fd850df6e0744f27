//! Which processes a signal is for: everything the first process started, but no shell of a person who looks in.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// (process, parent, whether it has ended and only waits to be reaped) of all in this namespace.
fn table() -> Vec<(i32, i32, bool)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may hold anything, so count from its closing bracket.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        Some((pid, fields.next()?.parse().ok()?, state == "Z" || state == "X"))
    })
    .collect()
}

/// Living processes whose line of parents leads to `root` without passing through one of `except`.
fn below(table: &[(i32, i32, bool)], root: i32, except: &[i32]) -> Vec<i32> {
    let reaches = |mut pid: i32| {
        for _ in 0..table.len() {
            if except.contains(&pid) {
                return false;
            }
            let Some((_, parent, _)) = table.iter().find(|(p, ..)| *p == pid) else { return false };
            if *parent == root {
                return !except.contains(&pid);
            }
            pid = *parent;
        }
        false
    };
    table.iter().filter(|(pid, _, dead)| *pid != root && !dead && reaches(*pid)).map(|(pid, ..)| *pid).collect()
}

/// Sends `signal` to all below this process but those at or below `except`. Returns how many there were.
pub fn signal(signal: Signal, except: &[Pid]) -> usize {
    let except: Vec<i32> = except.iter().map(|p| p.as_raw()).collect();
    let found = below(&table(), nix::unistd::getpid().as_raw(), &except);
    for pid in &found {
        nix::sys::signal::kill(Pid::from_raw(*pid), signal).ok();
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_and_their_children_are_left_alone() {
        let table = [
            (1, 0, false),
            (2, 1, false),
            (3, 2, false),
            (4, 1, true),
            (5, 1, false),
            (6, 5, false),
            (7, 0, false),
            (8, 7, false),
        ];
        assert_eq!(below(&table, 1, &[]), [2, 3, 5, 6]);
        assert_eq!(below(&table, 1, &[5]), [2, 3]);
    }
}
