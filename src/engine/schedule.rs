//! Looks at the jobs that somebody asked to be looked at: resolves their inputs, makes builds, starts those that may
//! start. It is a pass because the request is a row: whoever changes what a job depends on marks it in the same
//! transaction, and a crash only means that the job is looked at again.
//!
//! Reads and writes through [`crate::store::WriteTx::advance_job`], in write transactions, so two jobs of a serial
//! group cannot both take the last slot. Teams are served in turn, and a job that fails to be looked at keeps no other
//! from it.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;

use super::{Pass, Shared, each_wake};
use crate::base::id::{BuildId, JobId, TeamId};
use crate::base::shutdown::Shutdown;
use crate::plan::{Planner, shown};
use crate::schedule::turn::Turns;
use crate::store::advance::{Advanced, Look, Planned, Searched};
use crate::store::finish::StartInput;
use crate::store::job::Job;
use crate::store::{Error, Result, WriteTx};

const PERIOD: Duration = Duration::from_secs(10);
/// Jobs looked at before the list is read anew.
const LOOKS: usize = 32;
/// Jobs looked at in one transaction: others who write wait for so many at most.
pub const TOGETHER: usize = 8;
/// When a look that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.schedule.clone();
    each_wake(Schedule(shared.clone()), &shared, wake, PERIOD, shutdown).await;
}

/// See the module's doc.
pub(super) struct Schedule(pub(super) Arc<Shared>);

#[async_trait]
impl Pass for Schedule {
    const NAME: &'static str = "schedule";

    async fn once(&mut self) -> Result<Option<Duration>> {
        let shared = &self.0;
        if shared.hold.why().is_some() {
            return Ok(None);
        }
        let mut failed = HashSet::new();
        loop {
            let mut turns: Turns<TeamId, JobId> = Turns::new();
            for (job, team) in shared.store.read(|tx| tx.jobs_wanting_schedule()).await? {
                if !failed.contains(&job) {
                    turns.push(team, job);
                }
            }
            if turns.is_empty() {
                return Ok((!failed.is_empty()).then_some(AGAIN));
            }
            // What is asked for meanwhile may be more urgent than the rest of the list.
            for _ in 0..LOOKS / TOGETHER {
                let jobs: Vec<JobId> = std::iter::from_fn(|| turns.pop()).take(TOGETHER).map(|(_, job)| job).collect();
                let mut long = Vec::new();
                match look(shared, &jobs, None).await {
                    Ok(search) => long.extend(search),
                    // One job that cannot be looked at must not keep the others from it.
                    Err(_) => {
                        for job in jobs {
                            match look(shared, &[job], None).await {
                                Ok(search) => long.extend(search),
                                Err(error) => {
                                    tracing::error!(%error, job = job.0, "a job cannot be scheduled; it is tried again");
                                    failed.insert(job);
                                }
                            }
                        }
                    }
                }
                long.into_iter().for_each(|job| drop(tokio::spawn(search(shared.clone(), job))));
            }
        }
    }
}

/// Looks at jobs in one transaction. Returns those whose history must be searched first.
async fn look(shared: &Arc<Shared>, jobs: &[JobId], given: Option<Searched>) -> Result<Vec<JobId>> {
    let now = shared.clock.now();
    let intervals = shared.intervals();
    let ids = jobs.to_vec();
    let looked = shared.store.write(move |tx| {
        let look = Look { intervals: &intervals, now, given };
        ids.into_iter().map(|id| Ok((id, look_at(tx, id, &look)?))).collect::<Result<Vec<_>>>()
    });
    let Ok(looked) = AssertUnwindSafe(looked).catch_unwind().await else { return Err(Error::Cancelled) };
    let looked = looked?;
    looked.iter().for_each(|(_, done)| tell(shared, done));
    Ok(looked.into_iter().filter(|(_, done)| done.search).map(|(job, _)| job).collect())
}

fn look_at(tx: &WriteTx<'_>, id: JobId, look: &Look<'_>) -> Result<Advanced> {
    let done = tx.advance_job(id, look, &mut |job, build, inputs| plan(tx, job, build, inputs))?;
    if let Some(checks) = &done.checks {
        for resource in &checks.resources {
            tx.request_check(*resource, checks.forced, look.now)?;
        }
    }
    if done.again {
        tx.request_schedule(id)?;
    }
    Ok(done)
}

/// Goes through a job's long history beside the pass, so that nobody else waits for it, and looks at the job with what
/// it found.
async fn search(shared: Arc<Shared>, id: JobId) {
    let _one = shared.locks.take(&format!("search {id}")).await;
    loop {
        let again = match shared.store.read(move |tx| tx.search_inputs(id)).await {
            Ok(None) => return,
            Ok(found) => look(&shared, &[id], found).await,
            Err(error) => Err(error),
        };
        match again {
            Ok(long) if !long.is_empty() => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, job = id.0, "a job's history was not searched; it is tried with the next look");
                return;
            }
        }
    }
}

/// Wakes whoever has something to do now.
fn tell(shared: &Arc<Shared>, done: &Advanced) {
    metrics::counter!("concourse_jobs_scheduled_total").increment(1);
    for build in done.started.iter().chain(&done.finished) {
        shared.feed.changed(*build);
    }
    if !done.started.is_empty() {
        metrics::counter!("concourse_builds_started_total").increment(done.started.len() as u64);
        shared.wakes.track.ring();
    }
    if done.checks.is_some() {
        shared.wakes.check.ring();
    }
}

/// The plan of a build that is about to start.
fn plan(tx: &WriteTx<'_>, job: &Job, build: BuildId, inputs: &[StartInput]) -> Planned {
    let config = match tx.pipeline_config(job.pipeline_id) {
        Ok(Some(config)) => config,
        Ok(None) => return None,
        Err(error) => {
            tracing::error!(%error, job = %job.name, "the pipeline's configuration cannot be read");
            return None;
        }
    };
    let versions = inputs.iter().map(|i| (i.name.clone(), i.version.clone())).collect();
    let manual = tx.build(build).ok().flatten().is_some_and(|b| b.manual);
    match Planner::new(&config, versions, manual).job(&job.config) {
        Ok(plan) => {
            let stored = serde_json::to_string(&plan).ok()?;
            Some((stored, shown(&plan).to_string()))
        }
        Err(error) => {
            tracing::warn!(%error, job = %job.name, build = build.0, "no plan can be made");
            None
        }
    }
}
