//! Collects what nothing needs any more: containers of builds that are over, then volumes without a user.
//!
//! It is a pass because what may go follows from the tables alone. The runtime is asked first, the row goes after:
//! dying in between repeats a removal, which is harmless. Containers and volumes on the runtime that no row knows of
//! are removed too, once at the start.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;

use super::{Pass, Shared, each_wake};
use crate::base::clock::Time;
use crate::base::shutdown::Shutdown;
use crate::runtime::{ContainerHandle, Runtime, VolumeHandle};

/// Concourse: 30 s.
const PERIOD: Duration = Duration::from_secs(30);
/// Containers of failed builds stay this long for `fly hijack` (Concourse: `--gc-failed-grace-period`).
const FAILED: Duration = Duration::from_secs(120 * 3600);
/// Containers of checks go after this, and volumes are this old before they can go.
const SETTLED: Duration = Duration::from_secs(60);
/// A fetched version that nobody asked for goes after this.
const CACHE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Removals of containers at once.
const AT_ONCE: usize = 8;

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    if let Err(error) = remove_unknown(&shared).await {
        tracing::warn!(%error, "what an earlier server left on the runtime was not collected");
    }
    let wake = shared.wakes.gc.clone();
    each_wake(Collect(shared), wake, PERIOD, shutdown).await;
}

struct Collect(Arc<Shared>);

#[async_trait]
impl Pass for Collect {
    const NAME: &'static str = "gc";

    async fn once(&mut self) -> crate::store::Result<Option<Duration>> {
        containers(&self.0).await?;
        volumes(&self.0).await?;
        self.0.store.keep_space().await?;
        Ok(None)
    }
}

/// What is removed from a runtime.
enum Thing {
    Container(ContainerHandle),
    Volume(VolumeHandle),
}

fn before(now: Time, age: Duration) -> Time {
    Time(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

async fn containers(shared: &Arc<Shared>) -> crate::store::Result<()> {
    let now = shared.clock.now();
    let (failed, checks) = (before(now, FAILED), before(now, SETTLED));
    let handles = shared.store.read(move |tx| tx.removable_containers(now, failed, checks)).await?;
    // Several at once: a removal in Docker takes as long as a start, and builds make room for one another only so.
    let removals = handles.into_iter().map(|handle| async move {
        let gone = removed(shared, &Thing::Container(ContainerHandle(handle.clone()))).await;
        gone.then_some(handle)
    });
    let mut removals = futures_util::stream::iter(removals).buffer_unordered(AT_ONCE).ready_chunks(AT_ONCE);
    while let Some(done) = removals.next().await {
        shared.store.write(move |tx| done.iter().flatten().try_for_each(|gone| tx.delete_container(gone))).await?;
    }
    Ok(())
}

async fn volumes(shared: &Arc<Shared>) -> crate::store::Result<()> {
    let now = shared.clock.now();
    let (idle, settled) = (before(now, CACHE), before(now, SETTLED));
    for key in shared.store.read(move |tx| tx.idle_resource_caches(idle)).await? {
        shared.store.write(move |tx| tx.drop_resource_cache(&key)).await?;
    }
    loop {
        // Children go before their parents, so each round may free another layer.
        let handles = shared.store.read(move |tx| tx.removable_volumes(settled)).await?;
        let mut gone = 0;
        for handle in handles {
            // The row goes first here: a cache hit between the two must not get a volume that is being removed.
            let name = handle.clone();
            if !shared.store.write(move |tx| tx.delete_volume(&name)).await? {
                continue;
            }
            gone += 1;
            removed(shared, &Thing::Volume(VolumeHandle(handle))).await;
        }
        if gone == 0 {
            return Ok(());
        }
    }
}

/// Removes something from where it may be; `false` if it has to be tried again.
async fn removed(shared: &Shared, thing: &Thing) -> bool {
    let natives = shared.natives.runtime();
    let mut all = true;
    let mut places: Vec<Arc<dyn Runtime>> = vec![shared.runtime.clone()];
    if !Arc::ptr_eq(&shared.runtime, &natives) {
        places.push(natives);
    }
    for runtime in places {
        let (handle, result) = match thing {
            Thing::Container(handle) => (&handle.0, runtime.remove_container(handle).await),
            Thing::Volume(handle) => (&handle.0, runtime.remove_volume(handle).await),
        };
        if let Err(error) = result {
            tracing::warn!(%error, handle, runtime = runtime.name(), "not collected yet");
            all = false;
        }
    }
    all
}

/// What is on the runtime and in no row: left by a server that lost its database, or died between two steps.
async fn remove_unknown(shared: &Arc<Shared>) -> Result<(), String> {
    let rows = shared.store.read(|tx| Ok((tx.container_handles()?, tx.volume_handles()?))).await;
    let (containers, volumes) = rows.map_err(|e| e.to_string())?;
    let (containers, volumes): (HashSet<_>, HashSet<_>) =
        (containers.into_iter().collect(), volumes.into_iter().collect());
    let listing = shared.natives.runtime().list().await.map_err(|e| e.to_string())?;
    for container in listing.containers.iter().filter(|c| !containers.contains(&c.0)) {
        removed(shared, &Thing::Container(container.clone())).await;
    }
    for volume in listing.volumes.iter().filter(|v| !volumes.contains(&v.0)) {
        removed(shared, &Thing::Volume(volume.clone())).await;
    }
    Ok(())
}
