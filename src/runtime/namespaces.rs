//! User namespaces as steps have them, and what belongs to one.
//!
//! Their ids are the host's, so files need no translation; but there is a namespace between, in which root has the last
//! number, so that whoever reads `/proc/self/uid_map` to find out whether a step is privileged sees what Concourse shows:
//! root is somebody else outside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::ForkResult;

/// What the processes of a container see: root is the last number of the namespace around theirs.
const INNER: &str = "0 4294967294 1\n1 1 4294967293\n";
/// There the last number is the host's root again.
const AROUND: &str = "1 1 4294967293\n4294967294 0 1\n";

/// Namespaces of the steps' own, beside the supervisor's.
pub struct Separate {
    /// Has the host's ids, but none of the host's own objects belong to it.
    pub user: OwnedFd,
    /// Mounts that belong to it, for those who may mount.
    pub mounts: Option<OwnedFd>,
    /// A network that belongs to it, in which its root may send what it likes.
    pub network: Option<OwnedFd>,
}

/// A new user namespace, with what else is wanted (mounts, network) belonging to it.
pub fn separate(wanted: CloneFlags) -> io::Result<Separate> {
    let (mut ready, tell) = pipe()?;
    let (wait, mut go) = pipe()?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop((ready, go));
            hold_namespaces(wanted, tell, wait).ok();
            // SAFETY: nothing of the parent's may run in the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell, wait));
            let opened = (|| {
                ready.read_exact(&mut [0]).map_err(|_| {
                    io::Error::other(
                        "this host does not let the server make user namespaces (sysctl user.max_user_namespaces; the \
                         kernel allows none in a chroot); or use Docker",
                    )
                })?;
                map_ids(child, AROUND)?;
                go.write_all(b"x")?;
                let mut inner = [0; 4];
                ready.read_exact(&mut inner)?;
                let inner = i32::from_ne_bytes(inner);
                let open = |name: &str| File::open(format!("/proc/{inner}/ns/{name}")).map(OwnedFd::from);
                let if_wanted = |flag, name: &str| if wanted.contains(flag) { open(name).map(Some) } else { Ok(None) };
                Ok::<_, io::Error>(Separate {
                    user: open("user")?,
                    mounts: if_wanted(CloneFlags::CLONE_NEWNS, "mnt")?,
                    network: if_wanted(CloneFlags::CLONE_NEWNET, "net")?,
                })
            })();
            drop(go);
            nix::sys::wait::waitpid(child, None)?;
            opened
        }
    }
}

/// In a process of its own: holds the namespace around, and starts one that holds the inner ones, until `wait` ends. Only
/// a process of the namespace around can write the inner one's map.
fn hold_namespaces(wanted: CloneFlags, mut tell: File, mut wait: File) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    tell.write_all(b"x")?;
    wait.read_exact(&mut [0])?;
    let (mut ready, mut tell_ready) = pipe()?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop((ready, tell));
            if unshare(CloneFlags::CLONE_NEWUSER | wanted).is_ok() {
                tell_ready.write_all(b"x").ok();
                wait.read_to_end(&mut Vec::new()).ok();
            }
            // SAFETY: nothing of the parent's may run in the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(tell_ready);
            ready.read_exact(&mut [0])?;
            map_ids(child, INNER)?;
            tell.write_all(&child.as_raw().to_ne_bytes())?;
            wait.read_to_end(&mut Vec::new())?;
            nix::sys::wait::waitpid(child, None)?;
            Ok(())
        }
    }
}

fn map_ids(process: nix::unistd::Pid, map: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/{process}/uid_map"), map)?;
    std::fs::write(format!("/proc/{process}/gid_map"), map)
}

fn pipe() -> io::Result<(File, File)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((read.into(), write.into()))
}

/// The user namespace that a network belongs to; `None` if it is this process's own.
pub fn owner(network: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: plain integers; the answer is a new descriptor.
    let fd = unsafe { libc::ioctl(network.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nobody else has it.
    let found = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let is_own = found.metadata()?.ino() == std::fs::metadata("/proc/self/ns/user")?.ino();
    Ok((!is_own).then(|| found.into()))
}

/// Mounts that belong to `user`: a copy of this process's.
pub fn mounts_of(user: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (mut ready, mut tell) = pipe()?;
    let (mut wait, go) = pipe()?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop((ready, go));
            let made = setns(user, CloneFlags::CLONE_NEWUSER).and_then(|()| unshare(CloneFlags::CLONE_NEWNS));
            if made.is_ok() {
                tell.write_all(b"x").ok();
                wait.read_to_end(&mut Vec::new()).ok();
            }
            // SAFETY: nothing of the parent's may run in the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell, wait));
            let opened = ready
                .read_exact(&mut [0])
                .and_then(|()| File::open(format!("/proc/{child}/ns/mnt")).map(OwnedFd::from));
            drop(go);
            nix::sys::wait::waitpid(child, None)?;
            opened
        }
    }
}
