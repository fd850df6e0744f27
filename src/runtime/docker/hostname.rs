//! The name of a container's host, given from outside: a container that joins another's network cannot be made with one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};

/// Names the host of a process, if it is one of the container with that id: an engine on another host has processes of
/// other numbers.
pub fn give(process: i64, container: &str, name: String) -> io::Result<()> {
    let of = format!("/proc/{process}");
    let namespace = File::open(format!("{of}/ns/uts"))?;
    if !std::fs::read_to_string(format!("{of}/cgroup"))?.contains(container) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the container is not on this host"));
    }
    // A thread of its own, which ends in the other namespace.
    let thread = std::thread::Builder::new().name("hostname".into()).spawn(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::sethostname(name)
    })?;
    let done = thread.join().unwrap_or(Err(nix::Error::EINTR));
    done.map_err(io::Error::from)
}
