//! A disk that one step fills: that step ends with the reason, and others go on.

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::world::{Runtime, World};

/// A job of one task that runs a script and has an output `out`.
fn job(name: &str, script: &str) -> String {
    format!(
        "
- name: {name}
  plan:
  - task: t
    config:
      platform: linux
      rootfs_uri: host:///
      outputs: [{{name: out}}]
      run: {{path: sh, args: [-ec, '{script}']}}"
    )
}

const GREEDY: &str = "n=0; while [ $n -lt 400 ]; do head -c 1000000 /dev/zero > out/$n; n=$((n+1)); sleep 0.02; done";
const MODEST: &str =
    "n=0; while [ $n -lt 60 ]; do head -c 10000 /dev/zero > out/$n; n=$((n+1)); sleep 0.1; done; echo went on";

/// A small disk that ends with the test.
struct Small(tempfile::TempDir);

impl Drop for Small {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fills_the_disk_is_ended_and_others_go_on() {
    if !nix::unistd::Uid::effective().is_root() {
        return println!("skipped: only root can mount a small disk");
    }
    let small = Small(tempfile::tempdir().unwrap());
    mount(Some("tmpfs"), small.0.path(), Some("tmpfs"), MsFlags::empty(), Some("size=200m")).unwrap();
    let directory = tempfile::Builder::new().prefix("whistlestop-door-").tempdir().unwrap();
    let flags = ["--allow-host-rootfs", "--low-disk-watermark", "100MB"];
    let world = World::on(directory, small.0.path().join("state"), Runtime::Embedded, &flags, &[]).await;
    world.pipeline("p", &format!("jobs:{}{}", job("greedy", GREEDY), job("modest", MODEST))).await;
    let (modest, greedy) = (world.trigger("p", "modest").await, world.trigger("p", "greedy").await);
    assert_eq!(world.finish(greedy).await, "errored", "{}", world.watch(greedy).await);
    let log = world.watch(greedy).await;
    assert!(log.contains("the disk is almost full") && log.contains("has written most"), "{log}");
    assert_eq!(world.finish(modest).await, "succeeded", "{}", world.watch(modest).await);
    assert!(world.watch(modest).await.contains("went on"));
    drop(world);
    drop(small);
}
