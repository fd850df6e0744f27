//! The supervisor's event loop: one thread, no allocation per byte, nothing that waits but `poll`.
//!
//! Output goes process → spool → readers, each at a pace of its own: a reader that hangs delays nobody, and the
//! process waits only for the disk. After the first process has ended the loop goes on, so that a finished
//! container can still be entered; whoever removes the container kills it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::client::{Client, Role};
use super::descendants;
use super::frame::Frame;
use super::memory::MemoryEvents;
use super::process::{self, Confine, Surroundings};
use super::pump::{CHUNK, Pump};
use super::spool::Spool;
use crate::runtime::{Exit, Process, Stream};

/// How often SIGKILL is repeated: a process that forks as fast as it is killed may slip through once.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// What a supervisor works with.
pub struct Supervisor<'a> {
    /// Where the first process's output goes.
    pub spool: Spool,
    /// Where its end is recorded. That the file exists means: the process may have been started.
    pub record: File,
    /// Where requests arrive.
    pub listener: UnixListener,
    /// What confines each new process.
    pub confine: &'a dyn Confine,
    /// Bytes that the first process may write; it is ended beyond.
    pub most_output: Option<u64>,
    /// Counts of what the kernel ended for want of memory.
    pub memory: Option<MemoryEvents>,
}

/// Said instead of the exit of a process that someone other than the server told to end.
pub const TOLD_TO_END: &str =
    "the container was told to end from outside: its engine or host was shut down or restarted, or someone stopped it";

struct State<'a> {
    with: Supervisor<'a>,
    main: Option<Pump>,
    exit: Option<Frame>,
    clients: Vec<Client>,
    signals: SignalFd,
    /// The first process's environment, which those who enter later share.
    env: Vec<String>,
    /// When to send SIGKILL.
    kill_at: Option<Instant>,
    /// Someone else told the container to end: an engine that shuts down, an operator. Our own server asks with a frame.
    told_to_end: bool,
}

/// Keeps this process's memory and descriptors from every other in its container, of whichever user.
pub fn close_to_others() {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Blocks the signals that [`Supervisor::run`] reads; call it before anything else can be interrupted.
pub fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

impl Supervisor<'_> {
    /// Starts the process and serves until killed. `reader` gets all output from the first byte.
    pub fn run(mut self, process: &Process, signals: SignalFd, reader: Option<OwnedFd>) -> io::Error {
        let surroundings = Surroundings { make_dir: true, confine: self.confine };
        let started = process::start(process, &surroundings);
        let mut state = match started {
            Ok(running) => {
                let mut pump = Pump::new(running, &process.stdin);
                if process.tty.is_none() {
                    pump.close();
                }
                // Should this fail, the first data will fail as well and say so.
                self.spool.frame(&Frame::Started).ok();
                State {
                    with: self,
                    main: Some(pump),
                    exit: None,
                    clients: Vec::new(),
                    signals,
                    env: process.env.clone(),
                    kill_at: None,
                    told_to_end: false,
                }
            }
            Err(exit) => {
                let mut state = State {
                    with: self,
                    main: None,
                    exit: None,
                    clients: Vec::new(),
                    signals,
                    env: process.env.clone(),
                    kill_at: None,
                    told_to_end: false,
                };
                state.finish(Frame::Exited(exit));
                state
            }
        };
        state.clients.extend(reader.map(Client::reader));
        loop {
            if let Err(e) = state.turn() {
                return e;
            }
        }
    }
}

