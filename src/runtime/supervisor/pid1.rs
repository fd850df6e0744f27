//! The supervisor as process 1 of a container that someone else (Docker) has made, and its helper for `docker exec`.
//!
//! - `supervise --pid1 [BYTES]` (its output is bounded to so many) reads its launch spec from standard input ([`super::frame::launch`]), writes frames to
//!   standard output and spools them to a directory of its own in the container's layer.
//! - `supervise --pid1-privileged [BYTES]` is the same where an engine cannot make a container privileged by itself, and
//!   gives rights one by one: it opens what the engine leaves closed then.
//! - `supervise --read OFFSET` (run in the same container) writes frames from byte OFFSET on until the exit frame.
//! - `supervise --exec` copies: frames from its standard input to the supervisor, and back. The first frame is a
//!   request: [`Frame::Exec`], [`Frame::Stop`], [`Frame::Signal`] or [`Frame::Attach`].
//!
//! Process 1 passes SIGTERM on to everything below it and takes SIGQUIT as the order to SIGKILL that. The server stops
//! a step with [`Frame::Stop`]; a SIGTERM comes from an engine that shuts down, so the step is then lost, not failed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::mount::MsFlags;

use super::frame::Frame;
use super::memory::MemoryEvents;
use super::process::Free;
use super::serve::{Supervisor, block_signals, close_to_others, create_record};
use super::spool::Spool;
use crate::runtime::Process;

/// Where process 1 keeps its spool, record and socket.
pub const RUN_DIR: &str = "/.whistlestop-run";
/// Its exit status when no launch spec arrived: the step's process was certainly never started.
pub const NEVER_LAUNCHED: u8 = 125;
/// What it says on standard error then.
pub const NEVER_LAUNCHED_TEXT: &str = "whistlestop: no launch spec arrived, nothing was started";
/// How `--read` and `--exec` begin to say that process 1 is not there, or has not read its launch spec yet.
pub const UNREACHABLE: &str = "the container's supervisor cannot be reached";
/// The longest launch spec.
const MAX_LAUNCH: usize = 64 << 20;

/// `--pid1`.
pub fn run(most_output: Option<u64>) -> u8 {
    close_to_others();
    let Some(process) = read_launch() else {
        eprintln!("{NEVER_LAUNCHED_TEXT}");
        return NEVER_LAUNCHED;
    };
    let error = match supervise(&process, most_output) {
        Ok(never_ends) => never_ends,
        Err(e) => {
            let lost = Frame::Lost(format!("the supervisor cannot work in this container: {e}"));
            io::stdout().write_all(&lost.to_bytes()).ok();
            e
        }
    };
    eprintln!("whistlestop: supervisor failed: {error}");
    1
}

/// `--pid1-privileged`.
pub fn run_privileged(most_output: Option<u64>) -> u8 {
    open_system();
    run(most_output)
}

/// Lets programs change devices and cgroups, as in a container that the engine makes privileged: whoever runs containers
/// in this one (image builders do) makes cgroups for them.
fn open_system() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in closed_system(&mounts) {
        let flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // What it lacks then is found out by the program that needs it.
        nix::mount::mount(None::<&str>, point, None::<&str>, flags, None::<&str>).ok();
    }
}

/// Mount points of the kernel's own trees that may only be read.
fn closed_system(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (point, options) = (fields.next()?, fields.next()?);
        let is_system = ["sysfs", "cgroup", "cgroup2"].contains(&kind.split(' ').next()?);
        (is_system && options.split(',').any(|option| option == "ro")).then_some(point)
    })
}

/// `--wait`: holds a network for others until it is killed.
pub fn wait() -> u8 {
    loop {
        nix::unistd::pause();
    }
}

fn supervise(process: &Process, most_output: Option<u64>) -> io::Result<io::Error> {
    // Concourse's containers all have it; a mount or a directory of the image in its place is fine.
    std::fs::create_dir_all("/scratch").ok();
    let dir = Path::new(RUN_DIR);
    own(dir)?;
    let spool = Spool::create(&dir.join("spool"))?;
    let record = create_record(&dir.join("exit"))?;
    let socket = dir.join("sock");
    std::fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    super::process::set_nonblocking(&stdout)?;
    let signals = block_signals()?;
    let memory = MemoryEvents::inside();
    let supervisor = Supervisor { spool, record, listener, confine: &Free, most_output, memory };
    Ok(supervisor.run(process, signals, Some(stdout)))
}

/// Makes the directory ours alone, also where an image brings one of that name: who could write there could speak for
/// the supervisor.
fn own(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    if !std::fs::symlink_metadata(dir)?.is_dir() {
        return Err(io::Error::other(format!("{} is no directory in this image", dir.display())));
    }
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::unistd::chown(dir, Some(user), Some(group))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

fn read_launch() -> Option<Process> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 4];
    stdin.read_exact(&mut length).ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_LAUNCH {
        return None;
    }
    let mut body = vec![0; length];
    stdin.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// `--read OFFSET`.
pub fn read(from: u64) -> u8 {
    relay(|mut socket| {
        socket.write_all(&Frame::Attach(from).to_bytes())?;
        copy(&mut socket, &mut stdout_file())
    })
}

/// `--exec`.
pub fn exec() -> u8 {
    relay(|mut socket| {
        let mut to_supervisor = socket.try_clone()?;
        std::thread::spawn(move || {
            // SAFETY: standard input is open and nothing else in this process reads it.
            let mut stdin = unsafe { File::from_raw_fd(0) };
            copy(&mut stdin, &mut to_supervisor).ok();
            to_supervisor.shutdown(Shutdown::Write).ok();
        });
        copy(&mut socket, &mut stdout_file())
    })
}

fn relay(work: impl FnOnce(UnixStream) -> io::Result<()>) -> u8 {
    let result = UnixStream::connect(Path::new(RUN_DIR).join("sock")).and_then(work);
    match result {
        Ok(()) => 0,
        Err(e) => {
            let lost = Frame::Lost(format!("{UNREACHABLE}: {e}"));
            stdout_file().write_all(&lost.to_bytes()).ok();
            1
        }
    }
}

/// Standard output without the line buffer that Rust puts before it.
fn stdout_file() -> File {
    io::stdout().as_fd().try_clone_to_owned().map_or_else(
        // SAFETY: descriptor 1 is open for the life of the process.
        |_| unsafe { File::from(OwnedFd::from_raw_fd(1)) },
        File::from,
    )
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_image_becomes_ours_alone_and_a_link_is_none() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("run");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        own(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        own(&place.path().join("new")).unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(own(&link).unwrap_err().to_string().contains("is no directory"));
    }

    #[test]
    fn the_kernels_trees_are_opened_and_nothing_else() {
        let mounts = "391 311 0:137 / / ro,relatime master:5 - overlay overlay rw\n\
                      395 391 0:143 / /sys ro,nosuid - sysfs sysfs ro\n\
                      396 395 0:144 / /sys/fs/cgroup rw,mode=755 - tmpfs tmpfs rw,mode=755\n\
                      397 396 0:29 /docker/4 /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu\n\
                      398 396 0:30 /docker/4 /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids\n\
                      399 395 0:31 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n\
                      339 392 0:140 /sys /proc/sys ro,nosuid - proc proc rw\n";
        let found: Vec<&str> = closed_system(mounts).collect();
        assert_eq!(found, ["/sys", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
    }
}
