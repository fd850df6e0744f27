//! Checks resources that are due: at their interval, or because somebody asked. It is a pass because what is due
//! follows from the rows; it tells itself when the next will be, so nothing waits for a tick.
//!
//! Reads `resources` and `scopes`, writes through the ledger of each check. Checks that a person asked for are builds
//! with a row, which the track pass runs; this one starts them. All others leave only versions, or the text of what
//! went wrong.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::{Pass, Shared, each_wake, mistake, tally};
use crate::base::clock::Time;
use crate::base::id::ResourceId;
use crate::base::shutdown::Shutdown;
use crate::exec::{self, BuildEnv, Outcome, Scope};
use crate::plan::Planner;
use crate::schedule::due::due;
use crate::schedule::rate::Rate;
use crate::store::Result;
use crate::store::build::Status;

const PERIOD: Duration = Duration::from_secs(60);
/// Checks at once. More would only wait for the same processors, or for the same server.
const AT_ONCE: usize = 32;

/// Runs the pass until the stop is asked for; checks under way are given up then.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.check.clone();
    let pass = Check {
        shared: shared.clone(),
        under_way: Arc::default(),
        places: Arc::new(Semaphore::new(AT_ONCE)),
        rate: Rate::new(shared.settings.checks_per_second),
        tasks: JoinSet::new(),
    };
    each_wake(pass, &shared, wake, PERIOD, shutdown).await;
}

struct Check {
    shared: Arc<Shared>,
    under_way: Arc<Mutex<HashSet<ResourceId>>>,
    places: Arc<Semaphore>,
    /// Of checks that nobody has asked for.
    rate: Option<Rate>,
    tasks: JoinSet<()>,
}

#[async_trait]
impl Pass for Check {
    const NAME: &'static str = "check";

    async fn once(&mut self) -> Result<Option<Duration>> {
        while self.tasks.try_join_next().is_some() {}
        let held = self.shared.hold.why().is_some();
        start_asked(&self.shared, held).await?;
        if held {
            return Ok(None);
        }
        let now = self.shared.clock.now();
        let watches = self.shared.store.read(|tx| tx.watches()).await?;
        let decision = due(now, &watches, &self.shared.intervals());
        let requested: HashSet<ResourceId> = watches.iter().filter(|w| w.requested).map(|w| w.resource).collect();
        let mut next = decision.next.map(|next| next.since(now).max(Duration::from_millis(10)));
        for resource in decision.now {
            if self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains(&resource) {
                continue;
            }
            let requested = requested.contains(&resource);
            if !requested {
                if let Some(Err(wait)) = self.rate.as_mut().map(|rate| rate.take(now)) {
                    next = Some(next.map_or(wait, |next| next.min(wait)));
                    // Those that were asked for stand before all others.
                    break;
                }
                metrics::counter!("concourse_lidar_checks_enqueued_total").increment(1);
            }
            self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(resource);
            let (shared, under_way, places) = (self.shared.clone(), self.under_way.clone(), self.places.clone());
            self.tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                if let Err(error) = check(&shared, resource, requested).await {
                    tracing::error!(%error, resource = resource.0, "a check could not be written down");
                }
                under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&resource);
                // Its next time is known now.
                shared.wakes.check.ring();
            });
        }
        Ok(next)
    }
}

/// Starts the checks that were asked for by API, and one-off builds that had to wait: builds with a row. While nothing
/// may begin, only those go that nobody wants any more.
async fn start_asked(shared: &Arc<Shared>, held: bool) -> Result<()> {
    let mut started = false;
    for build in shared.store.read(|tx| tx.pending_without_job()).await? {
        if held && build.aborted.is_none() {
            continue;
        }
        let one_off = build.name != "check";
        let now = shared.clock.now();
        let begun = shared
            .store
            .write(move |tx| {
                if build.aborted.is_some() {
                    tx.finish_build(build.id, Status::Aborted, now)?;
                    return Ok(false);
                }
                match tx.build_plan(build.id)?.zip(tx.build_public_plan(build.id)?) {
                    Some((plan, public_plan)) => tx.start_plain_build(build.id, &plan, &public_plan, now),
                    None => {
                        tx.finish_build(build.id, Status::Errored, now)?;
                        Ok(false)
                    }
                }
            })
            .await?;
        if begun {
            tally::begun(!one_off);
        }
        shared.feed.changed(build.id);
        started |= begun;
    }
    if started {
        shared.wakes.track.ring();
    }
    Ok(())
}

/// One check without a row. `asked`: somebody waits for it, so no interval counts.
async fn check(shared: &Arc<Shared>, id: ResourceId, asked: bool) -> Result<()> {
    let found = shared
        .store
        .read(move |tx| {
            let Some(row) = tx.resource(id)? else { return Ok(None) };
            let (config, pipeline) = (tx.pipeline_config(row.pipeline_id)?, tx.pipeline(row.pipeline_id)?);
            Ok(config.zip(pipeline).map(|(c, p)| (row, c, p)))
        })
        .await?;
    let Some((row, config, pipeline)) = found else { return Ok(()) };
    let requested = row.check_requested;
    let now = shared.clock.now();
    let env = BuildEnv {
        owner: format!("c{}-{:x}", id.0, now.0),
        build_name: "check".to_owned(),
        team_id: row.team_id.0,
        team: pipeline.team_name.clone(),
        pipeline_id: row.pipeline_id.0,
        pipeline: pipeline.name.clone(),
        instance_vars: pipeline.reference().vars_text(),
        external_url: shared.settings.external_url.clone(),
        proxies: shared.settings.proxies.clone(),
        ..BuildEnv::default()
    };
    let plan = Planner::new(&config, Default::default(), false).check(&row.config, None, asked, !row.check_deeply);
    let world = Arc::new(Ledger::of_check(shared.clone(), env, id));
    let scope = Scope::new(world.clone(), world.redactor(), CancellationToken::new());
    tally::begun(true);
    let running = tally::Running::check();
    let ran = AssertUnwindSafe(exec::run(&plan, &scope)).catch_unwind().await;
    drop(running);
    // What a mistake has left behind may still run, and nobody wants to look into it.
    let broken = ran.is_err();
    let outcome = ran.unwrap_or_else(|panic| {
        let text = scope.redactor.redact(&mistake("check", &*panic));
        tracing::error!(text, resource = id.0, "a check is ended");
        Outcome::Errored(text)
    });
    world.clear(!broken && matches!(outcome, Outcome::Errored(_) | Outcome::Failed | Outcome::TimedOut)).await;
    tally::check_ended(tally::status(&outcome));
    let error = match outcome {
        Outcome::Errored(text) => text,
        _ => String::new(),
    };
    ended(shared, (id, now), requested, error, asked).await
}

/// Writes down that a check of a resource that began at that time has ended, and lets builds that waited for it go on.
async fn ended(
    shared: &Arc<Shared>,
    (id, began): (ResourceId, Time),
    requested: Time,
    error: String,
    asked: bool,
) -> Result<()> {
    let now = shared.clock.now();
    shared
        .store
        .write(move |tx| {
            tx.checked(id, &error, began, now)?;
            if asked {
                tx.answer_check(id, requested)?;
                tx.request_schedule_of_waiting(id)?;
            }
            Ok(())
        })
        .await?;
    if asked {
        shared.wakes.schedule.ring();
    }
    Ok(())
}
