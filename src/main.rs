//! Entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = whistlestop::runtime::supervisor::dispatch() {
        return code;
    }
    ExitCode::SUCCESS
}
