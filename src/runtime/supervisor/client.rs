//! One connection to a supervisor: what it asked for, and the bytes on their way to it.

use std::os::fd::{AsFd, OwnedFd};

use bytes::BytesMut;
use nix::poll::{PollFd, PollFlags};

use super::frame::{Decoder, Frame};
use super::pump::{Pump, write_some};
use super::spool::{Cursor, Spool};
use crate::runtime::Exit;

/// Bytes that may wait in either direction before the side that makes them must wait.
const LIMIT: usize = 256 << 10;

/// What a connection is for.
pub enum Role {
    /// It has not said yet.
    New,
    /// It gets the first process's output.
    Reader(Cursor),
    /// It is connected to a process of its own.
    Session(Box<Pump>),
    /// It waits for the first process's end.
    Stopping,
    /// It has been answered.
    Finished,
}

/// A connection.
pub struct Client {
    fd: OwnedFd,
    /// What it is for.
    pub role: Role,
    decoder: Decoder,
    out: BytesMut,
    receiving: bool,
}

impl Client {
    /// A connection that has not said what it wants.
    pub fn new(fd: OwnedFd) -> Client {
        Client { fd, role: Role::New, decoder: Decoder::default(), out: BytesMut::new(), receiving: true }
    }

    /// One that only gets output, from the first byte.
    pub fn reader(fd: OwnedFd) -> Client {
        Client { receiving: false, role: Role::Reader(Cursor::default()), ..Client::new(fd) }
    }

    /// Its own process.
    pub fn session(&self) -> Option<&Pump> {
        match &self.role {
            Role::Session(pump) => Some(pump),
            _ => None,
        }
    }

    /// Its own process, to change.
    pub fn session_mut(&mut self) -> Option<&mut Pump> {
        match &mut self.role {
            Role::Session(pump) => Some(pump),
            _ => None,
        }
    }

    /// What to wait for; `more` says that the spool has something for it.
    pub fn interests(&self, more: bool) -> Vec<PollFd<'_>> {
        let mut flags = PollFlags::empty();
        if self.receiving && self.session().is_none_or(|s| s.pending() < LIMIT) {
            flags |= PollFlags::POLLIN;
        }
        if more || !self.out.is_empty() {
            flags |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(self.fd.as_fd(), flags)];
        if let Role::Session(pump) = &self.role {
            fds.extend(pump.interests(self.out.len() < LIMIT));
        }
        fds
    }

    /// The frames that have arrived, and whether more can come.
    pub fn receive(&mut self, buffer: &mut [u8]) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        while self.receiving && self.session().is_none_or(|s| s.pending() < LIMIT) {
            match nix::unistd::read(&self.fd, buffer) {
                Ok(0) => self.receiving = false,
                Ok(n) => self.decoder.extend(&buffer[..n]),
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN) => break,
                Err(_) => self.receiving = false,
            }
            loop {
                match self.decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => {
                        self.receiving = false;
                        break;
                    }
                }
            }
            if frames.len() > 64 {
                break;
            }
        }
        (frames, self.receiving)
    }

    /// Passes an input frame to its process.
    pub fn input(&mut self, frame: Frame) {
        let Some(session) = self.session_mut() else { return };
        match frame {
            Frame::Input(bytes) => session.input(&bytes),
            Frame::Resize(size) => session.resize(size),
            Frame::Close => session.close(),
            Frame::HangUp => session.hang_up(),
            _ => {}
        }
    }

    /// Nothing more comes from it.
    pub fn input_ended(&mut self) {
        match &mut self.role {
            Role::Session(session) => session.hang_up(),
            Role::New => self.role = Role::Finished,
            _ => {}
        }
    }

    /// Queues a frame for it.
    pub fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.out);
    }

    /// Moves bytes between it and its process.
    pub fn pump_session(&mut self, buffer: &mut [u8]) {
        let Client { role: Role::Session(session), out, .. } = self else { return };
        session.write();
        if out.len() < LIMIT {
            // Appending to memory cannot fail.
            session
                .read(buffer, |stream, bytes| {
                    Frame::Data(stream, bytes::Bytes::copy_from_slice(bytes)).encode(out);
                    Ok(())
                })
                .ok();
        }
        if let Some(status) = session.finished() {
            self.send(&Frame::Exited(Exit::Status(status)));
            self.role = Role::Finished;
        }
    }

    /// Sends what it can take; `false` when it has all or is gone.
    pub fn transmit(&mut self, spool: &Spool, exit: Option<&Frame>, buffer: &mut [u8]) -> bool {
        loop {
            if !write_some(&self.fd, &mut self.out) {
                return false;
            }
            if !self.out.is_empty() {
                return true;
            }
            let Role::Reader(cursor) = &mut self.role else { break };
            if let Some(first) = cursor.first.take() {
                self.out.extend_from_slice(&first);
                continue;
            }
            match spool.read(cursor.position, buffer) {
                Ok(0) => {
                    let Some(exit) = exit else { break };
                    exit.encode(&mut self.out);
                    self.role = Role::Finished;
                }
                Ok(n) => {
                    cursor.position += n as u64;
                    self.out.extend_from_slice(&buffer[..n]);
                }
                Err(e) => {
                    Frame::Lost(format!("cannot read the spool: {e}")).encode(&mut self.out);
                    self.role = Role::Finished;
                }
            }
        }
        let mut gone = [PollFd::new(self.fd.as_fd(), PollFlags::empty())];
        let hung_up = nix::poll::poll(&mut gone, 0u8).is_ok_and(|n| n > 0);
        let answered = matches!(self.role, Role::Finished) && self.out.is_empty();
        !hung_up && !answered
    }
}
