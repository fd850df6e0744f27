//! `supervise --container DIR`: makes the namespaces of a container, then is its process 1.
//!
//! The server passes a listening socket as standard input. As long as it can be connected to, somebody serves it:
//! that is how a later server finds out whether the container lives. The first process makes the namespaces and
//! forks; its child is the supervisor, outlives the server, and takes the whole container with it when it dies,
//! since it is process 1 there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Gid, Uid};

use super::blueprint::{Blueprint, Network};
use super::cgroup::{self, Groups};
use super::confine::{self, Confinement};
use super::filter;
use super::rootfs::{self, Builder};
use super::tree::keep;
use crate::runtime::Privilege;
use crate::runtime::descriptors;
use crate::runtime::namespaces::{self, Separate};
use crate::runtime::network::link;
use crate::runtime::supervisor::frame::Frame;
use crate::runtime::supervisor::serve::{Supervisor, block_signals, close_to_others, create_record};
use crate::runtime::supervisor::spool::Spool;

/// The file that describes the container.
pub const SPEC: &str = "spec.json";
/// What its first process has written.
pub const SPOOL: &str = "spool";
/// How it ended. That it exists means: the process may have been started.
pub const RECORD: &str = "exit";
/// The supervisor: process id and start time.
pub const PID: &str = "pid";

/// Returns only if the container could not be made (or after the fork, in the parent).
pub fn run(dir: &str) -> u8 {
    close_inherited();
    let Ok(listener) = keep(0).map(UnixListener::from) else { return 2 };
    let result = make(Path::new(dir), &listener);
    let error = match result {
        Ok(Side::Parent) => return 0,
        Ok(Side::Child(error)) | Err(error) => error,
    };
    refuse(&listener, &error);
    1
}

/// Closes what the server was started with and left open: this process would hold it as long as the container lives.
fn close_inherited() {
    // SAFETY: plain integers; nothing of ours is open yet beyond the first three. Where the kernel cannot, they stay.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0) };
}

enum Side {
    Parent,
    Child(io::Error),
}

/// Tells whoever asks why there is no container.
fn refuse(listener: &UnixListener, error: &io::Error) {
    let lost = Frame::Lost(format!("cannot make a container: {error}")).to_bytes();
    listener.set_nonblocking(false).ok();
    if let Ok((mut client, _)) = listener.accept() {
        client.write_all(&lost).ok();
        client.shutdown(std::net::Shutdown::Write).ok();
        // Until it has read that: closing at once could drop the bytes.
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok();
        client.read_to_end(&mut Vec::new()).ok();
    }
}

fn make(dir: &Path, listener: &UnixListener) -> io::Result<Side> {
    let network = keep(1);
    detach()?;
    let spec = fs::read(dir.join(SPEC))?;
    let blueprint: Blueprint = serde_json::from_slice(&spec)?;
    descriptors::lower(blueprint.bounds.files_before);
    let spool = Spool::create(&dir.join(SPOOL))?;
    let home = File::open(dir)?;
    let groups = cgroup::make(dir, &blueprint);
    let rootless = !rootfs::is_root();
    if rootless {
        own_user_namespace().map_err(|e| explain(&e))?;
    }
    let mut namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID;
    match blueprint.network {
        Network::Host => {}
        Network::Loopback => namespaces |= CloneFlags::CLONE_NEWNET,
        Network::Leased(_) => setns(network?.as_fd(), CloneFlags::CLONE_NEWNET)?,
    }
    unshare(namespaces).map_err(|e| explain(&e.into()))?;
    let (mut wait, mut tell) = UnixStream::pair()?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => {
            drop(wait);
            write_pid(dir, child.as_raw())?;
            tell.write_all(b"x")?;
            Ok(Side::Parent)
        }
        ForkResult::Child => {
            drop(tell);
            // Nothing may run that a later server could not find and end.
            wait.read_exact(&mut [0])?;
            let outside = Outside { dir, home, rootless, groups, spool, listener };
            let error = match first_process(&blueprint, outside) {
                Ok(error) | Err(error) => error,
            };
            Ok(Side::Child(error))
        }
    }
}

