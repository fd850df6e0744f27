//! The passes that move everything, one a file. Each reads the tables, puts right what is wrong, and returns; a bell
//! makes the next pass sooner, a period is the safety net.

pub mod check;
pub mod component;
pub mod disk;
pub mod feed;
pub mod gc;
mod ledger;
mod locks;
mod merge;
pub mod retention;
mod said;
pub mod schedule;
#[cfg(test)]
mod simulation;
mod tally;
pub mod track;
mod turns;
pub mod usage;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;

use crate::base::clock::{Clock, Time};
use crate::base::hold::Hold;
use crate::base::shutdown::Shutdown;
use crate::base::wake::Wake;
use crate::exec::{Bundle, NativeHost};
use crate::pipeline::Object;
use crate::resource::base_type::BaseTypes;
use crate::resource::bundle;
use crate::resource::registry::Registries;
use crate::runtime::Runtime;
use crate::schedule::due::Intervals;
use crate::secrets::Secrets;
use crate::store::Store;
pub use feed::Feed;
pub use gc::Retention;
pub use locks::Locks;
pub use turns::Turns;

/// The bells of the passes. Whoever changes what a pass reads rings its bell after the write.
#[derive(Debug, Clone, Default)]
pub struct Wakes {
    /// Resources may be due for a check.
    pub check: Wake,
    /// Jobs want scheduling, or a build may start or must be aborted.
    pub schedule: Wake,
    /// Builds were started, or an abort of a running one was asked for.
    pub track: Wake,
    /// Something can be collected.
    pub gc: Wake,
    /// A build has ended: older logs, or what it no longer sets, may go.
    pub retention: Wake,
}

impl Wakes {
    /// Rings every bell.
    pub fn all(&self) {
        for wake in [&self.check, &self.schedule, &self.track, &self.gc, &self.retention] {
            wake.ring();
        }
    }
}

/// How long steps may take that do not say it themselves; zero for no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Checks.
    pub check: Duration,
    /// Gets.
    pub get: Duration,
    /// Puts.
    pub put: Duration,
    /// Tasks.
    pub task: Duration,
}

/// What the operator has set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's address for people.
    pub external_url: String,
    /// Name of the worker in this process.
    pub worker_name: String,
    /// Tags of it.
    pub worker_tags: Vec<String>,
    /// Git addresses on this host's own file system are allowed.
    pub allow_local_git: bool,
    /// Steps may run on the host's own files.
    pub allow_host_rootfs: bool,
    /// Variables of steps that name the operator's proxies.
    pub proxies: Vec<String>,
    /// Where requests to registries may go.
    pub registries: Registries,
    /// Images of types that nobody has declared.
    pub base_types: BaseTypes,
    /// Clones of native checks and unpacked bundles.
    pub cache_dir: PathBuf,
    /// How many checks that nobody has asked for begin within a second; 0 and less for no bound.
    pub checks_per_second: i64,
    /// How long steps may take that do not say it.
    pub timeouts: Timeouts,
    /// How long caches of tasks are kept that do not say it; zero for ever.
    pub task_cache_ttl: Duration,
    /// What sources of base types hold beneath what resources say.
    pub defaults: BTreeMap<String, Object>,
    /// How often resources are checked (Concourse: 1m).
    pub check_interval: Duration,
    /// How often resources with a webhook are.
    pub webhook_interval: Duration,
    /// How long a check of an image or type is trusted (Concourse: 1m).
    pub type_check_interval: Duration,
    /// What is kept, and for how long.
    pub retention: Retention,
    /// Which disk must have room.
    pub watch: disk::Watch,
    /// Tasks that run at once; 0 for no bound.
    pub most_tasks: usize,
    /// Containers being started at once.
    pub starts: usize,
    /// Resources of equal type and source share one history within a team.
    pub share_histories: bool,
    /// What is kept for how long.
    pub keeping: retention::Keeping,
    /// How long the audit trail is kept.
    pub audit_retention: Duration,
}

/// What an engine is made of.
pub struct Parts {
    /// The truth.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Build logs.
    pub feed: Feed,
    /// The bells.
    pub wakes: Wakes,
    /// Where containers run.
    pub runtime: Arc<dyn Runtime>,
    /// Where native gets and puts run.
    pub natives: Arc<dyn NativeHost>,
    /// Types the operator brought along.
    pub bundles: Vec<bundle::Bundle>,
    /// Why no build may start, if anything keeps it.
    pub hold: Hold,
    /// Values of variables.
    pub secrets: Secrets,
    /// What the operator has set.
    pub settings: Settings,
}

