//! Collects what nothing needs any more: containers of builds that are over, then volumes without a user.
//!
//! It is a pass because what may go follows from the tables alone. The runtime is asked first, the row goes after:
//! dying in between repeats a removal, which is harmless. What is on the runtime and in no row is removed too, at the
//! start, each hour, and soon after something could not be removed; so are images that were pulled and layers of images.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;

use super::merge::Merge;
use super::usage::Sizes;
use super::{Pass, Shared, each_wake};
use crate::base::clock::Time;
use crate::base::shutdown::Shutdown;
use crate::exec::GRACE;
use crate::runtime::{self, ContainerHandle, Runtime, VolumeHandle};
use crate::store::container::Kept;

/// Concourse: 30 s.
const PERIOD: Duration = Duration::from_secs(30);
/// Volumes are this old before they can go, and containers of checks without a build once there is a later one; builds,
/// before the containers that they leave are tidied.
const SETTLED: Duration = Duration::from_secs(60);
/// The last container of a check stays this long (Concourse: five minutes to an hour).
const LAST_CHECK: Duration = Duration::from_secs(300);
/// A fetched version that nobody asked for goes after this.
const CACHE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Uploads and kept outputs go after this, as Concourse's do.
const ARTIFACT: Duration = Duration::from_secs(12 * 3600);
/// So often the runtime is asked for what no row knows of.
const LISTED: Duration = Duration::from_secs(3600);
/// The same once something could not be removed.
const LISTED_AGAIN: Duration = Duration::from_secs(120);
/// Removals of containers at once.
const AT_ONCE: usize = 8;

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Containers of a job's last build that did not succeed; until the next one where `None`.
    pub failed: Option<Duration>,
    /// Containers of one-off builds.
    pub one_off: Duration,
    /// Bytes of fetched versions and of task caches.
    pub caches: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { failed: Some(Duration::from_secs(120 * 3600)), one_off: Duration::from_secs(300), caches: None }
    }
}

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.gc.clone();
    each_wake(Collect::new(shared.clone()), &shared, wake, PERIOD, shutdown).await;
}

/// See the module's doc.
pub(super) struct Collect {
    shared: Arc<Shared>,
    /// Kept containers whose output was given back.
    forgotten: HashSet<String>,
    /// Of what is kept.
    sizes: Sizes,
    /// When the runtime is asked for what no row knows of.
    list_at: Time,
    /// When the runtimes see to what keeps steps apart.
    tend_at: Time,
    /// The engine's images that fetched versions are, after the last collection that left nothing to be done.
    images: Option<HashSet<String>>,
    merge: Merge,
}

impl Collect {
    pub(super) fn new(shared: Arc<Shared>) -> Collect {
        let (sizes, merge, soon) = (Sizes::default(), Merge::default(), Time(i64::MIN));
        Collect { shared, forgotten: HashSet::new(), sizes, list_at: soon, tend_at: soon, images: None, merge }
    }
}

#[async_trait]
impl Pass for Collect {
    const NAME: &'static str = "gc";

    async fn once(&mut self) -> crate::store::Result<Option<Duration>> {
        let now = self.shared.clock.now();
        if now >= self.list_at {
            self.list_at = match remove_unknown(&self.shared).await {
                Ok(()) => now.plus(LISTED),
                Err(error) => {
                    tracing::warn!(%error, "what nobody knows of on the runtime was not collected");
                    now.plus(LISTED_AGAIN)
                }
            };
        }
        containers(&self.shared).await?;
        self.forget_outputs().await?;
        self.bound_caches().await?;
        let merging = self.merge.once(&self.shared).await?;
        if !volumes(&self.shared, merging.as_deref()).await? {
            // Their rows are gone.
            self.list_at = self.list_at.min(now.plus(LISTED_AGAIN));
        }
        self.images().await?;
        if now >= self.tend_at {
            // Not as often as a full disk wakes this pass.
            self.tend_at = now.plus(PERIOD);
            for runtime in places(&self.shared) {
                runtime.tend().await;
            }
        }
        audit(&self.shared).await?;
        self.shared.store.keep_space().await?;
        Ok(None)
    }
}

