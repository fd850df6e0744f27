//! A pipeline get → task → put, triggered by a real commit, that pushes a tag back to a real git server.

use std::time::Duration;

use serde_json::Value;

use super::image::{Registry, rootfs_type};
use super::remote::{Remote, Transport};
use super::world::{PATIENCE, Runtime, World, until};

/// A server, a git server, and the pipeline `release` that is set but still paused.
pub struct Scene {
    pub world: World,
    pub remote: Remote,
    _registry: Option<Registry>,
    _types: tempfile::TempDir,
}

/// The task says what it was given and where it is, and names the tag.
const SCRIPT: &str = "echo \"testing $(cat repo/message)\"; echo \"image $OF_IMAGE, $GREETING\"; \
                      echo \"tested-$(cat repo/.git/short_ref)\" > tag/name";

impl Scene {
    pub async fn new(runtime: Runtime, transport: Transport) -> Scene {
        let remote = Remote::new(transport).await;
        let types = tempfile::tempdir().unwrap();
        rootfs_type(types.path());
        let flags = ["--resource-types", types.path().to_str().unwrap(), "--resource-checking-interval", "1h"];
        let world = World::new(runtime, &flags).await;
        let (registry, resource, get, image, of_config) = match runtime {
            Runtime::Embedded => {
                (None, "- {name: image, type: rootfs, source: {}}", "- get: image", "image: image", String::new())
            }
            Runtime::Docker => {
                let registry = Registry::new().await;
                let source = format!("{{repository: {}/busybox}}", registry.address);
                let image = format!("image_resource: {{type: registry-image, source: {source}}}");
                (Some(registry), "", "", "", image)
            }
        };
        let config = format!(
            r"
resources:
- {{name: repo, type: git, source: {source}}}
{resource}
jobs:
- name: tag
  plan:
  - get: repo
    trigger: true
  {get}
  - task: test
    {image}
    config:
      platform: linux
      {of_config}
      inputs: [{{name: repo}}]
      outputs: [{{name: tag}}]
      params: {{GREETING: hello}}
      run: {{path: sh, args: [-ec, {script}]}}
  - put: repo
    params: {{repository: repo, only_tag: true, tag: tag/name}}
",
            source = remote.source,
            script = Value::from(SCRIPT),
        );
        let file = world.file("release.yml", &config);
        world.fly(&["set-pipeline", "-n", "-p", "release", "-c", &file]).await;
        Scene { world, remote, _registry: registry, _types: types }
    }

    /// The build of this number, as soon as there is one.
    pub async fn build(&self, number: usize, patience: Duration) -> i64 {
        let (what, name) = (format!("build {number} starts"), number.to_string());
        let found = until(&what, patience, async || {
            let builds = self.world.builds("release", "tag").await;
            if let Some(build) = builds.iter().find(|b| b["name"] == name) {
                return Some(Ok(build["id"].as_i64().unwrap()));
            }
            let resources = self.world.api("teams/main/pipelines/release/resources").await;
            let wrong = resources.as_array().unwrap().iter().find(|r| r["build"]["status"] == "errored");
            wrong.map(|resource| Err(resource.to_string()))
        });
        found.await.unwrap()
    }
}

async fn pushes_a_tag_back(runtime: Runtime, transport: Transport) {
    let scene = Scene::new(runtime, transport).await;
    let Scene { world, remote, .. } = &scene;
    let first = remote.commit("the first change").await;
    world.fly(&["unpause-pipeline", "-p", "release"]).await;

    let build = scene.build(1, PATIENCE).await;
    let log = world.watch(build).await;
    assert!(log.contains("testing the first change\nimage yes, hello\n"), "{log}");
    assert!(log.ends_with("succeeded\n"), "{log}\n{}", world.log());
    assert_eq!(world.finish(build).await, "succeeded");
    let tag = |commit: &str| (format!("tested-{}", &commit[..7]), commit.to_owned());
    assert_eq!(remote.tags().await, [tag(&first)]);

    let versions = world.api("teams/main/pipelines/release/resources/repo/versions").await;
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
    assert_eq!(versions[0]["version"]["ref"], first, "{versions}");
    let metadata = versions[0]["metadata"].as_array().unwrap();
    let field = |name: &str| metadata.iter().find(|f| f["name"] == name).map(|f| f["value"].clone());
    assert_eq!(field("message"), Some("the first change\n".into()), "{versions}");
    assert_eq!(field("author"), Some("Ann".into()), "{versions}");
    let resources = world.api(&format!("builds/{build}/resources")).await;
    let input = resources["inputs"].as_array().unwrap().iter().find(|i| i["name"] == "repo").unwrap();
    assert_eq!(input["version"]["ref"], first, "{resources}");
    assert_eq!(resources["outputs"][0]["version"]["ref"], first, "{resources}");

    let second = remote.commit("the second change").await;
    world.fly(&["check-resource", "-r", "release/repo"]).await;
    let build = scene.build(2, PATIENCE).await;
    assert_eq!(world.finish(build).await, "succeeded");
    assert!(world.watch(build).await.contains("testing the second change\n"));
    let mut expected = [tag(&first), tag(&second)];
    expected.sort();
    assert_eq!(remote.tags().await, expected);
    assert_eq!(world.builds("release", "tag").await.len(), 2, "the tag must not trigger a build");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_runtime_over_ssh() {
    pushes_a_tag_back(Runtime::Embedded, Transport::Ssh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_runtime_over_http() {
    pushes_a_tag_back(Runtime::Embedded, Transport::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_docker_over_ssh() {
    pushes_a_tag_back(Runtime::Docker, Transport::Ssh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_docker_over_http() {
    pushes_a_tag_back(Runtime::Docker, Transport::Http).await;
}