/// What to do about a host that allows no namespaces.
pub fn explain(error: &io::Error) -> io::Error {
    let text = format!(
        "this host does not allow it ({error}); run the server as root with CAP_SYS_ADMIN, allow user namespaces \
         (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), or use Docker"
    );
    io::Error::new(error.kind(), text)
}

fn detach() -> io::Result<()> {
    nix::unistd::setsid().ok();
    // The server's own may be tighter than what users in a container need.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/")?;
    // Standard error stays the server's until the process runs.
    discard(&[0, 1])
}

/// Lets go of these standard streams, so that whoever reads them does not wait for this process.
fn discard(streams: &[i32]) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in streams {
        // SAFETY: plain integers; the first three are ours to replace.
        if unsafe { libc::dup2(null.as_raw_fd(), *stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Becomes root of a user namespace in which the calling user is the only one there is.
pub fn own_user_namespace() -> io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))
}

fn write_pid(dir: &Path, pid: i32) -> io::Result<()> {
    let started = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
    fs::write(dir.join(PID), format!("{pid} {started}"))
}

/// When a process started, in the kernel's ticks: tells it from another that got the same number later.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// What process 1 needs from outside its container, opened before it moves in.
struct Outside<'a> {
    dir: &'a Path,
    home: File,
    rootless: bool,
    groups: Groups,
    spool: Spool,
    listener: &'a UnixListener,
}

/// The user namespace of the steps: that which their network belongs to, so that its root may send what it likes, or a new
/// one.
fn separate(wanted: CloneFlags) -> io::Result<Separate> {
    match namespaces::owner(File::open("/proc/self/ns/net")?.as_fd())? {
        Some(user) if !wanted.contains(CloneFlags::CLONE_NEWNET) => {
            let has_mounts = wanted.contains(CloneFlags::CLONE_NEWNS);
            let mounts = has_mounts.then(|| namespaces::mounts_of(user.as_fd())).transpose()?;
            Ok(Separate { user, mounts, network: None })
        }
        _ => namespaces::separate(wanted),
    }
}

fn first_process(blueprint: &Blueprint, outside: Outside<'_>) -> io::Result<io::Error> {
    let Outside { dir, home, rootless, groups, spool, listener } = outside;
    let signals = block_signals()?;
    confine::set_oom_score("-999");
    nix::unistd::sethostname(&blueprint.hostname)?;
    let tree = Builder { dir, staging: &blueprint.staging, rootless }.build(blueprint, &groups)?;
    rootfs::enter(&tree)?;
    drop(tree);
    let all = blueprint.privilege == Privilege::All;
    let with_mounts = blueprint.privilege == Privilege::Fuse;
    let hermetic = blueprint.network == Network::Loopback;
    let mut wanted = CloneFlags::empty();
    wanted.set(CloneFlags::CLONE_NEWNS, with_mounts);
    wanted.set(CloneFlags::CLONE_NEWNET, hermetic);
    let separate = if all || rootless { None } else { Some(separate(wanted)?) };
    if hermetic {
        if let Some(network) = separate.as_ref().and_then(|s| s.network.as_ref()) {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        link::lead_nowhere()?;
    }
    let (user_namespace, mounts) = separate.map_or((None, None), |s| (Some(s.user), s.mounts));
    if !all {
        confine::leave_abstract_sockets();
    }
    close_to_others();
    let confinement = Confinement {
        user_namespace,
        mounts,
        cradle: groups.cradle,
        cgroups: groups.join,
        filter: if all { None } else { Some(filter::filter(with_mounts)?) },
        capabilities: confine::capabilities(blueprint.privilege),
        open_files: blueprint.bounds.open_files,
        processes: if rootless { blueprint.bounds.processes } else { None },
        no_new_privileges: blueprint.no_new_privileges,
    };
    discard(&[2])?;
    // From here on the process may have been started.
    let record = create_record(Path::new(&format!("/proc/self/fd/{}/{RECORD}", home.as_raw_fd())))?;
    listener.set_nonblocking(true)?;
    let listener = listener.try_clone()?;
    let supervisor = Supervisor {
        spool,
        record,
        listener,
        confine: &confinement,
        most_output: blueprint.bounds.output,
        memory: groups.memory,
    };
    Ok(supervisor.run(&blueprint.process, signals, None))
}