impl Collect {
    /// Gives back the space of what finished builds wrote: it is in their logs. Their containers stay for visitors. Those
    /// of builds that have just ended are left alone: most are about to go whole, and asking one costs Docker a process.
    async fn forget_outputs(&mut self) -> crate::store::Result<()> {
        let end = before(self.shared.clock.now(), SETTLED);
        let kept = self.shared.store.read(move |tx| tx.containers_of_builds_ended_before(end)).await?;
        let kept: HashSet<String> = kept.into_iter().collect();
        self.forgotten.retain(|handle| kept.contains(handle));
        for handle in kept {
            if self.forgotten.contains(&handle) {
                continue;
            }
            let container = ContainerHandle(handle.clone());
            // That of a step whose end nobody has waited for.
            if !stopped(&self.shared, &container).await {
                continue;
            }
            forget_output(&self.shared, &container).await;
            self.forgotten.insert(handle);
        }
        Ok(())
    }

    /// Drops what is kept, the longest unused first, until the rest is within the bound.
    async fn bound_caches(&mut self) -> crate::store::Result<()> {
        let Some(most) = self.shared.settings.retention.caches else { return Ok(()) };
        let kept = self.shared.store.read(|tx| tx.kept_by_use()).await?;
        let mut total = 0u64;
        for (kept, bytes) in self.sizes.added(kept, &places(&self.shared)).await {
            total = total.saturating_add(bytes);
            if total > most {
                self.shared.store.write(move |tx| tx.drop_kept(&kept.cache)).await?;
            }
        }
        Ok(())
    }

    /// Removes images that the engine has pulled for fetched versions that are forgotten. The engine is only asked when
    /// there may be such.
    async fn images(&mut self) -> crate::store::Result<()> {
        let Some(engine) = self.shared.runtime.engine_images() else { return Ok(()) };
        let (used, oldest) =
            self.shared.store.read(|tx| Ok((tx.engine_images_of_caches()?, tx.oldest_running_build()?))).await?;
        let used: HashSet<String> = used.into_iter().collect();
        if self.images.as_ref().is_some_and(|known| known.is_subset(&used)) {
            self.images = Some(used);
            return Ok(());
        }
        // Whoever has found an image may use it until his build is over.
        let idle = oldest.map_or(SETTLED, |began| SETTLED + self.shared.clock.now().since(began));
        self.images = match engine.collect(&used, idle).await {
            Ok(true) => Some(used),
            Ok(false) => None,
            Err(error) => {
                tracing::debug!(%error, "images that nothing needs are not removed yet");
                None
            }
        };
        Ok(())
    }
}

/// Wherever things of ours may be.
pub(super) fn places(shared: &Shared) -> Vec<Arc<dyn Runtime>> {
    let mut places: Vec<Arc<dyn Runtime>> = vec![shared.runtime.clone()];
    for other in [shared.natives.runtime(), shared.natives.images()] {
        if !places.iter().any(|place| Arc::ptr_eq(place, &other)) {
            places.push(other);
        }
    }
    places
}

/// Forgets what is older than the audit trail is kept. It looks first: an idle server writes nothing.
async fn audit(shared: &Arc<Shared>) -> crate::store::Result<()> {
    let end = before(shared.clock.now(), shared.settings.audit_retention);
    if shared.store.read(move |tx| tx.has_old_audit(end)).await? {
        shared.store.write(move |tx| tx.purge_audit(end)).await?;
    }
    Ok(())
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
    let retention = &shared.settings.retention;
    // On a full disk no container stays only because somebody may want to look into it.
    let full = shared.hold.why().is_some();
    let failed = retention.failed.map_or(Time(i64::MIN), |age| before(now, age));
    let kept = Kept {
        failed: if full { now } else { failed },
        one_off: if full { now } else { before(now, retention.one_off) },
        superseded_checks: before(now, SETTLED),
        checks: before(now, LAST_CHECK),
    };
    let handles = shared.store.read(move |tx| tx.removable_containers(now, &kept)).await?;
    // Several at once: a removal in Docker takes as long as a start, and builds make room for one another only so.
    let going_on = shared.checking().clone();
    let removals = handles.into_iter().filter(|handle| !going_on.contains(handle)).map(|handle| async move {
        let gone = removed(shared, &Thing::Container(ContainerHandle(handle.clone()))).await;
        gone.then_some(handle)
    });
    let mut removals = futures_util::stream::iter(removals).buffer_unordered(AT_ONCE).ready_chunks(AT_ONCE);
    while let Some(done) = removals.next().await {
        shared.store.write(move |tx| done.iter().flatten().try_for_each(|gone| tx.delete_container(gone))).await?;
    }
    Ok(())
}

