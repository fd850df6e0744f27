//! One holder a role: two processes on one state directory would undo each other's work.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

/// How often, and how long apart, a lock is tried whose holder is gone.
const MOST_TRIES: u32 = 250;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Why a role cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another process (pid {pid}) already serves the role {role} on {}; stop it, or give this one a --state-dir of its own", directory.display())]
    Held {
        /// Who.
        pid: String,
        /// Which role.
        role: String,
        /// Where.
        directory: PathBuf,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A role that is held until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct RoleLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl RoleLock {
    /// Takes a role on a state directory. Waits a moment where its holder is gone: a child that was just forked has the
    /// lock, too, until it is another program.
    pub fn take(directory: &Path, role: &str) -> Result<RoleLock, LockError> {
        let path = directory.join(format!("{role}.lock"));
        let io = |source| LockError::Io { path: path.clone(), source };
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io);
        let mut file = open()?;
        let mut tries = 0;
        let mut lock = loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, e)) => return Err(io(e.into())),
            };
            let mut holder = String::new();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut holder)).map_err(io)?;
            let pid = holder.trim().to_owned();
            if tries == MOST_TRIES || !is_gone(&pid) {
                return Err(LockError::Held { pid, role: role.to_owned(), directory: directory.to_owned() });
            }
            tries += 1;
            std::thread::sleep(TRY_AGAIN);
        };
        lock.set_len(0).map_err(io)?;
        lock.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(RoleLock(lock))
    }
}

/// Whether there is no such process any more. In a container its successor has the same number.
fn is_gone(pid: &str) -> bool {
    pid.parse().is_ok_and(|pid| {
        pid == std::process::id().cast_signed() || nix::sys::signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_holder_and_is_free_again_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = RoleLock::take(dir.path(), "web").unwrap();
        // Process 1 lives, whoever runs this.
        std::fs::write(dir.path().join("web.lock"), "1\n").unwrap();
        let refused = RoleLock::take(dir.path(), "web").unwrap_err().to_string();
        assert!(refused.contains("(pid 1)"), "{refused}");
        assert!(refused.contains("role web"), "{refused}");
        RoleLock::take(dir.path(), "scheduler").unwrap();
        // Whose name it is now is waited for: another test's child holds a copy of the lock until it is another program.
        std::fs::write(dir.path().join("web.lock"), format!("{}\n", std::process::id())).unwrap();
        drop(held);
        RoleLock::take(dir.path(), "web").unwrap();
    }

    #[test]
    fn what_a_dead_server_had_just_forked_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = RoleLock::take(dir.path(), "web").unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        std::fs::write(dir.path().join("web.lock"), gone.id().to_string()).unwrap();
        let (begun, begin) = std::sync::mpsc::channel();
        let directory = dir.path().to_owned();
        let waits = std::thread::spawn(move || {
            begun.send(()).unwrap();
            RoleLock::take(&directory, "web").map(drop)
        });
        begin.recv().unwrap();
        drop(held);
        waits.join().unwrap().unwrap();
    }
}
