//! A disk that one step fills: that step ends with the reason, and others go on.

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use serde_json::json;

use super::image::{Registry, archive, busybox, push};
use super::prune::also_within;
use super::restart::Engine;
use super::world::{Runtime, World};

/// A pipeline of jobs of one task, each with an output `out`; the task's image is of this source.
fn pipeline(image: &str) -> String {
    let job = |name: &str, script: &str| {
        format!(
            "
- name: {name}
  plan:
  - task: t
    config:
      platform: linux
      {image}
      outputs: [{{name: out}}]
      run: {{path: sh, args: [-ec, '{script}']}}"
        )
    };
    format!("jobs:{}{}", job("greedy", GREEDY), job("modest", MODEST))
}

const GREEDY: &str = "n=0; while [ $n -lt 400 ]; do head -c 1000000 /dev/zero > out/$n; n=$((n+1)); sleep 0.08; done";
const MODEST: &str =
    "n=0; while [ $n -lt 60 ]; do head -c 10000 /dev/zero > out/$n; n=$((n+1)); sleep 0.1; done; echo went on";

/// A small disk that ends with the test.
struct Small(tempfile::TempDir);

impl Drop for Small {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

impl Small {
    fn new() -> Small {
        let small = Small(tempfile::tempdir().unwrap());
        mount(Some("tmpfs"), small.0.path(), Some("tmpfs"), MsFlags::empty(), Some("size=200m")).unwrap();
        small
    }
}

async fn the_greedy_is_ended_and_the_modest_goes_on(world: &World, image: &str) {
    world.pipeline("p", &pipeline(image)).await;
    let (modest, greedy) = (world.trigger("p", "modest").await, world.trigger("p", "greedy").await);
    assert_eq!(world.finish(greedy).await, "errored", "{}", world.watch(greedy).await);
    let log = world.watch(greedy).await;
    assert!(log.contains("the disk is almost full") && log.contains("has written most"), "{log}");
    assert_eq!(world.finish(modest).await, "succeeded", "{}", world.watch(modest).await);
    assert!(world.watch(modest).await.contains("went on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fills_the_disk_is_ended_and_others_go_on_embedded() {
    if !nix::unistd::Uid::effective().is_root() {
        return println!("skipped: only root can mount a small disk");
    }
    let small = Small::new();
    let directory = tempfile::Builder::new().prefix("whistlestop-door-").tempdir().unwrap();
    let flags = ["--allow-host-rootfs", "--low-disk-watermark", "100MB"];
    let world = World::on(directory, small.0.path().join("state"), Runtime::Embedded, &flags, &[]).await;
    the_greedy_is_ended_and_the_modest_goes_on(&world, "rootfs_uri: host:///").await;
    drop(world);
    drop(small);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fills_the_disk_is_ended_and_others_go_on_in_docker() {
    let small = Small::new();
    let mut engine = Engine::on(tempfile::tempdir_in(small.0.path()).unwrap()).await;
    let registry = Registry::empty("").await;
    let root = tempfile::tempdir().unwrap();
    busybox(root.path());
    push(&registry.address, "app", "1", &[archive(root.path())], json!({"Env": ["PATH=/bin"]})).await;
    let _within = also_within(&engine, &registry).await;
    let flags = ["--low-disk-watermark", "100MB"];
    let world = World::with_env(Runtime::Docker, &flags, &[("DOCKER_HOST", &engine.host())]).await;
    let source = format!("{{repository: {}/app, tag: '1'}}", registry.address);
    let image = format!("image_resource: {{type: registry-image, source: {source}}}");
    the_greedy_is_ended_and_the_modest_goes_on(&world, &image).await;
    drop(world);
    engine.stop().await;
    drop(small);
}