impl State<'_> {
    /// Waits for something and deals with all that is there.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.take_signals();
        self.accept();
        let mut buffer = [0; CHUNK];
        self.run_main(&mut buffer);
        for index in (0..self.clients.len()).rev() {
            if !self.serve(index, &mut buffer) {
                self.clients.swap_remove(index);
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.with.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.main.iter().flat_map(|main| main.interests(true)));
        let more = |client: &Client| self.has_more(client);
        fds.extend(self.clients.iter().flat_map(|client| client.interests(more(client))));
        let sessions = self.clients.iter().filter_map(|c| c.session());
        let deadlines = self.main.iter().chain(sessions).filter_map(Pump::deadline).chain(self.kill_at);
        let timeout = match deadlines.min() {
            Some(at) => {
                let rest = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a reader has something to be sent that it has not got.
    fn has_more(&self, client: &Client) -> bool {
        match &client.role {
            Role::Reader(cursor) => cursor.position < self.with.spool.end() || self.exit.is_some(),
            _ => false,
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(Signal::SIGQUIT) => {
                    self.kill_at = Some(Instant::now());
                }
                Ok(other) => {
                    // A signal from beyond this namespace has no sender in it.
                    let from_outside = info.ssi_pid == 0;
                    self.told_to_end |= from_outside && other == Signal::SIGTERM && self.main.is_some();
                    descendants::signal(other, &self.visitors());
                }
            }
        }
        self.reap();
        if self.kill_at.is_some_and(|at| Instant::now() >= at) {
            descendants::signal(Signal::SIGKILL, &self.visitors());
            self.kill_at = self.main.is_some().then(|| Instant::now() + KILL_AGAIN);
        }
    }

    fn visitors(&self) -> Vec<Pid> {
        self.clients.iter().filter_map(|c| c.session().map(Pump::pid)).collect()
    }

    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, status),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return,
                _ => continue,
            };
            if let Some(main) = self.main.as_mut().filter(|m| m.pid() == pid) {
                main.ended(status);
                // What it left behind must not write to volumes that others now read.
                descendants::signal(Signal::SIGKILL, &self.visitors());
            } else if let Some(session) =
                self.clients.iter_mut().filter_map(Client::session_mut).find(|s| s.pid() == pid)
            {
                session.ended(status);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.with.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client::new(stream.into()));
            }
        }
    }

    fn run_main(&mut self, buffer: &mut [u8]) {
        let Some(main) = &mut self.main else { return };
        main.write();
        let spool = &mut self.with.spool;
        if let Err(e) = main.read(buffer, |stream, bytes| spool.data(stream, bytes)) {
            let what = if e.kind() == io::ErrorKind::StorageFull { "the disk is full" } else { "the disk failed" };
            self.finish(Frame::Lost(format!("{what}: output of the process cannot be kept, so it was ended ({e})")));
            descendants::signal(Signal::SIGKILL, &self.visitors());
        } else if let Some(most) = self.with.most_output.filter(|most| spool.payload() > *most) {
            let text =
                format!("the step wrote more than the {most} bytes that --max-step-output allows, so it was ended");
            self.finish(Frame::Lost(text));
            descendants::signal(Signal::SIGKILL, &self.visitors());
        } else if let Some(status) = main.finished() {
            if let Some(text) = self.with.memory.as_ref().and_then(MemoryEvents::told) {
                let end = if main.terminal() { "\r\n" } else { "\n" };
                let stream = if main.terminal() { Stream::Stdout } else { Stream::Stderr };
                // A word that does not fit on the disk any more is only a word.
                spool.data(stream, format!("{text}{end}").as_bytes()).ok();
            }
            // How a process ends that was told to says nothing of its work.
            self.finish(if self.told_to_end {
                Frame::Lost(TOLD_TO_END.to_string())
            } else {
                Frame::Exited(Exit::Status(status))
            });
        }
    }

    /// Records the end. The record's space was taken beforehand, so this works on a full disk.
    fn finish(&mut self, end: Frame) {
        self.with.record.write_all_at(&end.to_bytes(), 0).ok();
        self.exit = Some(end);
        self.main = None;
        self.kill_at = None;
    }

    /// One client's turn; `false` when it is done with or gone.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let (frames, connected) = self.clients[index].receive(buffer);
        for frame in frames {
            self.request(index, frame);
        }
        if !connected {
            self.clients[index].input_ended();
        }
        let State { clients, with, exit, .. } = self;
        let client = &mut clients[index];
        if matches!(client.role, Role::Stopping) && exit.is_some() {
            client.send(&Frame::Done);
            client.role = Role::Finished;
        }
        client.pump_session(buffer);
        client.transmit(&with.spool, exit.as_ref(), buffer)
    }

    fn request(&mut self, index: usize, frame: Frame) {
        match frame {
            Frame::Attach(from) => match self.with.spool.seek(from) {
                Ok(cursor) => self.clients[index].role = Role::Reader(cursor),
                Err(e) => self.refuse(index, format!("cannot read the spool: {e}")),
            },
            Frame::Exec(process) => self.exec(index, &process),
            Frame::Stop(_) if self.exit.is_some() => {
                self.clients[index].send(&Frame::HadEnded);
                self.clients[index].role = Role::Finished;
            }
            Frame::Stop(grace) => {
                self.clients[index].role = Role::Stopping;
                descendants::signal(Signal::SIGTERM, &self.visitors());
                let at = Instant::now() + grace;
                self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
            }
            Frame::Signal(number) => {
                if let (Some(main), Ok(signal)) = (&self.main, Signal::try_from(number)) {
                    nix::sys::signal::kill(main.pid(), signal).ok();
                }
                self.clients[index].send(&Frame::Done);
                self.clients[index].role = Role::Finished;
            }
            Frame::Forget => {
                if self.exit.is_some() {
                    self.with.spool.forget().ok();
                }
                self.clients[index].send(&Frame::Done);
                self.clients[index].role = Role::Finished;
            }
            input => self.clients[index].input(input),
        }
    }

    fn refuse(&mut self, index: usize, text: String) {
        self.clients[index].send(&Frame::Lost(text));
        self.clients[index].role = Role::Finished;
    }

    fn exec(&mut self, index: usize, process: &Process) {
        let surroundings = Surroundings { make_dir: false, confine: self.with.confine };
        let process = &Process { env: beside(&self.env, &process.env), ..process.clone() };
        let client = &mut self.clients[index];
        match process::start(process, &surroundings) {
            Ok(running) => {
                client.send(&Frame::Started);
                client.role = Role::Session(Box::new(Pump::new(running, &process.stdin)));
            }
            Err(exit) => {
                client.send(&Frame::Exited(exit));
                client.role = Role::Finished;
            }
        }
    }
}

/// The container's environment under a process's own.
fn beside(container: &[String], own: &[String]) -> Vec<String> {
    let name = |pair: &String| pair.split_once('=').map_or(pair.clone(), |(name, _)| name.to_owned());
    let named: Vec<String> = own.iter().map(name).collect();
    let kept = container.iter().filter(|pair| !named.contains(&name(pair))).cloned();
    kept.chain(own.iter().cloned()).collect()
}

/// Opens the record of an end and takes the space that the longest end can need.
pub fn create_record(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // SAFETY: plain integers.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 8192) } < 0 {
        file.write_all_at(&[0; 8192], 0)?;
    }
    Ok(file)
}

/// What a record says; `None` if the process had not ended.
pub fn read_record(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = super::frame::Decoder::default();
    decoder.extend(bytes);
    decoder.next_frame().ok().flatten()
}
