//! Looks at the free space where builds write. It is a pass because nobody tells when a disk fills or empties: below
//! the watermark no build is started and what is only kept for speed goes; well above it everything goes on by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Pass, Shared, each_wake};
use crate::base::shutdown::Shutdown;
use crate::base::wake::Wake;

const PERIOD: Duration = Duration::from_secs(10);

/// Where to look, and how much must be free there.
#[derive(Clone)]
pub struct Watch {
    /// The state directory and whatever else builds write to.
    pub places: Vec<PathBuf>,
    /// Bytes that must be free, by the size of the disk.
    pub least: Arc<dyn Fn(u64) -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("places", &self.places).finish_non_exhaustive()
    }
}

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    each_wake(Look { shared: shared.clone(), engine: None }, &shared, Wake::default(), PERIOD, shutdown).await;
}

struct Look {
    shared: Arc<Shared>,
    /// Where the runtime's engine keeps everything, once that is known.
    engine: Option<PathBuf>,
}

#[async_trait]
impl Pass for Look {
    const NAME: &'static str = "disk";

    async fn once(&mut self) -> crate::store::Result<Option<Duration>> {
        let shared = &self.shared;
        let mut watch = shared.settings.watch.clone();
        if self.engine.is_none() {
            self.engine = shared.runtime.disk().await;
        }
        watch.places.extend(self.engine.clone());
        let held = shared.hold.why().is_some();
        let full = tokio::task::spawn_blocking(move || watch.full(held)).await.unwrap_or_default();
        if let Some(why) = &full {
            // What is only kept for speed makes room.
            shared.wakes.gc.ring();
            if !held {
                tracing::error!(why, "no build is started");
            }
        }
        let free = full.is_none();
        if shared.hold.set(full) && free {
            tracing::info!("there is room on the disk again: builds start");
            shared.wakes.schedule.ring();
            shared.wakes.check.ring();
        }
        Ok(None)
    }
}

impl Watch {
    /// The first place with too little room, in words. Once held, a quarter more must be free.
    pub fn full(&self, held: bool) -> Option<String> {
        self.places.iter().find_map(|place| {
            let (free, whole) = room(place)?;
            let least = (self.least)(whole);
            metrics::gauge!("whistlestop_disk_free_bytes", "path" => place.display().to_string()).set(free as f64);
            let wanted = if held { least + least / 4 } else { least };
            (free < wanted).then(|| {
                format!(
                    "Low disk space: {} MB are free at {}, and no build starts below {} MB. Make room there; builds go on \
                     by themselves (--low-disk-watermark).",
                    free >> 20,
                    place.display(),
                    least >> 20
                )
            })
        })
    }
}

/// Bytes that are free and bytes there are at all.
pub fn room(place: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(place).ok()?;
    let block = stat.fragment_size();
    Some((stat.blocks_available() * block, stat.blocks() * block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let place = std::env::temp_dir();
        let watch = |least: u64| Watch { places: vec![place.clone()], least: Arc::new(move |_| least) };
        assert_eq!(watch(0).full(false), None);
        let text = watch(u64::MAX / 2).full(false).unwrap();
        assert!(text.contains("Low disk space") && text.contains("--low-disk-watermark"), "{text}");
        // Room for the mark itself is not enough to go on.
        let (free, _) = room(&place).unwrap();
        assert!(watch(free / 10 * 9).full(true).is_some());
        assert!(watch(free / 10 * 9).full(false).is_none());
    }
}
