//! Entry point.
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: as a resource script this is a small program of one thread.
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(status) = whistlestop::resource::child::dispatch(&args) {
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    ExitCode::SUCCESS
}
