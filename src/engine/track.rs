//! Runs started builds. It is a pass because a build's plan is stored: whatever is started and not running in this
//! process is run from the top, which after a crash is the same as going on.
//!
//! Reads `builds`; writes through the ledger of each build, and its end. When it dies half way, the next start finds
//! the same rows.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::{Pass, Shared, each_wake, gc, mistake, tally};
use crate::base::id::BuildId;
use crate::base::secret::Redactor;
use crate::base::shutdown::Shutdown;
use crate::event::{Event, Origin};
use crate::exec::{self, Outcome, Scope};
use crate::plan::{self, Plan};
use crate::runtime::ContainerHandle;
use crate::store::build::{Abort, Build, Status};

const PERIOD: Duration = Duration::from_secs(10);

/// Runs the pass until the stop is asked for. Builds that run then are left as they are: their steps go on, and the
/// next server takes them up.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.track.clone();
    each_wake(Track::new(shared.clone()), &shared, wake, PERIOD, shutdown).await;
}

/// See the module's doc.
pub(super) struct Track {
    shared: Arc<Shared>,
    running: HashMap<BuildId, CancellationToken>,
    /// Dropped with the pass, which leaves the builds to the next server.
    tasks: JoinSet<BuildId>,
}

impl Track {
    pub(super) fn new(shared: Arc<Shared>) -> Track {
        Track { shared, running: HashMap::new(), tasks: JoinSet::new() }
    }
}

#[async_trait]
impl Pass for Track {
    const NAME: &'static str = "track";

    async fn once(&mut self) -> crate::store::Result<Option<Duration>> {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(build) => {
                    self.running.remove(&build);
                }
                Err(error) => tracing::error!(%error, "a build's task ended early"),
            }
        }
        for build in self.shared.store.read(|tx| tx.started_builds()).await? {
            if !self.running.contains_key(&build.id) {
                let stop = CancellationToken::new();
                if build.aborted.is_some() {
                    // Before anything of it is begun.
                    stop.cancel();
                }
                self.tasks.spawn(follow(self.shared.clone(), build.id, stop.clone()));
                self.running.insert(build.id, stop);
            }
            if build.aborted.is_some()
                && let Some(stop) = self.running.get(&build.id)
            {
                stop.cancel();
            }
            if build.aborted == Some(Abort::Forced) {
                end(&self.shared, build.id, Status::Aborted).await?;
            }
        }
        Ok(None)
    }
}

/// One build from its stored plan to its end; tried again while the store cannot be written.
async fn follow(shared: Arc<Shared>, id: BuildId, stop: CancellationToken) -> BuildId {
    let redactor = Redactor::new();
    loop {
        let ran = AssertUnwindSafe(run_build(&shared, id, &redactor, &stop)).catch_unwind().await;
        let ended = match ran {
            Ok(ended) => ended,
            Err(panic) => end_broken(&shared, id, redactor.redact(&mistake("build", &*panic))).await,
        };
        match ended {
            Ok(()) => break,
            Err(error) => {
                tracing::error!(%error, build = id.0, "a build cannot go on yet");
                make_room(&shared, &error).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    shared.wakes.track.ring();
    id
}

/// Ends a build that this server could not run because of a mistake of its own: to try again would be the same mistake.
async fn end_broken(shared: &Arc<Shared>, id: BuildId, text: String) -> crate::store::Result<()> {
    tracing::error!(text, build = id.0, "a build is ended");
    let log = shared.feed.open(id).await?;
    log.emit(&Origin::step(""), &Event::Error(text)).await?;
    end(shared, id, Status::Errored).await
}

async fn run_build(
    shared: &Arc<Shared>,
    id: BuildId,
    redactor: &Redactor,
    stop: &CancellationToken,
) -> crate::store::Result<()> {
    let (build, plan) = shared.store.read(move |tx| Ok((tx.build(id)?, tx.build_plan(id)?))).await?;
    let (Some(build), Some(plan)) = (build, plan) else { return Ok(()) };
    if build.status != Status::Started {
        return Ok(());
    }
    let _running = tally::is_check(&build).then(tally::Running::check);
    let log = shared.feed.open(id).await?;
    let outcome = match plan::stored::<Plan>(&plan) {
        Ok(plan) => {
            let world = Arc::new(Ledger::of_build(shared.clone(), &build, log.clone(), redactor.clone()));
            let scope = Scope::new(world, redactor.clone(), stop.clone());
            exec::run(&plan, &scope).await
        }
        Err(error) => {
            let text = format!("the stored plan of this build cannot be read: {error}");
            log.emit(&Origin::step(""), &Event::Error(text.clone())).await?;
            Outcome::Errored(text)
        }
    };
    let status = tally::status(&outcome);
    if let Some(resource) = build.resource_id {
        after_check(shared, &build, resource).await?;
    }
    end(shared, id, status).await
}

/// A check that was asked for has been made.
async fn after_check(
    shared: &Arc<Shared>,
    build: &Build,
    resource: crate::base::id::ResourceId,
) -> crate::store::Result<()> {
    let asked = build.created_at;
    shared.store.write(move |tx| tx.answer_check(resource, asked)).await?;
    shared.wakes.schedule.ring();
    shared.wakes.check.ring();
    Ok(())
}

/// Ends a build: its log first, so that nobody sees the end before the last line. Steps of it that nobody waits for are
/// stopped.
async fn end(shared: &Arc<Shared>, id: BuildId, status: Status) -> crate::store::Result<()> {
    let mut stored = shared.feed.store_all(id).await;
    if let Err(error) = &stored
        && make_room(shared, error).await
    {
        stored = shared.feed.store_all(id).await;
    }
    if let Err(error) = stored {
        tracing::error!(%error, build = id.0, "the end of a build's log is lost");
    }
    let now = shared.clock.now();
    let write = shared.store.write(move |tx| {
        let left = tx.containers_going_on(id)?;
        Ok((left, tx.finish_build(id, status, now)?, tx.build(id)?))
    });
    let (left, finished, build) = write.await?;
    shared.feed.close(id);
    if !left.is_empty() {
        // Should this process end meanwhile, the collector does it.
        let shared = shared.clone();
        tokio::spawn(async move {
            join_all(left.into_iter().map(async |left| gc::stopped(&shared, &ContainerHandle(left)).await)).await;
        });
    }
    if finished.changed
        && let Some(build) = build
    {
        tally::ended(&build);
        shared.ended.lock().unwrap_or_else(PoisonError::into_inner).extend(build.job_id);
    }
    shared.wakes.schedule.ring();
    shared.wakes.gc.ring();
    shared.wakes.retention.ring();
    Ok(())
}

/// Where the disk is full, gives up what is kept for the end of builds; false if that would not help.
async fn make_room(shared: &Shared, error: &crate::store::Error) -> bool {
    matches!(error, crate::store::Error::DiskFull) && shared.store.give_way().await
}
