//! Teams with the same names for everything on one server; and text that comes from whoever may commit.

use reqwest::Method;
use serde_json::json;

use super::world::{Runtime, World, run};

const CACHED: &str = r"
jobs:
- name: j
  plan:
  - task: t
    config:
      platform: linux
      rootfs_uri: host:///
      caches: [{path: cache}]
      run:
        path: sh
        args: [-c, 'echo found $(cat cache/mark 2>/dev/null || echo nothing); echo mine > cache/mark']
";

#[tokio::test(flavor = "multi_thread")]
async fn task_caches_are_no_other_teams_and_no_other_pipelines() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", CACHED).await;
    world.pipeline("q", CACHED).await;
    world.other_team().await;
    world.of_other(Method::PUT, "/pipelines/p/config", CACHED).await;
    world.of_other(Method::PUT, "/pipelines/p/unpause", "").await;
    let found = async |build: i64| {
        assert_eq!(world.finish(build).await, "succeeded");
        world.watch(build).await.lines().find_map(|l| l.strip_prefix("found ").map(str::to_owned)).unwrap()
    };
    assert_eq!(found(world.trigger("p", "j").await).await, "nothing");
    assert_eq!(found(world.trigger("p", "j").await).await, "mine");
    assert_eq!(found(world.trigger("q", "j").await).await, "nothing");
    let build = world.of_other(Method::POST, "/pipelines/p/jobs/j/builds", "").await;
    assert_eq!(found(build["id"].as_i64().unwrap()).await, "nothing", "a cache of the other team");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_team_finds_at_a_source_is_not_told_to_another() {
    let world = World::new(Runtime::Embedded, &["--allow-local-git"]).await;
    let repository = tempfile::tempdir().unwrap();
    commit(repository.path(), "main", "first").await;
    let config = format!(
        "resources:\n- {{name: r, type: git, check_every: never, source: {{uri: \"file://{}\", branch: main}}}}\n\
         jobs:\n- name: j\n  plan:\n  - get: r\n",
        repository.path().display()
    );
    world.pipeline("p", &config).await;
    world.other_team().await;
    world.of_other(Method::PUT, "/pipelines/p/config", &config).await;
    let versions = async |team: &str| {
        let versions = world.api(&format!("teams/{team}/pipelines/p/resources/r/versions")).await;
        versions.as_array().unwrap().len()
    };
    world.fly(&["check-resource", "-r", "p/r"]).await;
    assert_eq!((versions("main").await, versions("other").await), (1, 0));

    // Nor what went wrong there.
    let bad = config.replace("branch: main", "branch: main, username: u, password: not-for-others");
    world.of_other(Method::PUT, "/pipelines/q/config", &bad).await;
    std::fs::rename(repository.path().join(".git"), repository.path().join("gone")).unwrap();
    let check = world.of_other(Method::POST, "/pipelines/q/resources/r/check", r#"{"shallow":false}"#).await;
    assert_ne!(world.finish(check["id"].as_i64().unwrap()).await, "succeeded");
    let resource = world.api("teams/main/pipelines/p/resources/r").await;
    assert_eq!(resource["build"]["status"], "succeeded", "{resource}");
    assert_eq!((versions("main").await, versions("other").await), (1, 0));
}

/// A repository with one commit on a branch.
async fn commit(directory: &std::path::Path, branch: &str, message: &str) {
    run(directory, "git", &["init", "-q", "-b", branch]).await;
    std::fs::write(directory.join("file"), message).unwrap();
    run(directory, "git", &["add", "file"]).await;
    let who = ["-c", "user.name=$(id) `id`", "-c", "user.email=a@example.com"];
    run(directory, "git", &[who.as_slice(), &["commit", "-q", "-m", message]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_committers_write_is_text_and_nothing_else() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs", "--allow-local-git"]).await;
    let (repository, canary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = canary.path().join("reached").display().to_string();
    let branch = "a$(reboot);`reboot`|reboot&b";
    let message =
        format!("$(touch {place}) `touch {place}` '\"\n::set-env name=A::b\n##vso[task.setvariable]\n((no.such.var))");
    commit(repository.path(), branch, &message).await;
    let config = json!({
        "resources": [{"name": "r", "type": "git", "source": {"uri": format!("file://{}", repository.path().display()), "branch": branch}}],
        "jobs": [{"name": "j", "plan": [
            {"get": "r"},
            {"load_var": "said", "file": "r/file", "format": "raw", "reveal": true},
            {"task": "t", "params": {"SAID": "((.:said))"}, "config": {
                "platform": "linux", "rootfs_uri": "host:///", "inputs": [{"name": "r"}], "params": {"SAID": ""},
                "run": {"path": "sh", "args": ["-c", "printf '<%s>\\n' \"$SAID\"; env | grep -c '^A=' || true"]},
            }},
        ]}],
    });
    world.pipeline("p", &config.to_string()).await;
    let build = world.trigger("p", "j").await;
    let status = world.finish(build).await;
    let log = world.watch(build).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    assert!(log.contains(&format!("<{message}>\n0\n")), "{log}");
    assert!(!std::path::Path::new(&place).exists(), "it was run");
    let inputs = world.api(&format!("builds/{build}/resources")).await["inputs"].clone();
    assert!(inputs[0]["version"]["ref"].as_str().is_some_and(|r| r.len() == 40), "{inputs}");
}
