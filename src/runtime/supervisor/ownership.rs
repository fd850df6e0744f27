//! Gives a step's directories to its user, with all that is in them, as Concourse does: what a fetch has made as root,
//! or a step before it as somebody else, can be changed by whoever runs now.
//!
//! Runs before the step does, so nothing else changes the trees meanwhile. Only names are changed, never what a mount
//! of somebody else brings: what is mounted within a directory is left out unless it is named itself.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::account::Account;

/// What one look at a file tells.
struct Seen {
    uid: u32,
    gid: u32,
    directory: bool,
    /// Of the mount it is on, where the kernel tells (5.8), else of the file system.
    mount: u64,
}

fn look(path: &Path) -> io::Result<Seen> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // The call itself and not libc's function: std's reference to that one is weak, and where both are optimized as one
    // (LTO) nothing brings it into a static binary.
    // SAFETY: all zeroes is a value of this plain structure; the name is terminated and outlives the call.
    let (result, found) = unsafe {
        let mut found: libc::statx = std::mem::zeroed();
        let wanted = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
        let (at, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
        let result = libc::syscall(libc::SYS_statx, at, name.as_ptr(), flags, wanted, &raw mut found);
        (result, found)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let told = found.stx_mask & libc::STATX_MNT_ID != 0;
    let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
    Ok(Seen {
        uid: found.stx_uid,
        gid: found.stx_gid,
        directory: libc::mode_t::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
        mount: if told { found.stx_mnt_id } else { device },
    })
}

/// Gives directories and all that is in them to a user. One that is not there is left out.
pub fn give(directories: &[String], account: &Account) -> Result<(), String> {
    for directory in directories {
        // An image's links lead where the mount was made.
        let Ok(top) = fs::canonicalize(directory) else { continue };
        give_one(top, account)
            .map_err(|(path, e)| format!("cannot give {} to the step's user {}: {e}", path.display(), account.name))?;
    }
    Ok(())
}

fn give_one(top: PathBuf, account: &Account) -> Result<(), (PathBuf, io::Error)> {
    let of = look(&top).map_err(|e| (top.clone(), e))?;
    if !of.directory {
        return Ok(());
    }
    take(&top, &of, account)?;
    let mut left = vec![top];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory).map_err(|e| (directory.clone(), e))?;
        for entry in entries {
            let path = entry.map_err(|e| (directory.clone(), e))?.path();
            let seen = look(&path).map_err(|e| (path.clone(), e))?;
            if seen.mount != of.mount {
                continue;
            }
            take(&path, &seen, account)?;
            if seen.directory {
                left.push(path);
            }
        }
    }
    Ok(())
}

/// What is the user's already is not touched, which would copy it in a layered volume.
fn take(path: &Path, seen: &Seen, account: &Account) -> Result<(), (PathBuf, io::Error)> {
    if (seen.uid, seen.gid) == (account.uid, account.gid) {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).map_err(|e| (path.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn all_is_given_and_no_link_is_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (top, other) = (dir.path().join("in"), outside.path().join("file"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        fs::write(&other, "x").unwrap();
        std::os::unix::fs::symlink(&other, top.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), top.join("a/up")).unwrap();
        std::os::unix::fs::symlink(&top, dir.path().join("named")).unwrap();
        let before = fs::metadata(&other).unwrap();
        // Somebody else can be had by root only; to oneself all can give.
        let id = if nix::unistd::Uid::effective().is_root() { 4242 } else { before.uid() };
        let gid = if id == 4242 { 4243 } else { before.gid() };
        let account = Account { uid: id, gid, name: "ci".into(), home: "/".into() };
        give(&[dir.path().join("named").display().to_string(), "/no/such".into()], &account).unwrap();
        for name in ["", "a", "a/b", "a/b/file", "link", "a/up"] {
            let meta = fs::symlink_metadata(top.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (id, gid), "{name}");
        }
        let after = fs::metadata(&other).unwrap();
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    }
}
