//! Looks at the jobs that somebody asked to be looked at: resolves their inputs, makes builds, starts those that may
//! start. It is a pass because the request is a row: whoever changes what a job depends on marks it in the same
//! transaction, and a crash only means that the job is looked at again.
//!
//! Reads and writes through [`crate::store::WriteTx::advance_job`], one transaction a job, so two jobs of a serial
//! group cannot both take the last slot. Teams are served in turn.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Pass, Shared, each_wake};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, TeamId};
use crate::base::shutdown::Shutdown;
use crate::plan::{Planner, shown};
use crate::schedule::turn::Turns;
use crate::store::advance::{Advanced, Planned};
use crate::store::finish::StartInput;
use crate::store::job::Job;
use crate::store::{Result, WriteTx};

const PERIOD: Duration = Duration::from_secs(10);
/// Jobs looked at before the list is read anew.
const LOOKS: usize = 32;

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.schedule.clone();
    each_wake(Schedule(shared), wake, PERIOD, shutdown).await;
}

struct Schedule(Arc<Shared>);

#[async_trait]
impl Pass for Schedule {
    const NAME: &'static str = "schedule";

    async fn once(&mut self) -> Result<Option<Duration>> {
        let shared = &self.0;
        if shared.hold.why().is_some() {
            return Ok(None);
        }
        loop {
            let mut turns: Turns<TeamId, JobId> = Turns::new();
            for (job, team) in shared.store.read(|tx| tx.jobs_wanting_schedule()).await? {
                turns.push(team, job);
            }
            if turns.is_empty() {
                return Ok(None);
            }
            // What is asked for meanwhile may be more urgent than the rest of the list.
            for _ in 0..LOOKS {
                let Some((_, job)) = turns.pop() else { break };
                look(shared, job).await?;
            }
        }
    }
}

/// Looks at one job.
async fn look(shared: &Arc<Shared>, id: JobId) -> Result<()> {
    let now = shared.clock.now();
    let intervals = shared.intervals();
    let done = shared
        .store
        .write(move |tx| {
            let done = tx.advance_job(id, &intervals, now, &mut |job, build, inputs| plan(tx, job, build, inputs))?;
            if let Some(checks) = &done.checks {
                for resource in &checks.resources {
                    tx.request_check(*resource, now)?;
                }
            }
            if done.again {
                tx.request_schedule(id)?;
            }
            Ok(done)
        })
        .await?;
    tell(shared, &done, now);
    Ok(())
}

/// Wakes whoever has something to do now.
fn tell(shared: &Arc<Shared>, done: &Advanced, _now: Time) {
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
