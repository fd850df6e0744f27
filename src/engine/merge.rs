//! Makes a task's cache one volume again, once the layers that its builds have put over each other cost more than that.
//!
//! Each build's cache is a copy-on-write child of the one before, so what a build rewrites stays below as it was. This runs
//! beside everything else, one cache at a time: no step waits for it. The copy takes the cache's place only if no build
//! has kept another meanwhile; else it is collected as any volume that nobody needs, and so it is after a crash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::chance;
use crate::runtime::{Origin, VolumeHandle};
use crate::store::volume::Volume;

use super::Shared;

/// A chain this long is merged whatever its size: each layer costs every look-up of a file, and both runtimes make a copy
/// in a step's way at a length not far from it.
const MOST_GENERATIONS: usize = 16;

/// Looks for caches to merge, and merges them.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// What is under way, with the volume that is being filled.
    running: Option<(String, tokio::task::JoinHandle<()>)>,
    /// Bytes of volumes' own files, which do not change once they are caches.
    sizes: HashMap<String, Option<u64>>,
    /// Those that could not be merged: tried again by a later server.
    failed: HashSet<String>,
}

impl Merge {
    /// Begins with the next cache that is worth it, unless one is under way. The volume that must not be collected now.
    pub async fn once(&mut self, shared: &Arc<Shared>) -> crate::store::Result<Option<String>> {
        if let Some((volume, task)) = &self.running
            && !task.is_finished()
        {
            return Ok(Some(volume.clone()));
        }
        self.running = None;
        // It takes room before it gives any.
        if shared.hold.why().is_some() {
            return Ok(None);
        }
        let chains = shared.store.read(|tx| tx.task_cache_chains()).await?;
        self.failed.retain(|cache| chains.iter().any(|chain| chain.first() == Some(cache)));
        self.sizes.retain(|volume, _| chains.iter().flatten().any(|v| v == volume));
        for chain in chains {
            let Some(cache) = chain.first().filter(|cache| !self.failed.contains(*cache)).cloned() else { continue };
            let mut sizes = Vec::with_capacity(chain.len());
            for volume in &chain {
                sizes.push(self.size(shared, volume).await);
            }
            if !worth_it(&sizes) {
                continue;
            }
            // A later look finds the same cache again only if it could not be had.
            self.failed.insert(cache.clone());
            let (handle, shared) = (format!("mc-{}", chance::hex::<12>()), shared.clone());
            let name = handle.clone();
            let task = tokio::spawn(async move {
                match merged(&shared, &cache, &name).await {
                    Ok(true) => tracing::debug!(cache, "the layers of a task's cache are one again"),
                    Ok(false) => tracing::debug!(cache, "a task's cache was replaced while its layers were merged"),
                    Err(error) => tracing::warn!(error, cache, "the layers of a task's cache were not merged"),
                }
                // What it was made of may go.
                shared.wakes.gc.ring();
            });
            self.running = Some((handle.clone(), task));
            return Ok(Some(handle));
        }
        Ok(None)
    }

    async fn size(&mut self, shared: &Shared, volume: &str) -> Option<u64> {
        if let Some(size) = self.sizes.get(volume) {
            return *size;
        }
        let size = shared.runtime.size_of(&VolumeHandle(volume.to_owned())).await.ok().flatten();
        self.sizes.insert(volume.to_owned(), size);
        size
    }
}

/// Whether a chain, the topmost first, takes about twice what it holds, or is long. What lies below all is taken for what
/// it holds; where sizes are not known, a few generations are enough.
fn worth_it(sizes: &[Option<u64>]) -> bool {
    const FEW: usize = 6;
    let Some((base, above)) = sizes.split_last() else { return false };
    let over = above.iter().copied().sum::<Option<u64>>();
    match (base, over) {
        _ if above.is_empty() => false,
        _ if sizes.len() >= MOST_GENERATIONS => true,
        (Some(base), Some(over)) => over > (*base).max(1 << 20),
        _ => sizes.len() >= FEW,
    }
}

/// Copies a cache to a new volume and puts that in its place; `false` if it has been replaced meanwhile.
async fn merged(shared: &Shared, cache: &str, name: &str) -> Result<bool, String> {
    let (old, now) = (cache.to_owned(), shared.clock.now());
    let found = shared.store.read(move |tx| tx.volume(&old)).await.map_err(|e| e.to_string())?;
    let Some(found) = found else { return Ok(false) };
    let (team, row) = (found.team_id, name.to_owned());
    let volume = Volume { handle: row, parent: None, container: None, build_id: None, created_at: now, ..found };
    let team = shared.store.write(move |tx| {
        tx.insert_volume(&volume)?;
        Ok(tx.team(team)?.map(|team| team.name).unwrap_or_default())
    });
    let team = team.await.map_err(|e| e.to_string())?;
    let (from, to) = (VolumeHandle(cache.to_owned()), VolumeHandle(name.to_owned()));
    let copied = async {
        shared.runtime.create_volume(&to, &team, &Origin::Empty).await?;
        let content = shared.runtime.stream_out(&from, "").await?;
        shared.runtime.stream_in(&to, "", content).await
    };
    copied.await.map_err(|e| e.to_string())?;
    let (old, new) = (cache.to_owned(), name.to_owned());
    shared.store.write(move |tx| tx.replace_task_cache(&old, &new)).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_merged_when_it_takes_twice_what_it_holds() {
        const MB: u64 = 1 << 20;
        let known = |sizes: &[u64]| sizes.iter().map(|size| Some(size * MB)).collect::<Vec<_>>();
        for (sizes, expected) in [
            (known(&[1000]), false),
            // Each run rewrites it all: the second is one too many.
            (known(&[1000, 1000]), false),
            (known(&[1000, 1000, 1000]), true),
            // Little is added to much.
            (known(&[1, 1, 1, 1, 1, 1, 1, 1000]), false),
            (known(&[1; 16]), true),
            // A few small files are not worth a copy.
            (known(&[0, 0, 0, 0]), false),
            (vec![None; 5], false),
            (vec![None; 6], true),
            (Vec::new(), false),
        ] {
            assert_eq!(worth_it(&sizes), expected, "{sizes:?}");
        }
    }
}
