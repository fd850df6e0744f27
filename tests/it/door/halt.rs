//! Steps that must end although the server did not see that they should, or although they write without end.

use super::image::rootfs_type;
use super::world::{Runtime, World};
use whistlestop::base::id::BuildId;
use whistlestop::store::Store;
use whistlestop::store::build::Abort;

/// A pipeline whose step is found among the host's processes by a number of its own.
struct Marked {
    world: World,
    mark: String,
    _types: tempfile::TempDir,
}

impl Marked {
    async fn new(runtime: Runtime, step: &str) -> Marked {
        let types = tempfile::tempdir().unwrap();
        rootfs_type(types.path());
        let world = World::new(runtime, &["--resource-types", types.path().to_str().unwrap()]).await;
        let mark = format!("{}{:04}", std::process::id(), runtime as u32);
        let pipeline = format!(
            "resources: [{{name: image, type: rootfs, source: {{}}}}]\n\
             jobs: [{{name: j, plan: [{{get: image}}, {{task: t, image: image, config: {{platform: linux, run: {{path: sh, \
             args: [-c, '{}']}}}}}}]}}]\n",
            step.replace("MARK", &mark)
        );
        world.pipeline("p", &pipeline).await;
        Marked { world, mark, _types: types }
    }

    /// Whether a process of the step is there.
    fn runs(&self) -> bool {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&self.mark)
        })
    }
}

async fn what_was_aborted_meanwhile_is_stopped(runtime: Runtime) {
    let mut marked = Marked::new(runtime, "echo it runs $((40 + 2)); exec sleep MARK").await;
    let build = marked.world.trigger("p", "j").await;
    marked.world.says(build, "it runs 42").await;
    marked.world.kill().await;
    assert!(marked.runs(), "a step outlives the server");
    let store = Store::open(&marked.world.state()).unwrap();
    store.write(move |tx| tx.abort_build(BuildId(build), Abort::Graceful)).await.unwrap();
    drop(store);
    marked.world.start().await;
    assert_eq!(marked.world.finish(build).await, "aborted", "{}", marked.world.log());
    let log = marked.world.watch(build).await;
    assert!(!marked.runs(), "{log}\n{}", marked.world.log());
    assert!(log.contains("it runs 42\n") && log.contains("interrupted"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_build_that_was_aborted_while_the_server_was_dead_is_stopped_on_the_embedded_runtime() {
    what_was_aborted_meanwhile_is_stopped(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_build_that_was_aborted_while_the_server_was_dead_is_stopped_in_docker() {
    what_was_aborted_meanwhile_is_stopped(Runtime::Docker).await;
}