/// What all passes share: the parts, and what keeps builds out of each other's way.
pub struct Shared {
    parts: Parts,
    locks: Locks,
    turns: Turns,
    /// Leave to run tasks, where the operator bounds them.
    tasks: Option<Turns>,
    /// Jobs with a build that has ended since the retention pass looked: only a hint.
    ended: std::sync::Mutex<std::collections::BTreeSet<crate::base::id::JobId>>,
    /// Containers that were ended to make room on the disk.
    evicted: disk::Evicted,
    /// Containers of checks without a row that go on.
    checking: std::sync::Mutex<std::collections::HashSet<String>>,
}

impl std::ops::Deref for Shared {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shared {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Shared> {
        let turns = Turns::new(parts.settings.starts);
        let tasks = (parts.settings.most_tasks > 0).then(|| Turns::new(parts.settings.most_tasks));
        let (ended, checking, evicted) = Default::default();
        Arc::new(Shared { parts, locks: Locks::default(), turns, tasks, ended, checking, evicted })
    }

    /// Containers and volumes of checks without a row that go on: the collector leaves them alone.
    fn checking(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<String>> {
        self.checking.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How often things are checked.
    fn intervals(&self) -> Intervals {
        Intervals { usual: self.settings.check_interval, webhook: self.settings.webhook_interval }
    }

    /// The root file system of a type that the operator brought along, unpacked the first time it is asked for.
    async fn bundle(&self, kind: &str) -> Result<Option<Bundle>, String> {
        let Some(found) = self.bundles.iter().find(|b| b.name == kind).cloned() else { return Ok(None) };
        let _one = self.locks.take(&format!("bundle {kind}")).await;
        let cache = self.settings.cache_dir.join("types");
        let (privileged, version) = (found.privileged, found.version.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&cache).map_err(|e| format!("cannot make {}: {e}", cache.display()))?;
            found.rootfs(&cache).map_err(|e| e.to_string())
        });
        let rootfs = unpacked.await.map_err(|e| e.to_string())??;
        Ok(Some(Bundle { rootfs, privileged, version }))
    }
}

/// Starts every pass; they end when `shutdown` is asked for. Running steps go on without the server.
pub fn start(shared: &Arc<Shared>, shutdown: &Shutdown) {
    shutdown.spawn(check::run(shared.clone(), shutdown.clone()));
    shutdown.spawn(schedule::run(shared.clone(), shutdown.clone()));
    shutdown.spawn(track::run(shared.clone(), shutdown.clone()));
    shutdown.spawn(gc::run(shared.clone(), shutdown.clone()));
    shutdown.spawn(disk::run(shared.clone(), shutdown.clone()));
    shutdown.spawn(retention::run(shared.clone(), shutdown.clone()));
}

/// A mistake of this program in words for those whose build or check it has ended.
fn mistake(what: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let why = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason is known");
    format!(
        "a mistake in the server has ended this {what}: {why} (the place is in the server's own log; please report it)"
    )
}

/// One look at the tables that puts right what is wrong.
#[async_trait]
trait Pass: Send {
    /// For the log.
    const NAME: &'static str;

    /// Looks once; says when to look again at the latest, if sooner than usual.
    async fn once(&mut self) -> crate::store::Result<Option<Duration>>;
}

/// A look is written down this often; for people, who look at minutes.
const TOLD: Duration = Duration::from_secs(60);

/// Runs `pass` whenever `wake` rings, at the latest after `period`, until the stop is asked for. A pass that fails is
/// told of and tried again: the tables have not changed. One that an administrator has paused waits.
async fn each_wake<P: Pass>(mut pass: P, shared: &Shared, wake: Wake, period: Duration, shutdown: Shutdown) {
    let name = component::of_pass(P::NAME);
    let mut told = None;
    loop {
        let looked = AssertUnwindSafe(look(&mut pass, shared, name, period, &mut told)).catch_unwind();
        let next = match looked.await {
            Ok(Ok(next)) => next.unwrap_or(period).min(period),
            Ok(Err(error)) => {
                tracing::error!(%error, pass = P::NAME, "a pass failed; it is tried again");
                Duration::from_secs(1)
            }
            // What it was about to do is still in the tables.
            Err(_) => {
                tracing::error!(pass = P::NAME, "a pass ended early; it is tried again");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = wake.wait(next) => {}
            () = shutdown.asked() => return,
        }
    }
}

async fn look<P: Pass>(
    pass: &mut P,
    shared: &Shared,
    name: &'static str,
    period: Duration,
    told: &mut Option<Time>,
) -> crate::store::Result<Option<Duration>> {
    if shared.store.read(move |tx| tx.component_paused(name)).await? {
        return Ok(None);
    }
    let next = pass.once().await?;
    let now = shared.clock.now();
    if told.is_none_or(|t| now.since(t) >= TOLD) {
        shared.store.write(move |tx| tx.component_ran(name, period, now)).await?;
        *told = Some(now);
    }
    Ok(next)
}
