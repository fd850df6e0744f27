//! The embedded runtime: the common suite, and what only it does.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use whistlestop::runtime::embedded::{Embedded, Options};
use whistlestop::runtime::{Image, Origin, Runtime, VolumeHandle};

use super::conformance::{Lab, busybox_image};

struct EmbeddedLab {
    state: tempfile::TempDir,
    runtime: Arc<Embedded>,
    image: Image,
}

fn open(state: PathBuf) -> Arc<Embedded> {
    let options =
        Options { allow_host_rootfs: true, self_exe: env!("CARGO_BIN_EXE_whistlestop").into(), masked: Vec::new() };
    Arc::new(Embedded::new(state, options).unwrap())
}

async fn lab() -> EmbeddedLab {
    let state = tempfile::tempdir().unwrap();
    let runtime = open(state.path().join("state"));
    let volume = VolumeHandle("image".into());
    runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    runtime.stream_in(&volume, "", busybox_image()).await.unwrap();
    EmbeddedLab { state, runtime, image: Image::Volume { volume, path: String::new() } }
}

#[async_trait]
impl Lab for EmbeddedLab {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.runtime.clone()
    }

    fn reopened(&self) -> Arc<dyn Runtime> {
        open(self.state.path().join("state"))
    }

    async fn image(&self) -> Image {
        self.image.clone()
    }

    fn has_users(&self) -> bool {
        nix::unistd::Uid::effective().is_root()
    }
}

impl Drop for EmbeddedLab {
    fn drop(&mut self) {
        // A failed test must not leave its supervisors behind.
        let containers = std::fs::read_dir(self.state.path().join("state/containers")).into_iter().flatten().flatten();
        for container in containers {
            let text = std::fs::read_to_string(container.path().join("pid")).unwrap_or_default();
            if let Some(pid) = text.split_whitespace().next().and_then(|p| p.parse().ok()) {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
    }
}

conformance!(lab);
