//! What is kept to be used again: what an operator prunes on the Docker engine is fetched anew, and all is bounded.

use std::process::Stdio;

use serde_json::json;

use super::image::{Registry, archive, busybox, push};
use super::restart::Engine;
use super::world::{PATIENCE, Runtime, World, ended, until};

/// The same registry for an engine in a network of its own, at the same address.
pub async fn also_within(engine: &Engine, registry: &Registry) -> tokio::process::Child {
    let directory = registry.directory.path();
    let config = std::fs::read_to_string(directory.join("config.yml")).unwrap();
    let within = directory.join("within.yml");
    std::fs::write(&within, config.replace("127.0.0.1:0", &registry.address)).unwrap();
    let serve = format!("ip link set lo up && exec docker-registry serve {}", within.display());
    let within = |script: &str| {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["--net", "--target", &engine.pid().to_string(), "sh", "-c", script]);
        command.stderr(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command
    };
    let server = within(&serve).spawn().unwrap();
    let asks = format!("busybox wget -q -O /dev/null http://{}/v2/", registry.address);
    until("the registry answers within", PATIENCE, async || {
        within(&asks).status().await.unwrap().success().then_some(())
    })
    .await;
    server
}

/// A job that fetches the image `app` and runs a script in it, with a cache `c`.
fn uses(registry: &Registry, script: &str) -> String {
    format!(
        r"
resources:
- {{name: app, type: registry-image, source: {{repository: {}/app, tag: '1'}}}}
jobs:
- name: j
  plan:
  - get: app
  - task: t
    image: app
    config:
      platform: linux
      caches: [{{path: c}}]
      run: {{path: sh, args: [-c, '{script}']}}
",
        registry.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_is_fetched_again() {
    let mut engine = Engine::new().await;
    let registry = Registry::empty("").await;
    let root = tempfile::tempdir().unwrap();
    busybox(root.path());
    // Without a tag of its own a pulled image is what `docker image prune` takes.
    push(&registry.address, "app", "1", &[archive(root.path())], json!({"Env": ["PATH=/bin"]})).await;
    let _within = also_within(&engine, &registry).await;
    let flags = ["--resource-checking-interval", "1h"];
    let world = World::with_env(Runtime::Docker, &flags, &[("DOCKER_HOST", &engine.host())]).await;
    let script = "cat c/n || echo an empty cache; echo a full cache > c/n";
    world.pipeline("p", &uses(&registry, script)).await;
    let fetched = "fetching \u{1b}[32m";
    let runs = async || {
        let build = world.trigger("p", "j").await;
        let status = world.finish(build).await;
        (status, world.watch(build).await)
    };
    let (status, log) = runs().await;
    assert!(status == "succeeded" && log.contains(fetched) && log.contains("an empty cache"), "{log}\n{}", world.log());
    let idle = async || {
        until("the steps' containers are gone", PATIENCE, async || {
            engine.docker(&["ps", "-aq", "--filter", "label=step"]).await.is_empty().then_some(())
        })
        .await;
    };

    // What we have pulled is not what nobody has tagged.
    idle().await;
    engine.docker(&["system", "prune", "-f"]).await;
    let (status, log) = runs().await;
    assert!(status == "succeeded" && !log.contains(fetched) && log.contains("a full cache"), "{log}\n{}", world.log());

    // The image goes. Whether it is there was asked a moment ago, perhaps, and then the one build says what to do.
    idle().await;
    engine.docker(&["image", "prune", "-af"]).await;
    let (mut status, mut log) = runs().await;
    if status == "errored" {
        assert!(log.contains("start the build again"), "{log}");
        (status, log) = runs().await;
    }
    assert!(status == "succeeded" && log.contains(fetched) && log.contains("a full cache"), "{log}\n{}", world.log());

    // The volumes go: newer engines keep those with a name unless they are asked for all.
    idle().await;
    engine.docker(&["volume", "prune", "-f"]).await;
    for volume in engine.docker(&["volume", "ls", "-q"]).await {
        engine.docker(&["volume", "rm", &volume]).await;
    }
    let (status, log) = runs().await;
    assert!(status == "succeeded" && log.contains("an empty cache"), "{log}\n{}", world.log());
    drop(world);
    engine.stop().await;
}

/// What `doctor --usage` says is kept: kind, what, and megabytes.
async fn kept(world: &World, runtime: Runtime) -> Vec<(String, String, u64)> {
    let mut command = super::world::binary();
    command.args(["doctor", "--json", "--usage", "--runtime", runtime.name(), "--state-dir"]).arg(world.state());
    let done = ended(command).await;
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let one = |k: &serde_json::Value| (text(&k["kind"]), text(&k["what"]), k["bytes"].as_u64().unwrap() >> 20);
    report["usage"].as_array().unwrap().iter().map(one).collect()
}

async fn what_is_kept_stays_within_the_bound(runtime: Runtime) {
    let registry = Registry::empty("").await;
    let root = tempfile::tempdir().unwrap();
    busybox(root.path());
    std::fs::write(root.path().join("ballast"), vec![b'x'; 6 << 20]).unwrap();
    push(&registry.address, "app", "1", &[archive(root.path())], json!({"Env": ["PATH=/bin"]})).await;
    let bounds = ["--resource-checking-interval", "1h", "--max-cache-size"];
    let mut world = World::new(runtime, &[&bounds[..], &["100MB"]].concat()).await;
    world.pipeline("p", &uses(&registry, "cat /ballast > c/file")).await;
    let build = world.trigger("p", "j").await;
    assert_eq!(world.finish(build).await, "succeeded", "{}\n{}", world.watch(build).await, world.log());
    let all = kept(&world, runtime).await;
    assert_eq!(all.len(), 2, "{all:?}");
    let (cache, image) = (&all[0], &all[1]);
    assert_eq!((cache.0.as_str(), cache.1.as_str(), cache.2), ("task cache", "p/j/t c", 6));
    assert!(image.0 == "fetched version" && image.1.starts_with("p/app ") && image.2 >= 6, "{all:?}");
    // Room for one of them: the one that was used first goes.
    world.stop().await;
    world.replace_flag("100MB", "10MB");
    world.start().await;
    until("the image is dropped", PATIENCE, async || (kept(&world, runtime).await == all[..1]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_stays_within_the_bound_embedded() {
    what_is_kept_stays_within_the_bound(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_stays_within_the_bound_in_docker() {
    what_is_kept_stays_within_the_bound(Runtime::Docker).await;
}
