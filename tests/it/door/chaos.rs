//! kill -9 of whatever, at any moment: no build without an end, and nothing left behind.
//!
//! A few rounds in the usual run; `WHISTLESTOP_CHAOS=1000` for as many as wanted, and then the disk must be as it was
//! before: what nothing needs goes a minute after it was made.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::image::rootfs_type;
use super::restart::Engine;
use super::world::{PATIENCE, Runtime, World, binary, ended, until};

const ROUNDS: u64 = 6;
/// An engine takes seconds to come back.
const ROUNDS_IN_DOCKER: u64 = 3;
const PIPELINE: &str = r#"
jobs:
- name: j
  plan:
  - task: one
    config: &task
      platform: linux
      rootfs_uri: host:///
      outputs: [{name: out}]
      run: {path: sh, args: [-c, "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.03; done; echo x > out/x"]}
  - task: two
    config: {<<: *task, inputs: [{name: out}]}
"#;

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Processes whose command line holds all of these words, and their children.
fn processes(words: &[&str], children: bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            if !children {
                found.push(pid);
            }
            let path = format!("/proc/{pid}/task/{pid}/children");
            let below = std::fs::read_to_string(path).unwrap_or_default();
            found.extend(below.split_whitespace().filter_map(|p| p.parse::<i32>().ok()).filter(|_| children));
        }
    }
    found
}

