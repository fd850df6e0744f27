//! Task caches over many builds: what each build rewrites does not stay on the disk below it.

use std::path::{Path, PathBuf};

use super::world::{PATIENCE, Runtime, World, until};

const REWRITES: &str = r"
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
        args: [-ec, 'cd cache; echo found $(cat mark 2>/dev/null || echo nothing) $(ls kept 2>/dev/null); rm -f gone; mkdir -p kept;
                     head -c 3000000 /dev/urandom > big; echo x > gone; echo $(($(cat mark || echo 0) + 1)) > mark; touch kept/$(cat mark)']
";

/// The chain of parents of a volume, by name.
fn parents(volume: &Path) -> Vec<String> {
    let text = std::fs::read(volume.join("volume.json")).unwrap_or_default();
    let meta: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    serde_json::from_value(meta["parents"].clone()).unwrap_or_default()
}

fn volumes(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.state().join("worker/volumes")).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("volume.json").exists()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_each_build_rewrites_is_merged_beside_the_builds() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", REWRITES).await;
    let build = async |n: usize| {
        let build = world.trigger("p", "j").await;
        assert_eq!(world.finish(build).await, "succeeded");
        let log = world.watch(build).await;
        let found = log.lines().find_map(|l| l.strip_prefix("found ").map(str::to_owned)).unwrap();
        let kept = (1..=n).map(|n| format!(" {n}")).collect::<String>();
        assert_eq!(found, if n == 0 { "nothing".to_owned() } else { format!("{n}{kept}") });
    };
    for n in 0..4 {
        build(n).await;
    }
    // A merged volume is nobody's child, and the next build's cache is a child of it alone. A build that begins while its
    // cache is being merged goes on with the layers, and so does its own cache: then the next is waited for.
    let mut n = 4;
    loop {
        let merged = until("the cache's layers are merged", PATIENCE, async || {
            let whole = |path: &PathBuf| {
                let mark = std::fs::read_to_string(path.join("data/mark")).unwrap_or_default();
                path.file_name().unwrap().to_string_lossy().starts_with("mc-") && mark.trim() == n.to_string()
            };
            volumes(&world).into_iter().find(whole)
        });
        assert_eq!(parents(&merged.await), [""; 0]);
        build(n).await;
        n += 1;
        if volumes(&world).iter().any(|v| matches!(parents(v).as_slice(), [only] if only.starts_with("mc-"))) {
            break;
        }
    }
}
