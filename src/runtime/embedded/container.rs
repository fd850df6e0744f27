//! One container as the server sees it: a directory, a socket in it, and files that tell the rest once nobody answers.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::blueprint::{Blueprint, Root};
use super::volume::remove_tree;
use super::{cgroup, init};
use crate::runtime::supervisor::frame::Frame;
use crate::runtime::supervisor::link::{self, Frames};
use crate::runtime::supervisor::{serve, spool};
use crate::runtime::{Attached, Output};

const SOCKET: &str = "sock";
/// What is said when a supervisor is gone without a word.
pub const LOST: &str = "the container's supervisor is gone (killed, out of memory, or the machine was restarted), so \
                        how the process ended is not known";

/// A container's directory.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// Whether it was ever begun.
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Whether its process may have been started.
    pub fn may_have_started(&self) -> bool {
        self.0.join(init::RECORD).exists()
    }

    /// Whether its root is the host's own: such containers are for our own program, not for what people bring.
    pub fn on_the_hosts_files(&self) -> bool {
        self.blueprint().is_some_and(|blueprint| matches!(blueprint.root, Root::Host { .. }))
    }

    /// Whether it can change files of the host.
    pub fn changes_the_host(&self) -> bool {
        self.blueprint().is_some_and(|blueprint| !blueprint.changes.is_empty())
    }

    fn blueprint(&self) -> Option<Blueprint> {
        let spec = fs::read(self.0.join(init::SPEC)).ok()?;
        serde_json::from_slice(&spec).ok()
    }

    /// Unix sockets have short names only, so it is reached through a descriptor of its directory.
    fn socket(&self) -> io::Result<(File, PathBuf)> {
        let dir = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&self.0)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
        Ok((dir, path))
    }

    /// Connects to the supervisor; `None` if there is none.
    pub async fn connect(&self) -> io::Result<Option<UnixStream>> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
        let Ok((_dir, path)) = self.socket() else { return Ok(None) };
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Some(stream)),
            // Reset: it ended while it was asked.
            Err(e) if matches!(e.kind(), NotFound | ConnectionRefused | ConnectionReset) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the directory anew and starts a supervisor. It can be connected to at once.
    pub fn launch(&self, exe: &Path, blueprint: &Blueprint, network: Option<OwnedFd>) -> io::Result<()> {
        self.remove()?;
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.0)?;
        let spec = serde_json::to_vec(blueprint)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(self.0.join(init::SPEC))?;
        io::Write::write_all(&mut file, &spec)?;
        let (_dir, path) = self.socket()?;
        let listener = UnixListener::bind(path)?;
        let mut child = Command::new(exe)
            .args(["supervise".as_ref(), "--container".as_ref(), self.0.as_os_str()])
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(network.map_or_else(Stdio::null, Stdio::from))
            .spawn()?;
        // It forks and ends; somebody must take note of that.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    /// What the supervisor tells, and the files if it falls silent.
    pub fn follow(&self, frames: Frames<UnixStream>, first: Option<Frame>, from: u64) -> Attached {
        let directory = self.clone();
        link::output_or(frames, first, from, move |offset| directory.replay(offset))
    }

    /// What the files tell: all output from byte `from` on and the end, if it was recorded.
    pub fn replay(&self, from: u64) -> Attached {
        let dir = self.0.clone();
        link::replay(
            move |each| {
                let read =
                    File::open(dir.join(init::SPOOL)).and_then(|mut file| spool::read_back(&mut file, from, each));
                if read.is_err() {
                    return Output::Lost(LOST.to_owned());
                }
                let record = fs::read(dir.join(init::RECORD)).unwrap_or_default();
                match serve::read_record(&record) {
                    Some(Frame::Exited(exit)) => Output::Exited(exit),
                    Some(Frame::Lost(text)) => Output::Lost(text),
                    _ => Output::Lost(LOST.to_owned()),
                }
            },
            from,
        )
    }

    /// Gives back the space of the output, of a container that nobody serves any more.
    pub fn forget_output(&self) -> io::Result<()> {
        match File::options().write(true).open(self.0.join(init::SPOOL)) {
            Ok(file) => file.set_len(0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Ends every process of the container; returns when they are gone.
    pub fn kill(&self) -> io::Result<()> {
        let Ok(text) = fs::read_to_string(self.0.join(init::PID)) else { return Ok(()) };
        let mut numbers = text.split_whitespace();
        let pid = numbers.next().and_then(|n| n.parse::<i32>().ok());
        let (Some(pid), Some(started)) = (pid, numbers.next().and_then(|n| n.parse::<u64>().ok())) else {
            return Ok(());
        };
        Directory::kill_process(pid, Some(started))
    }

    /// Ends a supervisor with all its container; nothing if another process has its number by now.
    pub fn kill_process(pid: i32, started: Option<u64>) -> io::Result<()> {
        let Some(process) = open_process(pid)? else { return Ok(()) };
        // Asked for only after it was opened: so this is about the process that was opened.
        if started.is_none() || init::start_time(pid) != started {
            return Ok(());
        }
        // SAFETY: an open descriptor and plain integers.
        if unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) };
        }
        // Process 1 of a namespace ends last, so this waits for all.
        while let Err(nix::Error::EINTR) = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], 30_000u16) {}
        Ok(())
    }

    /// Removes all of it.
    pub fn remove(&self) -> io::Result<()> {
        if !self.exists() {
            return Ok(());
        }
        self.kill()?;
        cgroup::remove(&self.0);
        remove_tree(&self.0)
    }
}

fn open_process(pid: i32) -> io::Result<Option<OwnedFd>> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain integers; the result is checked before it is owned.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        fd if fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            e => Err(e),
        },
    }
}

/// How long a supervisor may take beyond the grace before it is ended by force.
pub const PATIENCE: Duration = Duration::from_secs(20);
