//! A build's way through life: taking a slot, starting, making versions, being aborted, ending. Each step is one
//! transaction that also keeps what a job points to and asks for a look at the jobs it may let go on.

use rusqlite::{OptionalExtension, params};

use super::build::{Abort, BuildState, Status};
use super::version::Saved;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, ResourceId, ScopeId};
use crate::base::version::{MetadataField, Version};

/// A build that is about to start.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// Which.
    pub build: BuildId,
    /// The plan that will be run (JSON).
    pub plan: &'a str,
    /// What is shown of it (JSON).
    pub public_plan: &'a str,
    /// What it is given.
    pub inputs: &'a [StartInput],
    /// When.
    pub now: Time,
}

/// A version that a build is given, and the upstream builds that vouch for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInput {
    /// Name of the get step.
    pub name: String,
    /// What of.
    pub resource_id: ResourceId,
    /// Which.
    pub version: Version,
    /// Whether the job had never had it.
    pub first_occurrence: bool,
    /// Which builds vouch.
    pub from_builds: Vec<BuildId>,
}

/// What the end of a build has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// False if it was over already: then nothing has changed.
    pub changed: bool,
    /// The job whose build it was.
    pub job: Option<JobId>,
    /// Jobs that were asked to be looked at: then wake the schedule pass.
    pub marked: usize,
}

