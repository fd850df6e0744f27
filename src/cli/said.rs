//! What the operator's commands say on standard output. Whoever reads it may go at any time, as `head` does; then they
//! end quietly, as the shell's own programs.

use std::io::{self, Write};

/// Nobody reads any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub struct Unread;

/// The exit status of a program that a closed pipe ends.
pub const UNREAD: i32 = 128 + libc::SIGPIPE;

/// Writes a text as it is.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        done => done.map_err(|error| anyhow::Error::from(error).context("cannot write the answer")),
    }
}

/// Writes a line.
pub fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// Tells why a command did not succeed, and gives its exit status.
pub fn failure(error: &anyhow::Error) -> i32 {
    if error.is::<Unread>() {
        return UNREAD;
    }
    complain(&format!("error: {error:#}"));
    1
}

/// A line on standard error, if anybody reads it.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
