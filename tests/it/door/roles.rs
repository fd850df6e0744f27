//! Two processes on one state directory: one serves the web, the other schedules and runs steps.

use reqwest::Method;

use super::world::{Runtime, World};

const JOBS: &str = "
jobs:
- name: short
  plan: [{task: t, config: {platform: linux, rootfs_uri: host:///, run: {path: echo, args: [done]}}}]
- name: long
  plan:
  - task: t
    config:
      platform: linux
      rootfs_uri: host:///
      run: {path: sh, args: [-c, 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done']}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_is_asked_the_other_does_and_its_logs_are_followed() {
    let world = World::new(Runtime::Embedded, &["--roles", "web", "--allow-host-rootfs"]).await;
    // With the same port, which only the one that serves the web opens.
    let mut scheduler = world.beside("web", "scheduler,worker").await;
    world.pipeline("p", JOBS).await;
    for _ in 0..3 {
        let build = world.trigger("p", "short").await;
        let log = world.watch(build).await;
        assert!(log.contains("done\n") && log.ends_with("succeeded\n"), "{log}\n{}", world.log());
    }
    let build = world.trigger("p", "long").await;
    for line in ["line 10", "line 40"] {
        world.says(build, line).await;
    }
    let abort = world.request(Method::PUT, &format!("/api/v1/builds/{build}/abort"));
    assert!(abort.send().await.unwrap().status().is_success());
    assert_eq!(world.finish(build).await, "aborted", "{}", world.log());
    assert!(world.watch(build).await.contains("interrupted"), "{}", world.log());
    assert!(scheduler.try_wait().unwrap().is_none(), "{}", world.log());
}