fn rounds(usual: u64) -> u64 {
    std::env::var("WHISTLESTOP_CHAOS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Whether there is time to wait for the collector.
fn is_long() -> bool {
    std::env::var_os("WHISTLESTOP_CHAOS").is_some()
}

/// Kilobytes on the disk.
async fn disk_usage(path: &Path) -> u64 {
    let mut command = tokio::process::Command::new("du");
    command.args(["-sk"]).arg(path);
    ended(command).await.stdout.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_build_ends_and_nothing_is_left() {
    let rounds = rounds(ROUNDS);
    let mut world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", PIPELINE).await;
    let mut dice = Dice(20_261_123);
    let worker = world.state().join("worker").display().to_string();
    let before = disk_usage(Path::new(&worker)).await;
    for round in 0..rounds {
        let build = world.trigger("p", "j").await;
        tokio::time::sleep(Duration::from_millis(dice.below(500))).await;
        match dice.below(4) {
            0 | 1 => {
                world.kill().await;
                world.start().await;
            }
            2 => processes(&["supervise", "--container", &worker], false).into_iter().take(1).for_each(end),
            _ => processes(&["supervise", "--container", &worker], true).into_iter().take(1).for_each(end),
        }
        let status = world.finish(build).await;
        assert!(["succeeded", "failed", "errored"].contains(&status.as_str()), "round {round}: {status}");
    }
    // A last good build makes what the others kept removable.
    let build = world.trigger("p", "j").await;
    assert_eq!(world.finish(build).await, "succeeded", "{}", world.log());
    let containers = world.state().join("worker/containers");
    super::world::until("the collector is done", Duration::from_secs(90), async || {
        (entries(&containers) == 0).then_some(())
    })
    .await;
    assert_eq!(processes(&["supervise", "--container", &worker], false).len(), 0);
    if is_long() {
        until("the disk is as it was", 2 * PATIENCE, async || {
            // Directories that are there once something was.
            (disk_usage(Path::new(&worker)).await <= before + 100).then_some(())
        })
        .await;
    }
    world.kill().await;
    // A server that was killed leaves the walls up: they are what keeps its steps in. Namespaces it had ready go when
    // the kernel finds the time.
    nothing_is_left(&world, Runtime::Embedded, &[], &["packet filter"]).await;
}

/// Waits until `doctor` finds nothing that belongs to nobody, but these kinds.
async fn nothing_is_left(world: &World, runtime: Runtime, env: &[(&str, &str)], lasting: &[&str]) {
    let begun = Instant::now();
    loop {
        let mut command = binary();
        command.args(["doctor", "--json", "--runtime", runtime.name(), "--state-dir"]).arg(world.state());
        command.envs(env.iter().copied());
        let report: serde_json::Value = serde_json::from_str(&ended(command).await.stdout).unwrap();
        let mut strays = report["strays"].as_array().unwrap().iter();
        if strays.all(|stray| lasting.contains(&stray["kind"].as_str().unwrap())) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{report}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
}

const IN_DOCKER: &str = r#"
resources:
- {name: image, type: rootfs, source: {}}
jobs:
- name: j
  plan:
  - get: image
  - task: one
    image: image
    config: &task
      platform: linux
      outputs: [{name: out}]
      run: {path: sh, args: [-c, "for i in 1 2 3 4 5 6; do echo line $i; usleep 100000; done; echo x > out/x"]}
  - task: two
    image: image
    config: {<<: *task, inputs: [{name: out}]}
"#;

/// What takes room on the engine: volumes and images.
async fn stored(engine: &Engine) -> BTreeSet<String> {
    let mut all = engine.docker(&["volume", "ls", "-q"]).await;
    all.extend(engine.docker(&["images", "-q", "--no-trunc"]).await);
    all.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_in_docker_every_build_ends_and_nothing_is_left() {
    let mut engine = Engine::new().await;
    let types = tempfile::tempdir().unwrap();
    rootfs_type(types.path());
    let flags = ["--resource-types", types.path().to_str().unwrap()];
    let mut world = World::with_env(Runtime::Docker, &flags, &[("DOCKER_HOST", &engine.host())]).await;
    world.pipeline("p", IN_DOCKER).await;
    // What the image is is known from here on, whatever becomes of checks.
    let first = world.trigger("p", "j").await;
    assert_eq!(world.finish(first).await, "succeeded", "{}", world.log());
    let mut dice = Dice(20_261_124);
    let before = stored(&engine).await;
    for round in 0..rounds(ROUNDS_IN_DOCKER) {
        let build = world.trigger("p", "j").await;
        tokio::time::sleep(Duration::from_millis(dice.below(2500))).await;
        // Each in its turn, so that a few rounds have all of them.
        match round % 3 {
            0 => {
                engine.kill().await;
                engine.start().await;
            }
            1 => {
                world.kill().await;
                world.start().await;
            }
            _ => {
                for container in engine.docker(&["ps", "-q"]).await.into_iter().take(1) {
                    let pids = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &container]).await;
                    let Some(pid) = pids.first().and_then(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 1) else {
                        continue;
                    };
                    let below = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                    let step = below.split_whitespace().next().and_then(|pid| pid.parse().ok());
                    end(step.filter(|_| dice.below(2) == 0).unwrap_or(pid));
                }
            }
        }
        let status = world.finish(build).await;
        assert!(["succeeded", "failed", "errored"].contains(&status.as_str()), "round {round}: {status}");
    }
    let build = world.trigger("p", "j").await;
    assert_eq!(world.finish(build).await, "succeeded", "{}\n{}", world.watch(build).await, world.log());
    // That of a check that was killed stays for visitors, for minutes; and networks are kept ready.
    until("the collector is done", PATIENCE, async || {
        let mut staying = engine.docker(&["ps", "-aq", "--filter", "label=type=check"]).await;
        staying.extend(engine.docker(&["ps", "-aq", "--filter", "label=whistlestop.part=lease"]).await);
        engine.docker(&["ps", "-aq"]).await.iter().all(|container| staying.contains(container)).then_some(())
    })
    .await;
    if is_long() {
        until("the engine's disk is as it was", 2 * PATIENCE, async || {
            stored(&engine).await.is_subset(&before).then_some(())
        })
        .await;
    }
    world.kill().await;
    let engine_of = [("DOCKER_HOST", &*engine.host())];
    let lasting = ["packet filter", "network", "waiting container"];
    nothing_is_left(&world, Runtime::Docker, &engine_of, &lasting).await;
    engine.stop().await;
}
