//! Starts that wait for capacity are served in turn, team by team.

use serde_json::{Value, json};

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
    let owners = json!({"auth": {"owner": {"users": [format!("local:{}", world.credentials().0)], "groups": []}}});
    let other = |path: &str| format!("/api/v1/teams/other{path}");
    let team = world.request(reqwest::Method::PUT, &other("")).json(&owners).send().await.unwrap();
    assert!(team.status().is_success(), "{team:?}");
    let set = world.request(reqwest::Method::PUT, &other("/pipelines/p/config"));
    let set = set.header("content-type", "application/x-yaml").body(PIPELINE).send().await.unwrap();
    assert!(set.status().is_success(), "{set:?}");
    let unpause = world.request(reqwest::Method::PUT, &other("/pipelines/p/unpause")).send().await.unwrap();
    assert!(unpause.status().is_success(), "{unpause:?}");

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
    let build = world.request(reqwest::Method::POST, &other("/pipelines/p/jobs/j/builds")).send().await.unwrap();
    let build: Value = build.json().await.unwrap();
    assert_eq!(world.finish(build["id"].as_i64().unwrap()).await, "succeeded");
    let meanwhile = over().await;
    assert!(
        meanwhile < MANY / 5,
        "{meanwhile} of {MANY} builds of the first team came before the other team's only one"
    );
}
