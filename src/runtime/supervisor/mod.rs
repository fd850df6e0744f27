//! The process that outlives the server: it starts a step's process, keeps its output and its end, lets people in.
//!
//! One core (`serve`) with two ways in. Embedded, it is process 1 of a container of our own making and listens on
//! a socket in the container's directory. In Docker it is process 1 of a Docker container (`pid1`). Both speak the
//! frames of `frame`; `link` is the server's side of them.
//!
//! It has one thread and no runtime, because it is there once for each container and must start within a
//! millisecond. So `main` calls [`dispatch`] before anything else.

mod account;
mod client;
mod descendants;
pub mod frame;
pub mod link;
pub(super) mod memory;
mod ownership;
pub mod pid1;
pub(super) mod process;
mod program;
mod pump;
pub(super) mod serve;
pub(super) mod spool;

use std::process::ExitCode;

/// Does the work of `whistlestop supervise …` if that is what was called; `None` for any other command line.
///
/// Hidden from the command line's help: only the server itself calls it.
pub fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != "supervise" {
        return None;
    }
    let mode = args.next().unwrap_or_default();
    let value = args.next();
    let value = value.as_deref().and_then(|v| v.to_str()).unwrap_or_default();
    let code = match (mode.to_str().unwrap_or_default(), value) {
        ("--pid1", most) => pid1::run(most.parse().ok()),
        ("--pid1-privileged", most) => pid1::run_privileged(most.parse().ok()),
        ("--wait", "") => pid1::wait(),
        ("--exec", "") => pid1::exec(),
        ("--read", from) => from.parse().map_or(2, pid1::read),
        ("--container", dir) => super::embedded::init::run(dir),
        ("--probe", dir) => super::embedded::run_probe(dir),
        ("--network", "") => super::network::owned::run(),
        ("--volume", job) => super::embedded::run_archive(job),
        _ => 2,
    };
    if code == 2 {
        eprintln!(
            "usage: supervise --pid1[-privileged] [BYTES] | --wait | --exec | --read OFFSET | --container DIR | --network | --volume JOB | --probe DIR"
        );
    }
    Some(ExitCode::from(code))
}
