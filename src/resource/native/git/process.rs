//! One git process: its output as it comes, and its end when nobody wants it any more.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often a silent process is asked whether it is still wanted.
const POLL: Duration = Duration::from_millis(25);

/// Which pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Runs `command` to its end, or kills it with all it started as soon as `cancelled`, or as soon as `output` does not
/// want to hear more of it; then the answer is `None`.
pub fn run(
    command: &mut Command,
    stdin: &[u8],
    cancelled: &(dyn Fn() -> bool + Send + Sync),
    mut output: impl FnMut(Pipe, &[u8]) -> bool,
) -> io::Result<Option<ExitStatus>> {
    let mut child = command
        .process_group(0)
        .stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Bounded, so that what is not looked at yet does not pile up here.
    let (sender, receiver) = sync_channel(64);
    std::thread::scope(|scope| {
        let (out, err, input) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let (to_out, to_err) = (sender.clone(), sender);
        scope.spawn(move || pump(out, Pipe::Out, &to_out));
        scope.spawn(move || pump(err, Pipe::Err, &to_err));
        // A process that does not read its input to the end is no error of ours.
        scope.spawn(move || input.map(|mut pipe| pipe.write_all(stdin)));
        loop {
            match receiver.recv_timeout(POLL) {
                Ok((pipe, bytes)) => {
                    if !output(pipe, &bytes) || cancelled() {
                        // What still writes to the pipes would wait for us.
                        drop(receiver);
                        kill(&mut child)?;
                        return Ok(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return end(&mut child, cancelled),
                Err(RecvTimeoutError::Timeout) if cancelled() => {
                    drop(receiver);
                    kill(&mut child)?;
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })
}

fn pump(pipe: Option<impl Read>, which: Pipe, to: &SyncSender<(Pipe, Vec<u8>)>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        if to.send((which, buffer[..n].to_vec())).is_err() {
            return;
        }
    }
}

/// Waits for a process that has closed its pipes, which may be a little before its end.
fn end(child: &mut Child, cancelled: &(dyn Fn() -> bool + Send + Sync)) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancelled() {
            kill(child)?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(child: &mut Child) -> io::Result<()> {
    if let Ok(id) = i32::try_from(child.id()) {
        // The group is gone already where this fails.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    child.wait().map(drop)
}