/// Whether all that should go could be removed. `filled` is one that nothing needs yet.
async fn volumes(shared: &Arc<Shared>, filled: Option<&str>) -> crate::store::Result<bool> {
    let mut all = true;
    let now = shared.clock.now();
    // On a full disk nothing is kept only because it may be wanted again.
    let full = shared.hold.why().is_some();
    let idle = if full { now } else { before(now, CACHE) };
    let (settled, expired) = (before(now, SETTLED), before(now, ARTIFACT));
    shared.store.write(move |tx| tx.drop_stale_task_caches(now)).await?;
    if shared.store.read(move |tx| tx.has_artifacts_before(expired)).await? {
        shared.store.write(move |tx| tx.expire_artifacts(expired)).await?;
    }
    for key in shared.store.read(move |tx| tx.idle_resource_caches(idle)).await? {
        shared.store.write(move |tx| tx.drop_resource_cache(&key)).await?;
    }
    loop {
        // Children go before their parents, so each round may free another layer.
        let handles = shared.store.read(move |tx| tx.removable_volumes(settled, full)).await?;
        let going_on = shared.checking().clone();
        let needed = |handle: &String| Some(handle.as_str()) == filled || going_on.contains(handle);
        let mut gone = 0;
        for handle in handles.into_iter().filter(|handle| !needed(handle)) {
            // The row goes first here: a cache hit between the two must not get a volume that is being removed.
            let name = handle.clone();
            if !shared.store.write(move |tx| tx.delete_volume(&name)).await? {
                continue;
            }
            gone += 1;
            all &= removed(shared, &Thing::Volume(VolumeHandle(handle))).await;
        }
        if gone == 0 {
            return Ok(all);
        }
    }
}

/// Removes something from where it may be; `false` if it has to be tried again.
async fn removed(shared: &Shared, thing: &Thing) -> bool {
    let mut all = true;
    for runtime in places(shared) {
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

/// Gives back the space of what a step wrote.
pub(super) async fn forget_output(shared: &Shared, container: &ContainerHandle) {
    for runtime in places(shared) {
        if let Err(error) = runtime.forget_output(container).await {
            tracing::debug!(%error, %container, "its output stays on the disk until it is collected");
        }
    }
}

/// Stops a container wherever it may be, as an abort does; `false` if it has to be tried again.
pub(super) async fn stopped(shared: &Shared, container: &ContainerHandle) -> bool {
    let mut all = true;
    for runtime in places(shared) {
        match runtime.stop(container, GRACE).await {
            Ok(_) | Err(runtime::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(%error, %container, runtime = runtime.name(), "not stopped yet");
                all = false;
            }
        }
    }
    all
}

/// What is on the runtime and in no row: left by a server that lost its database or died between two steps, or by a
/// removal that the runtime could not do then; and layers of images that nothing is made of.
async fn remove_unknown(shared: &Arc<Shared>) -> Result<(), String> {
    let mut all = true;
    for runtime in places(shared) {
        // The listing first: a row is always older than what it stands for.
        let listing = runtime.list().await.map_err(|e| e.to_string())?;
        let rows = shared.store.read(|tx| Ok((tx.container_handles()?, tx.volume_handles()?))).await;
        let (containers, volumes) = rows.map_err(|e| e.to_string())?;
        let (containers, volumes): (HashSet<_>, HashSet<_>) =
            (containers.into_iter().collect(), volumes.into_iter().collect());
        for container in listing.containers.iter().filter(|c| !containers.contains(&c.0)) {
            all &= removed(shared, &Thing::Container(container.clone())).await;
        }
        for volume in listing.volumes.iter().filter(|v| !volumes.contains(&v.0)) {
            all &= removed(shared, &Thing::Volume(volume.clone())).await;
        }
        if let Some(layers) = runtime.image_layers() {
            layers.collect().await.map_err(|e| e.to_string())?;
        }
    }
    if all { Ok(()) } else { Err("some of it could not be removed".to_owned()) }
}
