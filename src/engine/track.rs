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
use crate::store::Error;
use crate::store::build::{Abort, Status};

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

/// One build from its stored plan to its end; each part is tried again while the store cannot be written.
async fn follow(shared: Arc<Shared>, id: BuildId, stop: CancellationToken) -> BuildId {
    let redactor = Redactor::new();
    let status = loop {
        let ran = match AssertUnwindSafe(run_build(&shared, id, &redactor, &stop)).catch_unwind().await {
            Ok(ran) => ran,
            Err(panic) => broken(&shared, id, redactor.redact(&mistake("build", &*panic))).await,
        };
        match ran {
            Ok(status) => break status,
            Err(error) => try_again(&shared, id, error).await,
        }
    };
    // It is over: it is not run again only because that cannot be written yet.
    if let Some(status) = status {
        while let Err(error) = end(&shared, id, status).await {
            try_again(&shared, id, error).await;
        }
    }
    shared.wakes.track.ring();
    id
}

/// What there is to do before another attempt.
async fn try_again(shared: &Shared, id: BuildId, error: Error) {
    tracing::error!(%error, build = id.0, "a build cannot go on yet");
    if matches!(error, Error::DiskFull) {
        make_room(shared, id).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Ends a build that this server could not run because of a mistake of its own: to try again would be the same mistake.
async fn broken(shared: &Arc<Shared>, id: BuildId, text: String) -> crate::store::Result<Option<Status>> {
    tracing::error!(text, build = id.0, "a build is ended");
    let log = shared.feed.open(id).await?;
    log.emit(&Origin::step(""), &Event::Error(text)).await?;
    Ok(Some(Status::Errored))
}

/// How a build ends that is there and was not over.
async fn run_build(
    shared: &Arc<Shared>,
    id: BuildId,
    redactor: &Redactor,
    stop: &CancellationToken,
) -> crate::store::Result<Option<Status>> {
    let (build, plan) = shared.store.read(move |tx| Ok((tx.build(id)?, tx.build_plan(id)?))).await?;
    let (Some(build), Some(plan)) = (build, plan) else { return Ok(None) };
    if build.status != Status::Started {
        return Ok(None);
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
    Ok(Some(tally::status(&outcome)))
}

/// Ends a build: its log first, so that nobody sees the end before the last line. Steps of it that nobody waits for are
/// stopped.
async fn end(shared: &Arc<Shared>, id: BuildId, status: Status) -> crate::store::Result<()> {
    let mut stored = shared.feed.store_all(id).await;
    if matches!(stored, Err(Error::DiskFull)) {
        shared.store.give_way().await;
        stored = shared.feed.store_end(id).await;
    }
    if let Err(error) = stored {
        tracing::error!(%error, build = id.0, "the end of a build's log is lost");
    }
    let now = shared.clock.now();
    let write = shared.store.write(move |tx| {
        let left = tx.containers_going_on(id)?;
        let (finished, build) = (tx.finish_build(id, status, now)?, tx.build(id)?);
        if let Some((build, resource)) = build.as_ref().and_then(|build| Some((build, build.resource_id?))) {
            // The check that was asked for has been made.
            tx.answer_check(resource, build.created_at)?;
        }
        Ok((left, finished, build))
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
        if build.resource_id.is_some() {
            shared.wakes.check.ring();
        }
        shared.ended.lock().unwrap_or_else(PoisonError::into_inner).extend(build.job_id);
    }
    shared.wakes.schedule.ring();
    shared.wakes.gc.ring();
    shared.wakes.retention.ring();
    Ok(())
}

/// Where the disk is full, gives up what is kept for the end of builds, and what of this build's steps is on it and in no
/// log: nobody can store it any more.
async fn make_room(shared: &Shared, id: BuildId) {
    shared.store.give_way().await;
    let Ok(left) = shared.store.read(move |tx| tx.containers_going_on(id)).await else { return };
    for container in left.into_iter().map(ContainerHandle) {
        gc::stopped(shared, &container).await;
        gc::forget_output(shared, &container).await;
    }
}
