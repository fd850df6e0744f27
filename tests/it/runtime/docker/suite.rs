//! The common suite.

use std::sync::Arc;

use super::*;
use crate::runtime::conformance::{Lab, busybox_image};
use crate::runtime::inside;

struct DockerLab {
    world: Option<World>,
    image: Image,
}

async fn lab() -> DockerLab {
    let world = World::new().await;
    let volume = world.volume("image", Origin::Empty).await;
    world.docker.stream_in(&volume, "", busybox_image()).await.unwrap();
    DockerLab { world: Some(world), image: Image::Volume { volume, path: String::new() } }
}

impl DockerLab {
    fn world(&self) -> &World {
        self.world.as_ref().expect("only the end takes it")
    }
}

#[async_trait::async_trait]
impl Lab for DockerLab {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.world().docker.clone())
    }

    fn reopened(&self) -> Arc<dyn Runtime> {
        Arc::new(self.world().restarted())
    }

    fn with(&self, isolation: whistlestop::runtime::Isolation) -> Arc<dyn Runtime> {
        Arc::new(Docker::connect(Options { isolation, ..options(&self.world().id) }))
    }

    async fn maps_users(&self) -> bool {
        let security = self.world().docker.facts().await.unwrap().security;
        security.iter().any(|word| word.contains("rootless") || word.contains("userns"))
    }

    async fn image(&self) -> Image {
        self.image.clone()
    }
}

impl Drop for DockerLab {
    fn drop(&mut self) {
        let Some(world) = self.world.take() else { return };
        // What it makes ahead of need is under way perhaps, and whoever clears knows nothing of that.
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(world.docker.close()));
        // On a runtime of its own, since this one cannot wait here; and anew, since connections belong to a runtime.
        let cleared = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                World { docker: world.restarted(), engine: engine().await, id: world.id }.end().await;
            });
        });
        assert!(cleared.join().is_ok() || std::thread::panicking(), "the test left something behind");
    }
}

conformance!(lab);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_sees_what_it_saw_on_concourse() {
    let lab = lab().await;
    inside::a_task_sees_what_it_saw_on_concourse(&lab, DIFFERENCES).await;
}

/// See [`inside`].
const DIFFERENCES: &[inside::Difference] = &[
    ("uid_map", "", "the engine has no user namespaces here"),
    ("mknod", "", "the engine has no user namespaces here; which devices work is said by its device rules"),
    ("mounts", "+/.whistlestop", "our program, from a volume (Concourse: /tmp/gdn-init)"),
    ("status", "-CapInh", "engines since 20.10.14 leave nothing inheritable (CVE-2022-24769)"),
    ("status", "+CapInh", "engines since 20.10.14 leave nothing inheritable (CVE-2022-24769)"),
];
