//! Space kept for the end of things: a file that is given up when the disk is full, so that the builds that run can be
//! ended and their last lines stored, and that is taken again when there is room. Meanwhile what steps go on to say is
//! not stored: it would take this space too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Enough for the unstored ends of some logs and the rows of many builds.
const SIZE: u64 = 4 << 20;

/// See the module's doc. Two processes on one directory have the same one.
pub struct Reserve(PathBuf);

impl Reserve {
    /// In this directory; nothing is taken yet.
    pub fn new(directory: &Path) -> Reserve {
        Reserve(directory.join("reserve"))
    }

    /// Takes the space unless it is taken. Where there is not as much again, it is left to those who need it now.
    pub fn take(&self) {
        if self.is_taken() || self.free().is_none_or(|free| free < 2 * SIZE) {
            return;
        }
        let Ok(file) = File::create(&self.0) else { return };
        if nix::fcntl::posix_fallocate(&file, 0, SIZE.cast_signed()).is_err() {
            self.give();
        }
    }

    /// Gives the space up; false if there was none.
    pub fn give(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    /// Whether what is free now is for the end of things alone.
    pub fn is_given(&self) -> bool {
        !self.is_taken() && self.free().is_some_and(|free| free < SIZE)
    }

    fn is_taken(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|m| m.len() == SIZE)
    }

    fn free(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(self.0.parent()?).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn space_is_taken_once_and_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        assert!(!reserve.give());
        for _ in 0..2 {
            reserve.take();
            assert!(fs::metadata(dir.path().join("reserve")).unwrap().blocks() * 512 >= SIZE);
        }
        assert!(reserve.give());
        assert!(!reserve.is_given(), "this disk is almost full");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
