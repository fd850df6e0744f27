//! Gives up what has become old: build logs beyond what jobs keep, builds of checks, child pipelines that nobody sets
//! any more, and, where the operator wants that, pipelines that nobody uses. It is a pass because all of it follows
//! from the rows.
//!
//! A log goes before its row says so: dying in between repeats a removal, which is harmless. Where rows go first, with
//! their pipeline or team, whoever removes them may die before the logs are gone, which are in another file; and a build
//! that ran may write some more. So logs without a row are looked for too.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Pass, Shared, each_wake};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId};
use crate::base::shutdown::Shutdown;
use crate::schedule::retention::{LogLimits, reap};
use crate::store::Result;

/// Concourse: 30 s.
const PERIOD: Duration = Duration::from_secs(30);
/// Builds of checks that were asked for can be watched for so long, the last of each resource for ever.
const CHECKS: Duration = Duration::from_secs(6 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Logs that are looked at in one pass for such whose builds are gone.
const LOOKED_AT: usize = 2_000;

/// What is kept for how long.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keeping {
    /// Which logs jobs keep.
    pub logs: LogLimits,
    /// Pipelines without a build for so many days are paused; 0 for never.
    pub pause_after_days: u32,
}

/// Runs the pass until the stop is asked for.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let wake = shared.wakes.retention.clone();
    let pass = Retention { shared: shared.clone(), looked: None, paused: None, after: BuildId(0) };
    each_wake(pass, &shared, wake, PERIOD, shutdown).await;
}

struct Retention {
    shared: Arc<Shared>,
    /// When everything was last looked through.
    looked: Option<Time>,
    /// When pipelines were last looked through for such that nobody uses.
    paused: Option<Time>,
    /// How far logs were looked through for such whose builds are gone.
    after: BuildId,
}

#[async_trait]
impl Pass for Retention {
    const NAME: &'static str = "retention";

    async fn once(&mut self) -> Result<Option<Duration>> {
        let now = self.shared.clock.now();
        if !self.shared.store.read(|tx| tx.abandoned_pipelines()).await?.is_empty() {
            self.shared.store.write(move |tx| tx.archive_abandoned(now)).await?;
            // What waited there is aborted.
            self.shared.wakes.schedule.ring();
        }
        let ended = std::mem::take(&mut *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for job in ended {
            logs(&self.shared, job, now).await?;
        }
        if self.looked.is_none_or(|at| now >= at.plus(PERIOD)) {
            self.looked = Some(now);
            for job in self.shared.store.read(|tx| tx.jobs_with_logs()).await? {
                logs(&self.shared, job, now).await?;
            }
            checks(&self.shared, now).await?;
            self.orphans().await?;
            self.pause(now).await?;
        }
        Ok(None)
    }
}

impl Retention {
    /// Some logs whose builds are gone: the next ones at each pass, and from the first again after the last. Every log
    /// has a row when it is written, and no id is given twice.
    async fn orphans(&mut self) -> Result<()> {
        let logged = self.shared.store.logged_after(self.after, LOOKED_AT).await?;
        self.after = logged.last().filter(|_| logged.len() == LOOKED_AT).copied().unwrap_or(BuildId(0));
        let gone = self.shared.store.read(move |tx| tx.gone_builds(&logged)).await?;
        if gone.is_empty() { Ok(()) } else { self.shared.store.forget_logs(gone).await }
    }

    /// Once a day, as Concourse does.
    async fn pause(&mut self, now: Time) -> Result<()> {
        let days = self.shared.settings.keeping.pause_after_days;
        if days == 0 || self.paused.is_some_and(|at| now < at.plus(DAY)) {
            return Ok(());
        }
        let before = before(now, DAY.saturating_mul(days));
        let n = self.shared.store.write(move |tx| tx.pause_idle(before, now)).await?;
        if n > 0 {
            tracing::info!(pipelines = n, days, "pipelines that had no builds were paused");
        }
        self.paused = Some(now);
        Ok(())
    }
}

fn before(now: Time, age: Duration) -> Time {
    Time(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// One job's logs.
async fn logs(shared: &Arc<Shared>, id: JobId, now: Time) -> Result<()> {
    let limits = shared.settings.keeping.logs;
    let reaping = shared
        .store
        .read(move |tx| {
            let Some(job) = tx.job(id)?.filter(|j| !j.paused && !j.pipeline_paused) else { return Ok(None) };
            let Some(keep) = limits.of(&job.config) else { return Ok(None) };
            Ok(Some(reap(&tx.logged_builds(id, job.first_logged_build_id)?, keep, now)))
        })
        .await?;
    let Some(reaping) = reaping.filter(|r| !r.reap.is_empty()) else { return Ok(()) };
    shared.store.forget_logs(reaping.reap.clone()).await?;
    shared.store.write(move |tx| tx.logs_reaped(id, &reaping.reap, reaping.oldest_kept, now)).await
}

/// Builds of checks, with their logs.
async fn checks(shared: &Arc<Shared>, now: Time) -> Result<()> {
    let before = before(now, CHECKS);
    if !shared.store.read(move |tx| tx.has_old_checks(before)).await? {
        return Ok(());
    }
    let old = shared.store.write(move |tx| tx.purge_checks(before)).await?;
    if !old.is_empty() {
        shared.store.forget_logs(old).await?;
    }
    Ok(())
}
