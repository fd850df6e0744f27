//! What has become old: build logs, builds of checks, pipelines that nobody sets or runs any more.

use rusqlite::params;

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId};
use crate::schedule::retention::Logged;

/// Who pauses pipelines that nobody uses, by Concourse's name.
const PAUSER: &str = "automatic-pipeline-pauser";

impl ReadTx<'_> {
    /// Jobs whose logs are looked through: active, and neither they nor their pipelines are paused.
    pub fn jobs_with_logs(&self) -> Result<Vec<JobId>> {
        let mut query = self.prepare_cached(
            "select j.id from jobs j join pipelines p on p.id = j.pipeline_id
             where j.active = 1 and j.paused = 0 and p.paused = 0 and p.archived = 0",
        )?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// A job's builds that still have their logs, newest first.
    pub fn logged_builds(&self, job: JobId, from: BuildId) -> Result<Vec<Logged>> {
        let mut query = self.prepare_cached(
            "select id, status = 'succeeded', case when status not in ('pending', 'started') then ended_at end
             from builds where job_id = ? and id >= ? and reap_time is null order by id desc",
        )?;
        let rows = query.query_map(params![job, from], |r| {
            Ok(Logged { build: r.get(0)?, succeeded: r.get(1)?, ended_at: r.get(2)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether there are builds of checks that ended before `before`, but for the last of each resource.
    pub fn has_old_checks(&self, before: Time) -> Result<bool> {
        let mut query = self.prepare_cached(
            "select exists (select 1 from builds where name = 'check' and ended_at < ?
               and id not in (select last_check_build_id from resources where last_check_build_id is not null))",
        )?;
        Ok(query.query_row([before], |r| r.get(0))?)
    }

    /// Those of these builds that are gone, with their pipeline or team.
    pub fn gone_builds(&self, builds: &[BuildId]) -> Result<Vec<BuildId>> {
        let mut query =
            self.prepare_cached("select value from json_each(?) where value not in (select id from builds)")?;
        Ok(query.query_map([Json(builds)], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Pipelines without a build since `before`, that were not set since then either.
    pub fn idle_pipelines(&self, before: Time) -> Result<Vec<PipelineId>> {
        let mut query = self.prepare_cached(
            "select p.id from pipelines p where p.paused = 0 and p.archived = 0 and p.last_updated < ?1
               and not exists (
                 select 1 from jobs j left join builds b on b.id = j.latest_completed_build_id
                 where j.pipeline_id = p.id and j.active = 1 and (b.ended_at > ?1 or j.next_build_id is not null))",
        )?;
        Ok(query.query_map([before], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Archives pipelines whose `set_pipeline` step is gone, and then those that these had set; how many.
    pub fn archive_abandoned(&self, now: Time) -> Result<usize> {
        let mut archived = 0;
        loop {
            let abandoned = self.abandoned_pipelines()?;
            if abandoned.is_empty() {
                return Ok(archived);
            }
            for pipeline in abandoned {
                self.archive_pipeline(pipeline, now)?;
                archived += 1;
            }
        }
    }

    /// Pauses pipelines without a build since `before`; how many.
    pub fn pause_idle(&self, before: Time, now: Time) -> Result<usize> {
        let idle = self.idle_pipelines(before)?;
        for pipeline in &idle {
            self.pause_pipeline(*pipeline, PAUSER, now)?;
        }
        Ok(idle.len())
    }

    /// Remembers that the logs of these builds of a job were removed, and the oldest that is left.
    pub fn logs_reaped(&self, job: JobId, builds: &[BuildId], oldest: Option<BuildId>, now: Time) -> Result<()> {
        self.set_reaped(builds, now)?;
        oldest.map_or(Ok(()), |oldest| self.set_first_logged_build(job, oldest))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::build::Status;
    use crate::store::fixture::{job, set, store};

    #[test]
    fn children_of_children_are_archived_with_their_parent() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let jobs = json!({"jobs": [{"name": "j", "plan": []}]});
                let all: Vec<_> = ["a", "b", "c"].map(|name| set(tx, name, jobs.clone()).unwrap()).into();
                for (parent, child) in [(all[0], all[1]), (all[1], all[2])] {
                    let build = tx.create_manual_build(job(tx, parent, "j"), "alice", Time(1))?;
                    tx.finish_build(build, Status::Succeeded, Time(2))?;
                    tx.set_pipeline_parent(child, job(tx, parent, "j"), build)?;
                }
                assert_eq!(tx.archive_abandoned(Time(3))?, 0);
                let again = tx.create_manual_build(job(tx, all[0], "j"), "alice", Time(4))?;
                tx.finish_build(again, Status::Failed, Time(5))?;
                assert_eq!(tx.archive_abandoned(Time(6))?, 0, "a build that failed may not have come to its step");
                let again = tx.create_manual_build(job(tx, all[0], "j"), "alice", Time(7))?;
                tx.finish_build(again, Status::Succeeded, Time(8))?;
                assert_eq!(tx.archive_abandoned(Time(9))?, 2);
                let archived = |id| tx.pipeline(id).unwrap().unwrap().archived;
                assert_eq!(all.iter().map(|id| archived(*id)).collect::<Vec<_>>(), [false, true, true]);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_pipeline_without_builds_for_long_is_paused() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let build = tx.create_manual_build(job(tx, p, "j"), "alice", Time(1000))?;
                assert_eq!(tx.pause_idle(Time(5000), Time(9000))?, 0, "a build waits");
                tx.finish_build(build, Status::Succeeded, Time(4000))?;
                assert_eq!(tx.pause_idle(Time(3999), Time(9000))?, 0, "a build has ended since");
                assert_eq!(tx.pause_idle(Time(4000), Time(9000))?, 1);
                let row = tx.pipeline(p)?.unwrap();
                assert_eq!(
                    (row.paused_by.as_deref(), row.paused_at),
                    (Some("automatic-pipeline-pauser"), Some(Time(9000)))
                );
                let new = set(tx, "new", json!({}))?;
                assert_eq!(tx.pause_idle(Time(999), Time(9001))?, 0, "it was set since");
                assert_eq!(tx.idle_pipelines(Time(1001))?, [new]);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn builds_whose_logs_were_removed_are_not_looked_at_again() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let j = job(tx, p, "j");
                let builds: Vec<_> = (0..3).map(|_| tx.create_manual_build(j, "alice", Time(1)).unwrap()).collect();
                tx.finish_build(builds[0], Status::Succeeded, Time(2))?;
                let logged = |from| tx.logged_builds(j, from).unwrap();
                assert_eq!(logged(BuildId(0)).len(), 3);
                assert_eq!(
                    logged(BuildId(0))[2],
                    Logged { build: builds[0], succeeded: true, ended_at: Some(Time(2)) }
                );
                tx.logs_reaped(j, &builds[..1], Some(builds[1]), Time(3))?;
                assert_eq!(logged(BuildId(0)).iter().map(|l| l.build).collect::<Vec<_>>(), [builds[2], builds[1]]);
                assert_eq!(tx.job(j)?.unwrap().first_logged_build_id, builds[1]);
                assert_eq!(tx.gone_builds(&[builds[0], BuildId(99), builds[2]])?, [BuildId(99)]);
                assert_eq!(tx.jobs_with_logs()?, [j]);
                tx.pause_job(j, "alice", Time(1))?;
                assert!(tx.jobs_with_logs()?.is_empty());
                Ok(())
            })
            .unwrap();
    }
}