impl WriteTx<'_> {
    /// Gives a waiting build a slot of its serial groups; it keeps it until it ends.
    pub fn mark_build_scheduled(&self, id: BuildId) -> Result<()> {
        self.prepare_cached("update builds set scheduled = 1 where id = ? and status = 'pending'")?.execute([id])?;
        Ok(())
    }

    /// Starts a waiting build: false if it does not wait any more, or is to be aborted.
    pub fn start_build(&self, start: &Start<'_>) -> Result<bool> {
        let job: Option<Option<JobId>> = self
            .prepare_cached(
                "update builds set status = 'started', started_at = ?2, scheduled = 1, plan = ?3, public_plan = ?4
                 where id = ?1 and status = 'pending' and aborted = 0 returning job_id",
            )?
            .query_row(params![start.build, start.now, start.plan, start.public_plan], |r| r.get(0))
            .optional()?;
        let Some(job) = job else { return Ok(false) };
        let Some(job) = job else { return Ok(true) };
        let mut add_input = self.prepare_cached(
            "insert into build_inputs (build_id, name, resource_id, digest, version, first_occurrence, job_id)
             values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?;
        let mut add_pipe = self.prepare_cached(
            "insert into build_pipes (to_build_id, from_build_id) values (?, ?) on conflict do nothing",
        )?;
        for i in start.inputs {
            let digest = i.version.digest();
            add_input.execute(params![
                start.build,
                i.name,
                i.resource_id,
                digest,
                i.version,
                i.first_occurrence,
                job
            ])?;
            for from in &i.from_builds {
                add_pipe.execute(params![start.build, from])?;
            }
        }
        // The versions it took are new no longer.
        self.request_schedule(job)?;
        Ok(true)
    }

    /// Starts a build without a job (one-off, check).
    pub fn start_plain_build(&self, id: BuildId, plan: &str, public_plan: &str, now: Time) -> Result<bool> {
        self.start_build(&Start { build: id, plan, public_plan, inputs: &[], now })
    }

    /// Replaces what is shown of a running build's plan, when steps were added to it.
    pub fn set_public_plan(&self, id: BuildId, public_plan: &str) -> Result<()> {
        self.prepare_cached("update builds set public_plan = ? where id = ?")?.execute(params![public_plan, id])?;
        Ok(())
    }

    /// Saves what a put of a build made: in the resource's history, whose scope becomes the one in force, and as an
    /// output of the build.
    pub fn add_output(&self, build: BuildId, name: &str, resource: ResourceId, made: &Made<'_>) -> Result<Saved> {
        let mut saved = self.save_put(made.scope, made.version, made.metadata)?;
        saved.marked |= self.set_scope(resource, made.scope)?;
        self.prepare_cached(
            "insert into build_outputs (build_id, name, resource_id, digest, version) values (?, ?, ?, ?, ?)
             on conflict do nothing",
        )?
        .execute(params![build, name, resource, made.version.digest(), made.version])?;
        Ok(saved)
    }

    /// Asks for a build to be stopped, and for a look at its job if it still waits. Returns where it was;
    /// `None` if there is no such build.
    pub fn abort_build(&self, id: BuildId, how: Abort) -> Result<Option<BuildState>> {
        let Some(build) = self.build(id)? else { return Ok(None) };
        if !build.status.is_over() {
            let level = match how {
                Abort::Graceful => 1,
                Abort::Forced => 2,
            };
            self.prepare_cached("update builds set aborted = max(aborted, ?) where id = ?")?
                .execute(params![level, id])?;
            if let (Status::Pending, Some(job)) = (build.status, build.job_id) {
                self.request_schedule(job)?;
            }
        }
        Ok(Some(build.state()))
    }

    /// Ends a build.
    pub fn finish_build(&self, id: BuildId, status: Status, now: Time) -> Result<Finished> {
        debug_assert!(status.is_over(), "a build ends in a status that stays");
        let row: Option<(Option<JobId>, Option<BuildId>)> = self
            .prepare_cached(
                "update builds set status = ?2, ended_at = ?3, plan = null
                 where id = ?1 and status in ('pending', 'started') returning job_id, rerun_of",
            )?
            .query_row(params![id, status, now], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        let Some((job, rerun_of)) = row else { return Ok(Finished::default()) };
        self.prepare_cached("delete from results where build_id = ?")?.execute([id])?;
        let Some(job) = job else { return Ok(Finished { changed: true, job: None, marked: 0 }) };
        if status == Status::Succeeded {
            self.vouch(id, job, rerun_of.unwrap_or(id))?;
            self.prepare_cached(
                "update builds set success = 1 + (select coalesce(max(success), 0) from builds
                   where job_id = ?2 and success is not null) where id = ?1",
            )?
            .execute(params![id, job])?;
        }
        self.update_transition(job, id, status, rerun_of)?;
        self.update_latest_completed(job)?;
        self.update_next_build(job)?;
        let marked = self.request_schedule_after(job)?;
        Ok(Finished { changed: true, job: Some(job), marked })
    }

    /// What people say of a build.
    pub fn set_build_comment(&self, id: BuildId, comment: &str) -> Result<bool> {
        Ok(self.prepare_cached("update builds set comment = ? where id = ?")?.execute(params![comment, id])? == 1)
    }

    /// Remembers that the logs of these builds were removed.
    pub fn set_reaped(&self, builds: &[BuildId], now: Time) -> Result<()> {
        let mut query = self.prepare_cached("update builds set reap_time = ? where id = ?")?;
        for build in builds {
            query.execute(params![now, build])?;
        }
        Ok(())
    }

    /// Builds of checks that ended before `before`, but for the last of each resource, are removed; returned for their logs.
    pub fn purge_checks(&self, before: Time) -> Result<Vec<BuildId>> {
        let mut query = self.prepare_cached(
            "delete from builds where name = 'check' and ended_at < ?
               and id not in (select last_check_build_id from resources where last_check_build_id is not null)
             returning id",
        )?;
        Ok(query.query_map([before], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Which build waits or runs first; reruns of any but the newest completed build do not count.
    pub(in crate::store) fn update_next_build(&self, job: JobId) -> Result<()> {
        let newest = self.newest_completed(job)?;
        self.prepare_cached(
            "update jobs set next_build_id = (
               select min(id) from builds where job_id = ?1 and status in ('pending', 'started')
                 and (rerun_of is null or rerun_of = ?2))
             where id = ?1",
        )?
        .execute(params![job, newest])?;
        Ok(())
    }

    fn update_latest_completed(&self, job: JobId) -> Result<()> {
        let Some(newest) = self.newest_completed(job)? else { return Ok(()) };
        self.prepare_cached(
            "update jobs set latest_completed_build_id = coalesce(
               (select max(id) from builds where rerun_of = ?2 and status not in ('pending', 'started')), ?2)
             where id = ?1",
        )?
        .execute(params![job, newest])?;
        Ok(())
    }

    /// The first build of a row of equal statuses; builds older than the newest completed one do not matter.
    fn update_transition(&self, job: JobId, id: BuildId, status: Status, rerun_of: Option<BuildId>) -> Result<()> {
        let latest: Option<(BuildId, Status)> = self
            .prepare_cached(
                "select b.id, b.status from jobs j join builds b on b.id = j.latest_completed_build_id where j.id = ?",
            )?
            .query_row([job], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        let transition = match latest {
            None => true,
            Some((latest, _)) if id < latest => false,
            Some((latest, before)) => before != status && rerun_of.is_none_or(|of| of == latest),
        };
        if transition {
            self.prepare_cached("update jobs set transition_build_id = ? where id = ?")?.execute(params![id, job])?;
        }
        Ok(())
    }

    /// What the build holds can from now on be passed on.
    fn vouch(&self, id: BuildId, job: JobId, origin: BuildId) -> Result<()> {
        self.prepare_cached(
            "insert into vouchers (job_id, resource_id, digest, origin, build_id)
             select ?2, resource_id, digest, ?3, ?1 from build_outputs where build_id = ?1
             union select ?2, resource_id, digest, ?3, ?1 from build_inputs where build_id = ?1
             on conflict do nothing",
        )?
        .execute(params![id, job, origin])?;
        Ok(())
    }

    /// Asks for a look at the jobs downstream, and, where builds wait, at the job itself and those that share a slot with
    /// it.
    fn request_schedule_after(&self, job: JobId) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "update jobs set schedule_requested = schedule_requested + 1 where id in (
                   select job_id from job_inputs where passed_job_id = ?1
                   union select w.job_id from builds w indexed by builds_going_on where w.status in ('pending', 'started') and w.status = 'pending'
                     and w.job_id in (
                       select ?1
                       union select other.job_id from serial_groups mine
                         join serial_groups other on other.pipeline_id = mine.pipeline_id and other.name = mine.name
                         where mine.job_id = ?1))",
            )?
            .execute([job])?)
    }
}

impl ReadTx<'_> {
    /// The newest build that is over and repeats no other.
    fn newest_completed(&self, job: JobId) -> Result<Option<BuildId>> {
        let mut query = self.prepare_cached(
            "select id from builds where job_id = ? and status not in ('pending', 'started') and rerun_of is null
             order by id desc limit 1",
        )?;
        Ok(query.query_row([job], |r| r.get(0)).optional()?)
    }
}

/// What a put made.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// The history it belongs to.
    pub scope: ScopeId,
    /// The version.
    pub version: &'a Version,
    /// What its type tells about it.
    pub metadata: &'a [MetadataField],
}
