//! Starts that wait for capacity are served in turn, team by team.

use reqwest::Method;

use super::world::{Runtime, World};

const PIPELINE: &str = r"
jobs:
- name: j
  plan:
  - task: t
    config:
      platform: linux
      rootfs_uri: host:///
      run: {path: sleep, args: ['0.2']}
";
const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_builds_of_a_team_do_not_delay_the_first_of_another() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", PIPELINE).await;
    world.other_team().await;
    world.of_other(Method::PUT, "/pipelines/p/config", PIPELINE).await;
    world.of_other(Method::PUT, "/pipelines/p/unpause", "").await;

    let over = async || {
        let builds = world.api("teams/main/pipelines/p/jobs/j/builds?limit=300").await;
        let builds = builds.as_array().unwrap().iter();
        builds.filter(|b| b["status"] != "pending" && b["status"] != "started").count()
    };
    // However slow this machine is at triggering, all of them wait when the other team comes.
    world.fly(&["pause-job", "-j", "p/j"]).await;
    futures_util::future::join_all((0..MANY).map(|_| world.trigger("p", "j"))).await;
    assert_eq!(over().await, 0);
    world.fly(&["unpause-job", "-j", "p/j"]).await;
    let build = world.of_other(Method::POST, "/pipelines/p/jobs/j/builds", "").await;
    assert_eq!(world.finish(build["id"].as_i64().unwrap()).await, "succeeded");
    let meanwhile = over().await;
    assert!(
        meanwhile < MANY / 2,
        "{meanwhile} of {MANY} builds of the first team came before the other team's only one"
    );
}
