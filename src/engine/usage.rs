//! How much room it takes to keep what may be used again. What several share, such as the layers of an image, counts
//! for the one of them that was used last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::clock::Time;
use crate::runtime::{Runtime, VolumeHandle};
use crate::store::Store;
use crate::store::usage::Kept;

/// One kept thing and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// `fetched version` or `task cache`.
    pub kind: &'static str,
    /// Whose it is.
    pub team: String,
    /// Resource and version, or task and directory.
    pub what: String,
    /// On disk, without what counts for one that was used later.
    pub bytes: u64,
    /// When it was last used.
    pub last_used: Time,
}

/// Sizes of what does not change any more, by the names that runtimes give it.
#[derive(Debug, Default)]
pub struct Sizes(HashMap<String, u64>);

impl Sizes {
    /// Kept things, the last used first, each with the bytes that it adds to those before.
    pub async fn added(&mut self, kept: Vec<Kept>, places: &[Arc<dyn Runtime>]) -> Vec<(Kept, u64)> {
        let mut counted = HashSet::new();
        let mut all = Vec::with_capacity(kept.len());
        for thing in kept {
            let mut added = 0u64;
            for (part, bytes) in self.parts(&thing, places).await {
                if counted.insert(part) {
                    added = added.saturating_add(bytes);
                }
            }
            all.push((thing, added));
        }
        self.0.retain(|part, _| counted.contains(part));
        all
    }

    async fn parts(&mut self, thing: &Kept, places: &[Arc<dyn Runtime>]) -> Vec<(String, u64)> {
        let volume = VolumeHandle(thing.volume.clone());
        let mut parts = Vec::new();
        for (n, place) in places.iter().enumerate() {
            for part in place.parts_of(&volume).await.unwrap_or_default() {
                let name = format!("{n} {part}");
                let bytes = match self.0.get(&name) {
                    Some(bytes) => *bytes,
                    // What cannot be looked at now is looked at again.
                    None => match place.size_of_part(&part).await {
                        Ok(bytes) => bytes,
                        Err(_) => continue,
                    },
                };
                parts.push((name, bytes));
            }
            if let (Some(image), Some(engine)) = (&thing.image, place.engine_images()) {
                let name = format!("{n} image {image}");
                let known = self.0.get(&name).copied();
                let bytes = if known.is_some() { known } else { engine.size(image).await.ok().flatten() };
                parts.extend(bytes.map(|bytes| (name, bytes)));
            }
        }
        self.0.extend(parts.iter().cloned());
        parts
    }
}

/// What is kept, the last used first.
pub async fn look(store: &Store, places: &[Arc<dyn Runtime>]) -> crate::store::Result<Vec<Usage>> {
    let kept = store.read(|tx| tx.kept_by_use()).await?;
    let all = Sizes::default().added(kept, places).await;
    let usage = |(kept, bytes): (Kept, u64)| Usage {
        kind: kept.cache.kind(),
        team: kept.team,
        what: kept.what,
        bytes,
        last_used: kept.last_used,
    };
    Ok(all.into_iter().map(usage).collect())
}
