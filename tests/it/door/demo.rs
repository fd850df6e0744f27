//! The demo goes green by itself, for root and for anybody.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::process::Command;

use super::world::{binary, ended};

fn demo(home: &Path, args: &[&str]) -> Command {
    let mut command = binary();
    command.args(["demo", "--once"]).args(args).env("HOME", home).env("TMPDIR", home).current_dir(home);
    command
}

/// What the demo left in its temporary directory.
fn left(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    entries.filter(|n| n.starts_with("whistlestop-demo")).collect()
}

#[tokio::test]
async fn once_is_green_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let ended = ended(demo(home.path(), &[])).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.ends_with("green: test, release\n"), "{ended:?}");
    for next in ["fly -t demo login -c http://127.0.0.1:", "fly -t demo watch -j demo/test", "git clone "] {
        assert!(ended.stdout.contains(next), "{ended:?}");
    }
    assert_eq!(ended.stderr, "");
    assert_eq!(left(home.path()), [""; 0]);
}

#[tokio::test]
async fn once_is_green_for_an_ordinary_user() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes somebody else, so it must be run as root");
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
    // The binary may be below a directory that only root can enter.
    let copy = home.path().join("whistlestop");
    std::fs::copy(env!("CARGO_BIN_EXE_whistlestop"), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["demo", "--once"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir(home.path());
    command.env("HOME", home.path()).env("TMPDIR", home.path());
    let ended = ended(command).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.ends_with("green: test, release\n"), "{ended:?}");
    assert_eq!(left(home.path()), [""; 0]);
}

#[tokio::test]
async fn once_says_why_it_is_not_green_in_time() {
    let home = tempfile::tempdir().unwrap();
    let ended = ended(demo(home.path(), &["--timeout", "1ms"])).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: not green within 1ms: test "), "{ended:?}");
    assert_eq!(left(home.path()), [""; 0]);
}
