//! Files of pipelines and tasks: as the commands that need no server judge them, and as the server takes and gives them.

mod door;
mod fuzz;
mod schema;
mod validate;
mod verdicts;

use std::path::Path;
use std::process::{Command, Output};

/// Our own program with these arguments.
fn run(args: &[&str], directory: &Path, stdin: &[u8]) -> Output {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_whistlestop"));
    command.args(args).current_dir(directory).stdin(std::process::Stdio::piped());
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // A program that does not read its input closes it; that is its own business.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
