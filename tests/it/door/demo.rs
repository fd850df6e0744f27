//! The demo goes green by itself, for root and for anybody.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::world::{PATIENCE, binary, clear, ended, run, until};

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

/// The tags of the repository that a demo in `base` has released, and its commits.
async fn released(base: &Path) -> (String, String) {
    let git = |args: &'static [&'static str]| {
        let repository = base.join("hello.git").display().to_string();
        async move { run(Path::new("/"), "git", &[&["-c", "safe.directory=*", "-C", &repository], args].concat()).await }
    };
    (
        git(&["tag", "--format=%(objectname:short=7) %(refname:short)"]).await,
        git(&["log", "--format=%h", "--abbrev=7"]).await,
    )
}

#[tokio::test]
async fn what_it_releases_is_in_its_repository() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("kept");
    let ended = ended(demo(home.path(), &["--state-dir", base.to_str().unwrap()])).await;
    clear(&base.join("state")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let (tags, commits) = released(&base).await;
    assert_eq!(tags, format!("{commits} tested-{commits}"));
}

#[tokio::test]
async fn settings_are_those_of_serve_wherever_they_come_from() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("of the file");
    let settings = home.path().join("settings.yml");
    std::fs::write(&settings, format!("state-dir: {}\n", base.display())).unwrap();
    let mut command = demo(home.path(), &["--config", settings.to_str().unwrap()]);
    command.env("WHISTLESTOP_RUNTIME", "docker").env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ended = ended(command).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("/nonexistent/docker.sock"), "{ended:?}");
    assert!(base.join("state/state.db").exists(), "{ended:?}");
}

#[tokio::test]
async fn what_it_tells_to_type_runs_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("kept");
    // By a relative path, as cargo starts it, and with a PATH that does not lead there.
    let (directory, name) = (Path::new(env!("CARGO_BIN_EXE_whistlestop")).parent().unwrap(), "./whistlestop");
    let mut command = Command::new(name);
    command
        .args(["demo", "--bind-port", "0", "--state-dir"])
        .arg(&base)
        .current_dir(directory)
        .env("HOME", home.path());
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let is_last = line.contains("git clone ");
        told.extend(line.strip_prefix("  ").filter(|line| !line.starts_with("sign in")).map(str::to_owned));
        if is_last {
            break;
        }
    }
    assert_eq!(told.len(), 5, "{told:?}");
    for line in told {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &line]).current_dir(home.path()).env("HOME", home.path());
        let ended = ended(shell).await;
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
    }
    assert!(home.path().join("hello/greet.sh").exists());
    server.kill().await.unwrap();
    clear(&base.join("state")).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("kept");
    let mut command = binary();
    command.args(["demo", "--bind-port", "0", "--state-dir"]).arg(&base).env("HOME", home.path());
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id().unwrap()).unwrap());
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let address = first.strip_prefix("whistlestop demo: http://").unwrap().to_owned();

    // A request whose body does not come to an end, so that the server waits for it.
    let mut held = TcpStream::connect(&address).await.unwrap();
    let head = "POST /sky/issuer/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                content-length: 99\r\nexpect: 100-continue\r\n\r\n";
    held.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, held.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");

    kill(pid, Signal::SIGTERM).unwrap();
    until("the first signal is heard", PATIENCE, async || TcpStream::connect(&address).await.err()).await;
    assert!(server.try_wait().unwrap().is_none(), "nothing held it");
    kill(pid, Signal::SIGTERM).unwrap();
    tokio::time::timeout(PATIENCE, server.wait()).await.expect("it does not stop").unwrap();
    clear(&base.join("state")).await;
}

#[tokio::test]
async fn a_reader_who_goes_ends_it_quietly() {
    let home = tempfile::tempdir().unwrap();
    let mut command = demo(home.path(), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
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
    let base = home.path().join("kept");
    command.arg("--state-dir").arg(&base);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir(home.path());
    command.env("HOME", home.path()).env("TMPDIR", home.path());
    let ended = ended(command).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.ends_with("green: test, release\n"), "{ended:?}");
    clear(&base.join("state")).await;
    let (tags, commits) = released(&base).await;
    assert_eq!(tags, format!("{commits} tested-{commits}"));
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
