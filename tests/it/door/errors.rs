//! What goes wrong is told with its remedy, and changes nothing else.

use std::process::Stdio;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::world::{PATIENCE, Runtime, World, binary, ended, until};

const HOST: &[&str] = &["--allow-host-rootfs"];

fn task(name: &str, script: &str) -> String {
    format!(
        "- name: {name}\n  plan:\n  - task: t\n    config:\n      platform: linux\n      rootfs_uri: host:///\n      \
         run: {{path: sh, args: [-c, {}]}}\n",
        serde_json::Value::from(script)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_pipeline_names_line_key_and_remedy_and_changes_nothing() {
    let world = World::new(Runtime::Embedded, HOST).await;
    let good = format!("jobs:\n{}", task("j", "true"));
    world.pipeline("p", &good).await;
    let before = world.fly(&["get-pipeline", "-p", "p"]).await;
    for (wrong, said) in [
        (good.replace("  plan:", "  plam:"), ["line 3", "unknown field \"plam\"", "did you mean `plan`?"]),
        (
            good.replace("  - task: t", "  - task: t\n    attempts: -1"),
            ["line 5", "attempts", "must be greater than 0"],
        ),
        (
            good.replace("  - task: t", "  - tsak: t"),
            ["line 4", "no step configured", "a step needs one of: get, put, task"],
        ),
        (good.replace("- name: j", "- name: j\n  serial: [1"), ["line 4, column 7", "did not find expected", "]"]),
        (format!("{good}  - get: nothing\n"), ["line 9", "unknown resource 'nothing'", "add it under `resources:`"]),
    ] {
        let file = world.file("wrong.yml", &wrong);
        let ended = world.try_fly(&["set-pipeline", "-n", "-p", "p", "-c", &file]).await;
        assert_eq!(ended.code, 1, "{wrong}\n{ended:?}");
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.iter().all(|part| told.contains(part)), "{said:?} in\n{told}\nof\n{wrong}");
        assert_eq!(world.fly(&["get-pipeline", "-p", "p"]).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_with_tags_needs_a_worker_that_has_them() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs", "--tag", "gpu"]).await;
    let tagged = |job: &str, tag: &str| {
        let get = format!("  - get: m\n    tags: [{tag}]\n  - task: t");
        task(job, "true")
            .replace("  - task: t", &get)
            .replace("    config:", &format!("    tags: [{tag}]\n    config:"))
    };
    let resource = "resources: [{name: m, type: mock, source: {initial_version: one}}]\njobs:\n";
    world.pipeline("p", &format!("{resource}{}{}", tagged("fits", "gpu"), tagged("waits", "arm"))).await;
    assert_eq!(world.try_fly(&["trigger-job", "-w", "-j", "p/fits"]).await.code, 0);
    let ended = world.try_fly(&["trigger-job", "-w", "-j", "p/waits"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    for said in ["no workers satisfying: platform 'linux', tag 'arm'", "has 'gpu'", "--tag"] {
        assert!(ended.stdout.contains(said), "{said} in {ended:?}");
    }
    assert_eq!(world.api("workers").await[0]["tags"], serde_json::json!(["gpu"]));
}

#[tokio::test]
async fn without_docker_it_says_what_was_tried_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["serve", "--bind-ip", "127.0.0.1", "--bind-port", "0", "--runtime", "docker", "--state-dir"]);
    command.arg(directory.path()).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ended = ended(command).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for said in ["/nonexistent/docker.sock", "DOCKER_HOST", "--runtime embedded"] {
        assert!(ended.stderr.contains(said), "{said} in {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_a_state_directory_is_refused() {
    let mut world = World::new(Runtime::Embedded, &[]).await;
    let ended = ended(world.serve()).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("already serves the role web on"), "{ended:?}");
    assert!(ended.stderr.contains("--state-dir"), "{ended:?}");
    world.api("info").await;
    assert!(world.stop().await.success());
}

/// What a server on a new state directory says about `word` when it starts, whatever it logs else.
async fn hint(flags: &[&str], word: &str) -> (String, String) {
    let directory = tempfile::Builder::new().prefix("first start ").tempdir().unwrap();
    let mut command = binary();
    command.args(["serve", "--bind-ip", "127.0.0.1", "--bind-port", "0", "--runtime", "embedded", "--state-dir"]);
    let mut server = command.arg(directory.path()).args(flags).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let told = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(word) {
                return line;
            }
        }
        panic!("{flags:?}: it does not say {word:?}")
    });
    let told = told.await.unwrap_or_else(|_| panic!("{flags:?}: it does not say {word:?}"));
    server.kill().await.unwrap();
    (told, directory.path().display().to_string())
}

#[tokio::test]
async fn a_first_start_without_a_user_says_how_to_add_one() {
    for flags in [&[][..], &["--log-level", "error"], &["--log-level", "error", "--log-format", "json"]] {
        let (told, state) = hint(flags, "nobody can sign in yet").await;
        let program = env!("CARGO_BIN_EXE_whistlestop");
        let expected = format!("`{program} user add NAME --state-dir '{state}'`");
        assert!(told.contains(&expected) && told.contains("--main-team-local-user NAME"), "{told}");
        assert_eq!(told.starts_with('{'), flags.len() > 2, "{told}");
    }
}

#[tokio::test]
async fn a_first_start_without_a_member_of_main_says_how_to_name_one() {
    let (told, _) = hint(&["--add-local-user", "ann:b"], "nobody is in the team main").await;
    assert!(told.contains("--main-team-local-user ann,"), "{told}");
    let flags = ["--add-local-user", "ann:b", "--main-team-local-user", "bob", "--log-level", "error"];
    let (told, state) = hint(&flags, "bob owns the team main but cannot sign in").await;
    assert!(told.contains(&format!("user add bob --state-dir '{state}'`")), "{told}");
}

#[tokio::test]
async fn a_reader_who_goes_ends_a_command_quietly() {
    for args in [&["schema"][..], &["fly", "--help"], &["--help"], &["doctor", "--runtime", "embedded"]] {
        let mut command = binary();
        command.args(args).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert!(output.status.code().is_some_and(|code| code != 101), "{args:?}: {output:?}");
    }
}

/// A small disk, taken away at the end.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(place: std::path::PathBuf, size: &str) -> Disk {
        std::fs::create_dir_all(&place).unwrap();
        let size = format!("size={size}");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .expect("this test mounts a file system, so it must be run as root");
        Disk(place)
    }

    fn resize(&self, size: &str) {
        let size = format!("size={size}");
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT, Some(size.as_str())).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_build_and_not_the_server() {
    let directory = tempfile::Builder::new().prefix("whistlestop-door-").tempdir().unwrap();
    let disk = Disk::new(directory.path().join("small"), "24m");
    // Less than the mark for real disks; builds wait below it, and go on by themselves when there is room.
    let flags = [HOST, &["--low-disk-watermark", "1MB"]].concat();
    let mut world = World::on(directory, disk.0.join("state"), Runtime::Embedded, &flags, &[]).await;
    let endless = task("endless", "base64 /dev/urandom");
    world.pipeline("p", &format!("jobs:\n{endless}{}", task("small", "echo fits"))).await;
    let build = world.trigger("p", "endless").await;
    assert_eq!(world.finish(build).await, "errored", "{}", world.log());
    assert!(world.lives(), "{}", world.log());
    disk.resize("200m");
    let log = world.watch(build).await;
    let last: Vec<&str> = log.lines().rev().take(3).collect();
    assert!(last.iter().any(|line| line.contains("disk") && line.contains("full")), "{last:?}\n{}", world.log());

    let next = world.trigger("p", "small").await;
    assert_eq!(world.finish(next).await, "succeeded", "{}\n{}", world.watch(next).await, world.log());
    assert!(world.stop().await.success());
    world.start().await;
    let log = until("the database opens", Duration::from_secs(5), async || Some(world.watch(next).await)).await;
    assert!(log.contains("fits\n"), "{log}");
    drop(world);
}
