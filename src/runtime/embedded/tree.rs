//! Paths inside a container's root while it is built, resolved so that no symbolic link of an image leads out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A directory that is the root for all paths given.
pub struct Tree(OwnedFd);

/// An open place that can be mounted to or from.
pub fn place(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn with_path(what: &str, path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

impl Tree {
    /// The tree at `path`.
    pub fn open(path: &Path) -> io::Result<Tree> {
        let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| with_path("cannot open", path, e))?;
        Ok(Tree(fd))
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        openat2(&self.0, path, how)
    }

    /// What is at `path`.
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH).map_err(|e| with_path("cannot find", path, e))
    }

    /// The directory at `path`, made with its parents where it is missing.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Ok(found) = self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            return Ok(found);
        }
        let mut sofar = PathBuf::new();
        let mut at = self.resolve(&sofar, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => return Err(with_path("not a plain path:", path, io::ErrorKind::InvalidInput)),
                _ => continue,
            };
            sofar.push(name);
            at = match self.resolve(&sofar, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                Err(nix::Error::ENOENT) => {
                    // A symbolic link to nowhere would make this fail for ever.
                    unlinkat(&at, name, UnlinkatFlags::NoRemoveDir).ok();
                    match mkdirat(&at, name, Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(nix::Error::EEXIST) => {}
                        Err(e) => return Err(with_path("cannot make", path, e)),
                    }
                    self.resolve(&sofar, OFlag::O_PATH | OFlag::O_DIRECTORY)
                }
                other => other,
            }
            .map_err(|e| with_path("cannot enter", path, e))?;
        }
        Ok(at)
    }

    /// Writes a file, in place of whatever is there.
    pub fn write(&self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let parent = self.directory(parent)?;
        unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).ok();
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(&parent, name, flags, Mode::from_bits_truncate(mode))
            .map_err(|e| with_path("cannot write", path, e))?;
        std::fs::File::from(fd).write_all(bytes)
    }

    /// A symbolic link.
    pub fn link(&self, path: &Path, target: &str) -> io::Result<()> {
        let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let parent = self.directory(parent)?;
        nix::unistd::symlinkat(target, &parent, name).map_err(|e| with_path("cannot link", path, e))
    }
}

/// Mounts a file system of `kind` on `target`.
pub fn mount_kind(kind: &str, target: &impl AsRawFd, flags: MsFlags, data: &str) -> io::Result<()> {
    mount(Some(kind), &place(target), Some(kind), flags, Some(data))
        .map_err(|e| with_path("cannot mount", Path::new(kind), e))
}

/// Makes what is at `source` appear on `target` as well.
pub fn bind(source: &Path, target: &impl AsRawFd, recursive: bool) -> io::Result<()> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    mount(Some(source), &place(target), None::<&str>, flags, None::<&str>)
        .map_err(|e| with_path("cannot bind", source, e))
}

/// Makes the mount at `path` of `tree` read-only, with all below it.
pub fn make_read_only(tree: &Tree, path: &Path) -> io::Result<()> {
    let target = tree.find(path)?;
    set_attributes(&target, libc::MOUNT_ATTR_RDONLY, true).map_err(|e| with_path("cannot make read-only", path, e))
}

/// Adds attributes to the mount that `target` is the root of.
pub fn set_attributes(target: &impl AsRawFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let request = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path and a whole struct of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const request,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an extended attribute on a file that may be open for its path only.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: terminated strings, and a buffer with its length.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Duplicates a raw descriptor into one that no other program inherits.
pub fn keep(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain integer; the result is checked before it is owned.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) {
            new if new < 0 => Err(io::Error::last_os_error()),
            new => Ok(OwnedFd::from_raw_fd(new)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_an_image_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../..", root.join("up")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("dangling")).unwrap();
        let tree = Tree::open(&root).unwrap();
        tree.directory(Path::new("/absolute/a/b")).unwrap();
        tree.directory(Path::new("/up/c")).unwrap();
        tree.directory(Path::new("/dangling/d")).unwrap();
        tree.write(Path::new("/up/file"), 0o644, b"x").unwrap();
        assert!(root.join("real/a/b").is_dir());
        assert!(root.join("c").is_dir());
        assert!(root.join("dangling/d").is_dir());
        assert!(root.join("file").is_file());
        assert!(tree.directory(Path::new("/missing/../b")).is_err());
    }
}
