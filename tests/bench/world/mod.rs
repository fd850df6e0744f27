//! What the images of the tests ask of their world.

use std::path::Path;

/// Runs a program that must succeed.
pub async fn run(directory: &Path, program: &str, args: &[&str]) -> String {
    let output = tokio::process::Command::new(program).args(args).current_dir(directory).output().await.unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
