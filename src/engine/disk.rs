//! Looks at the free space where builds write. It is a pass because nobody tells when a disk fills or empties: below
//! the watermark no build is started and what is only kept for speed goes; well above it everything goes on by itself.
//! Below half of it the step that has written most is ended, so that the disk does not end all of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Pass, Shared, each_wake};
use crate::base::shutdown::Shutdown;
use crate::base::wake::Wake;
use crate::runtime::room::{Room, Watermark};
use crate::runtime::{ContainerHandle, Runtime, VolumeHandle};

const PERIOD: Duration = Duration::from_secs(10);
/// Where the watermark is not far, and where it is passed: a step can write a gigabyte in a second.
const NEAR: Duration = Duration::from_secs(1);
const BELOW: Duration = Duration::from_millis(200);
/// So many times the watermark is near.
const NOT_FAR: u64 = 8;

/// Where to look, and how much must be free there.
#[derive(Debug, Clone)]
pub struct Watch {
    /// The state directory and whatever else builds write to.
    pub places: Vec<PathBuf>,
    /// What must be free there.
    pub watermark: Watermark,
}

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    each_wake(
        Look { shared: shared.clone(), engine: None, relieved: None },
        &shared,
        Wake::default(),
        PERIOD,
        shutdown,
    )
    .await;
}

/// Containers that were ended to make room, each with the words for its step.
#[derive(Debug, Default)]
pub(super) struct Evicted(Mutex<HashMap<String, String>>);

impl Evicted {
    fn get(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a container was ended, for the one who asks first.
    pub fn take(&self, container: &str) -> Option<String> {
        self.get().remove(container)
    }
}

struct Look {
    shared: Arc<Shared>,
    /// Where the runtime's engine keeps everything, once that is known.
    engine: Option<PathBuf>,
    relieved: Option<Relieved>,
}

/// When a step was ended last, and what was free then.
struct Relieved {
    at: tokio::time::Instant,
    free: u64,
}

impl Relieved {
    /// What a step has written goes once its build is over and collected: until then only a disk that fills further is a
    /// reason to end another.
    fn was_not_enough(&self, room: &Room) -> bool {
        const PATIENCE: Duration = Duration::from_secs(15);
        self.at.elapsed() > PATIENCE || room.free + room.step() < self.free
    }
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
        let looked = tokio::task::spawn_blocking(move || (watch.full(held), watch.scarcest())).await;
        let (full, scarcest) = looked.unwrap_or_default();
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
        let Some(room) = scarcest else { return Ok(None) };
        if room.free < room.least / 2 && self.relieved.as_ref().is_none_or(|last| last.was_not_enough(&room)) {
            relieve(shared, &room).await?;
            self.relieved = Some(Relieved { at: tokio::time::Instant::now(), free: room.free });
        }
        Ok(match room.free {
            free if free < room.least => Some(BELOW),
            free if free < room.least.saturating_mul(NOT_FAR) => Some(NEAR),
            _ => None,
        })
    }
}

/// Ends the step that has written most, if there is one that is to blame.
async fn relieve(shared: &Arc<Shared>, room: &Room) -> crate::store::Result<()> {
    let mut most: Option<(u64, String, Arc<dyn Runtime>)> = None;
    for (container, volumes) in shared.store.read(|tx| tx.containers_with_volumes()).await? {
        for runtime in super::gc::places(shared) {
            let Ok(Some(own)) = runtime.written_by(&ContainerHandle(container.clone())).await else { continue };
            let mut written = own;
            for volume in &volumes {
                written += runtime.size_of(&VolumeHandle(volume.clone())).await.ok().flatten().unwrap_or(0);
            }
            if most.as_ref().is_none_or(|(least, ..)| written > *least) {
                most = Some((written, container.clone(), runtime));
            }
        }
    }
    let Some((written, container, runtime)) = most.filter(|(written, ..)| !room.is_innocent(*written)) else {
        return Ok(());
    };
    let words = format!(
        "the disk is almost full ({} MB are free at {}), and of all running steps this one has written most ({} MB): it was \
         ended so that the others can go on; make room there, or let it write less (--low-disk-watermark)",
        room.free >> 20,
        room.place.display(),
        written >> 20
    );
    tracing::error!(container, words, "a step is ended");
    shared.evicted.get().insert(container.clone(), words);
    if let Err(error) = runtime.stop(&ContainerHandle(container.clone()), Duration::ZERO).await {
        tracing::warn!(%error, container, "a step that fills the disk could not be ended");
    }
    Ok(())
}

impl Watch {
    /// The place that is nearest to its watermark.
    fn scarcest(&self) -> Option<Room> {
        let of = |place: &PathBuf| Room::of(place, self.watermark);
        self.places.iter().filter_map(of).min_by_key(|room| room.free.saturating_sub(room.least))
    }

    /// The first place with too little room, in words. Once held, a quarter more must be free.
    pub fn full(&self, held: bool) -> Option<String> {
        self.places.iter().find_map(|place| {
            let Room { free, least, .. } = Room::of(place, self.watermark)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::room::room;

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let place = std::env::temp_dir();
        let watch = |least: u64| Watch { places: vec![place.clone()], watermark: Watermark::Bytes(least) };
        assert_eq!(watch(0).full(false), None);
        let text = watch(u64::MAX / 2).full(false).unwrap();
        assert!(text.contains("Low disk space") && text.contains("--low-disk-watermark"), "{text}");
        // Room for the mark itself is not enough to go on.
        let (free, _) = room(&place).unwrap();
        assert!(watch(free / 10 * 9).full(true).is_some());
        assert!(watch(free / 10 * 9).full(false).is_none());
    }
}
