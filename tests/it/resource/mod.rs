//! Native types as programs: the hidden command, and the binary placed in an image.

mod registry;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_whistlestop");

fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // Who knows the answer at once does not read.
    child.stdin.take().expect("it is piped").write_all(stdin.as_bytes()).ok();
    child.wait_with_output().expect("it ends")
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn script(args: &[&str], stdin: &str) -> (i32, String, String) {
    texts(&run(Command::new(BINARY).arg("resource").args(args), stdin))
}

/// Runs a path of another root, as root or as root of a user namespace of its own.
fn in_root(root: &Path, args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("chroot")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "chroot"]);
        command
    };
    texts(&run(command.arg(root).args(args), stdin))
}

#[test]
fn the_hidden_command_speaks_the_contract() {
    let (status, stdout, stderr) = script(&["mock", "check"], r#"{"source":{"log":"hello"}}"#);
    assert_eq!((status, stdout.as_str()), (0, "[{\"version\":\"mock\"}]\n"));
    assert!(stderr.contains("INFO") && stderr.contains("hello"), "{stderr}");
    let (status, stdout, _) = script(&["time", "check"], r#"{"source":{},"version":{"time":"2999-01-01T00:00:00Z"}}"#);
    assert_eq!((status, stdout.as_str()), (0, "[{\"time\":\"2999-01-01T00:00:00Z\"}]\n"));
    for (args, stdin, text) in [
        (&["mock", "check"][..], r#"{"source":{"check_failure":"boom"}}"#, "intentionally failing to check: boom"),
        (&["mock", "check"], r#"{"source":{},"extra":1}"#, "invalid payload: unknown field `extra`"),
        (&["git", "check"], r#"{"source":{"uri":"/r"}}"#, "--allow-local-git"),
        (
            &["s3", "check"],
            "{}",
            "there is no built-in resource type \"s3\": it is one of git, mock, registry-image, time",
        ),
        (&["mock", "in"], r#"{"source":{},"version":{"version":"1"}}"#, "usage: /opt/resource/in <directory>"),
        (&["mock"], "", "usage: whistlestop resource NAME check|in|out [DIR]"),
    ] {
        let (status, stdout, stderr) = script(args, stdin);
        assert_eq!((status, stdout.as_str()), (1, ""), "{args:?}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
}

#[test]
fn a_script_that_is_asked_to_stop_stops() {
    let mut child = Command::new(BINARY)
        .args(["resource", "mock", "check"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let request = br#"{"source":{"log":"waiting","check_delay":"1h"}}"#;
    child.stdin.take().expect("it is piped").write_all(request).expect("it reads");
    // The first byte of the log says that it listens for the signal.
    let mut first = [0];
    std::io::Read::read_exact(child.stderr.as_mut().expect("it is piped"), &mut first).expect("it logs");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("it fits"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it lives");
    child.wait().expect("it ends");
}

#[test]
fn a_mirror_runs_as_an_image_and_mirrors_itself_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = r#"{"source":{"mirror_self":true},"version":{"version":"1"}}"#;
    let path = dir.path().to_str().expect("it is text");
    let (status, stdout, stderr) = script(&["mock", "in", path], request);
    assert_eq!((status, stdout.as_str()), (0, "{\"version\":{\"version\":\"1\"},\"metadata\":[]}\n"), "{stderr}");
    assert!(stderr.contains("the image has the scripts only"), "{stderr}");
    let root = dir.path().join("rootfs");
    let (status, stdout, stderr) = in_root(&root, &["/opt/resource/check"], r#"{"source":{"force_version":"2"}}"#);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("[{\"") && stdout.contains("\"version\":\"2\""), "{stdout}");
    let (status, _, stderr) = in_root(&root, &["/opt/resource/in", "/tmp"], request);
    assert_eq!(status, 0, "{stderr}");
    let again = root.join("tmp/rootfs");
    let (status, stdout, stderr) =
        in_root(&again, &["/opt/resource/out", "/tmp"], r#"{"source":{},"params":{"version":"3"}}"#);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("\"version\":\"3\""), "{stdout}");
}

#[test]
fn a_script_without_its_type_says_what_is_missing() {
    let (status, _, stderr) = texts(&run(Command::new(BINARY).arg0("/opt/resource/check"), "{}"));
    assert_eq!(status, 1);
    assert!(stderr.contains("cannot read /opt/resource/type"), "{stderr}");
}
