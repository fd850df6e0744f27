//! `supervise --network`: a network that belongs to a user namespace as steps have, so that a step's root may open raw
//! sockets in it. The server has many threads, so it cannot make one itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;

use crate::runtime::namespaces;

/// Has one made by a process of our own binary `exe`. It lives as long as the descriptor or a process in it.
pub fn namespace(exe: &Path) -> io::Result<OwnedFd> {
    let mut child = Command::new(exe)
        .args(["supervise", "--network"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut answer = String::new();
    let said = match child.stdout.take() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut answer),
        None => Ok(0),
    };
    let made = said.and_then(|_| match answer.trim_end().parse::<i32>() {
        Ok(fd) => File::open(format!("/proc/{}/fd/{fd}", child.id())),
        Err(_) => Err(io::Error::other(answer.trim_end().to_owned())),
    });
    // This closes its standard input, which it waits for.
    child.wait()?;
    made.map(OwnedFd::from)
}

/// Tells the number of its descriptor, or what is wrong, and holds it until standard input ends.
pub fn run() -> u8 {
    let made = namespaces::separate(CloneFlags::CLONE_NEWNET);
    let answer = match made.as_ref().map(|made| made.network.as_ref()) {
        Ok(Some(network)) => network.as_raw_fd().to_string(),
        Ok(None) => "no network was made".to_owned(),
        Err(error) => error.to_string(),
    };
    let told = writeln!(io::stdout(), "{answer}");
    io::stdin().read_to_end(&mut Vec::new()).ok();
    u8::from(made.is_err() || told.is_err())
}
