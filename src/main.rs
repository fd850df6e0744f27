//! Entry point: hands over to what the process was started for.

use std::ffi::OsString;
use std::process::ExitCode;

use whistlestop::{cli, resource, runtime};

fn main() -> ExitCode {
    // Before anything else: as a step's supervisor or a resource's script this is a small program of one thread.
    if let Some(code) = runtime::supervisor::dispatch() {
        return code;
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    let status = resource::child::dispatch(&args).unwrap_or_else(|| cli::main(args));
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}
