//! One holder a role: two processes on one state directory would undo each other's work.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

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
    /// Takes a role on a state directory.
    pub fn take(directory: &Path, role: &str) -> Result<RoleLock, LockError> {
        let path = directory.join(format!("{role}.lock"));
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(io)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = holder.trim().to_owned();
                return Err(LockError::Held { pid, role: role.to_owned(), directory: directory.to_owned() });
            }
            Err((_, e)) => return Err(io(e.into())),
        };
        lock.set_len(0).map_err(io)?;
        lock.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(RoleLock(lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_holder_and_is_free_again_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = RoleLock::take(dir.path(), "web").unwrap();
        let refused = RoleLock::take(dir.path(), "web").unwrap_err().to_string();
        assert!(refused.contains(&format!("(pid {})", std::process::id())), "{refused}");
        assert!(refused.contains("role web"), "{refused}");
        RoleLock::take(dir.path(), "scheduler").unwrap();
        drop(held);
        RoleLock::take(dir.path(), "web").unwrap();
    }
}
