//! One running process as the event loop sees it: what is still to be written to it, and what it has written.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;

use super::process::{self, Running};
use crate::runtime::{Stream, WindowSize};

/// Bytes taken from a process at once.
pub const CHUNK: usize = 64 << 10;
/// How long output may still come after the end of a process whose children hold its pipes.
const DRAIN: Duration = Duration::from_millis(300);
/// What a terminal takes for the end of input (control-D).
const END_OF_INPUT: &[u8] = &[4];

/// A process, its unfinished input, and its end.
pub struct Pump {
    running: Running,
    pending: BytesMut,
    close: bool,
    status: Option<(i32, Instant)>,
    quiet: bool,
}

impl Pump {
    /// Around a process that has just started, with its first input.
    pub fn new(running: Running, stdin: &[u8]) -> Pump {
        Pump { running, pending: BytesMut::from(stdin), close: false, status: None, quiet: false }
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        self.running.pid
    }

    /// Whether it has a terminal.
    pub fn terminal(&self) -> bool {
        self.running.terminal
    }

    /// Bytes it has not taken yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// More input.
    pub fn input(&mut self, bytes: &[u8]) {
        if !self.close && self.running.input.is_some() {
            self.pending.extend_from_slice(bytes);
        }
        self.write();
    }

    /// The input ends after what is pending.
    pub fn close(&mut self) {
        if self.running.terminal && !self.close {
            self.input(END_OF_INPUT);
        }
        self.close = true;
        self.write();
    }

    /// Whoever was at the other end has gone. Closing the last descriptor of a terminal makes the kernel send SIGHUP.
    pub fn hang_up(&mut self) {
        if self.running.terminal {
            self.running.input = None;
            self.running.outputs.clear();
        } else {
            self.close();
        }
    }

    /// The terminal's new size.
    pub fn resize(&self, size: WindowSize) {
        if let Some(terminal) = self.running.input.as_ref().filter(|_| self.running.terminal) {
            process::resize(terminal, size);
        }
    }

    /// It ended with this status.
    pub fn ended(&mut self, status: i32) {
        self.status = Some((status, Instant::now() + DRAIN));
    }

    /// Its status, once all its output has been read as well.
    pub fn finished(&self) -> Option<i32> {
        let (status, until) = self.status?;
        let drained = self.running.outputs.is_empty() || (self.quiet && Instant::now() >= until);
        drained.then_some(status)
    }

    /// When to look again although nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.status.map(|(_, until)| until)
    }

    /// What to wait for; outputs only if someone has room for them.
    pub fn interests(&self, room: bool) -> Vec<PollFd<'_>> {
        use std::os::fd::AsFd;
        let outputs = self.running.outputs.iter().filter(|_| room).map(|(_, fd)| (fd, PollFlags::POLLIN));
        let input = self.running.input.iter().filter(|_| !self.pending.is_empty()).map(|fd| (fd, PollFlags::POLLOUT));
        outputs.chain(input).map(|(fd, flags)| PollFd::new(fd.as_fd(), flags)).collect()
    }

    /// Writes what can be written.
    pub fn write(&mut self) {
        while let Some(fd) = &self.running.input {
            if self.pending.is_empty() {
                if self.close && !self.running.terminal {
                    self.running.input = None;
                }
                return;
            }
            match nix::unistd::write(fd, &self.pending) {
                Ok(n) => self.pending.advance(n),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return,
                Err(_) => {
                    // It no longer reads.
                    self.pending.clear();
                    if !self.running.terminal {
                        self.running.input = None;
                    }
                    return;
                }
            }
        }
        self.pending.clear();
    }

    /// Reads one chunk of each output and hands it on.
    pub fn read(&mut self, buffer: &mut [u8], mut sink: impl FnMut(Stream, &[u8]) -> io::Result<()>) -> io::Result<()> {
        self.quiet = true;
        let mut index = 0;
        while index < self.running.outputs.len() {
            let (stream, fd) = &self.running.outputs[index];
            let (n, ended) = fill(fd, buffer);
            if n > 0 {
                self.quiet = false;
                sink(*stream, &buffer[..n])?;
            }
            if ended {
                self.running.outputs.remove(index);
            } else {
                index += 1;
            }
        }
        Ok(())
    }
}

/// Reads until the buffer is full or nothing is there; whether the end was reached.
fn fill(fd: &OwnedFd, buffer: &mut [u8]) -> (usize, bool) {
    let mut filled = 0;
    while filled < buffer.len() {
        match nix::unistd::read(fd, &mut buffer[filled..]) {
            Ok(0) => return (filled, true),
            Ok(n) => filled += n,
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return (filled, false),
            // EIO: the last process has closed the terminal.
            Err(_) => return (filled, true),
        }
    }
    (filled, false)
}

/// Writes as much of `bytes` as the descriptor takes now; `false` if its reader has gone.
pub fn write_some(fd: &impl AsRawFd, bytes: &mut BytesMut) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a live buffer.
        let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes.advance(n),
            Err(_) => match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                kind => return kind == io::ErrorKind::WouldBlock,
            },
        }
    }
    true
}
