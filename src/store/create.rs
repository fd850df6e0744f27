//! Making builds: by the scheduler, by hand, again, one-off, and for checks.

use rusqlite::{OptionalExtension, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, TeamId};

/// Why a build cannot be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rerun {
    /// It is.
    Created(BuildId),
    /// It belongs to no job, or there is no such build.
    NotFound,
    /// It never got its inputs.
    WithoutInputs,
}

/// A check that somebody asked for.
#[derive(Debug, Clone, Copy)]
pub struct CheckBuild<'a> {
    /// Where.
    pub pipeline: PipelineId,
    /// What of; none for a resource type.
    pub resource: Option<ResourceId>,
    /// Who asked, if a person.
    pub by: Option<&'a str>,
    /// What will be run (JSON).
    pub plan: &'a str,
    /// What is shown of it (JSON).
    pub public_plan: &'a str,
    /// When.
    pub now: Time,
    /// It is not started yet, since nothing may begin now.
    pub waits: bool,
}

/// A one-off build.
#[derive(Debug, Clone, Copy)]
pub struct PlainBuild<'a> {
    /// Whose.
    pub team: TeamId,
    /// The pipeline it is shown in, if any.
    pub pipeline: Option<PipelineId>,
    /// What is run (JSON).
    pub plan: &'a str,
    /// What is shown of it (JSON).
    pub public_plan: &'a str,
    /// When.
    pub now: Time,
    /// It is not started yet, since nothing may begin now.
    pub waits: bool,
}

impl WriteTx<'_> {
    /// Makes a build for a job unless one is waiting already. Returns it if it was made.
    pub fn ensure_pending_build(&self, job: JobId, now: Time) -> Result<Option<BuildId>> {
        let waiting: bool = self
            .prepare_cached(
                "select exists (select 1 from builds indexed by builds_going_on
                   where job_id = ? and status in ('pending', 'started') and status = 'pending')",
            )?
            .query_row([job], |r| r.get(0))?;
        if waiting {
            return Ok(None);
        }
        self.add_job_build(job, None, now).map(Some)
    }

    /// Makes a build that a person asked for, and asks for a look at its job.
    pub fn create_manual_build(&self, job: JobId, by: &str, now: Time) -> Result<BuildId> {
        let build = self.add_job_build(job, Some(by), now)?;
        self.request_schedule(job)?;
        Ok(build)
    }

    /// Makes a build that repeats another with the same inputs: `7.1`, `7.2`; of a repeated one, the original.
    pub fn create_rerun(&self, of: BuildId, by: &str, now: Time) -> Result<Rerun> {
        let Some(named) = self.build(of)? else { return Ok(Rerun::NotFound) };
        let Some(job) = named.job_id else { return Ok(Rerun::NotFound) };
        let original = named.rerun_of.unwrap_or(named.id);
        if !self.has_inputs(original)? {
            return Ok(Rerun::WithoutInputs);
        }
        let id = self
            .prepare_cached(
                "insert into builds (name, team_id, pipeline_id, job_id, created_at, created_by, rerun_of, rerun_number)
                 select b.name || '.' || n.number, b.team_id, b.pipeline_id, b.job_id, ?2, ?3, b.id, n.number
                 from builds b, (select coalesce(max(rerun_number), 0) + 1 as number from builds where rerun_of = ?1) n
                 where b.id = ?1 returning id",
            )?
            .query_row(params![original, now, by], |r| r.get(0))?;
        self.update_next_build(job)?;
        self.request_schedule(job)?;
        Ok(Rerun::Created(id))
    }

    /// Makes a build of a team that belongs to no pipeline.
    pub fn create_one_off_build(&self, team: TeamId, by: &str, now: Time) -> Result<BuildId> {
        let name = self.next_in_sequence("one_off")?.to_string();
        self.prepare_cached(
            "insert into builds (name, team_id, created_at, created_by, manual) values (?, ?, ?, ?, 1)",
        )?
        .execute(params![name, team, now, by])?;
        Ok(BuildId(self.last_insert_rowid()))
    }

    /// Makes a one-off build, and starts it unless it has to wait for the check pass to do so. Concourse tells nobody who asked for it; the audit trail does.
    pub fn create_plain_build(&self, new: &PlainBuild<'_>) -> Result<BuildId> {
        let name = self.next_in_sequence("one_off")?.to_string();
        self.prepare_cached(
            "insert into builds (name, team_id, pipeline_id, created_at, manual, plan, public_plan)
             values (?, ?, ?, ?, 1, ?, ?)",
        )?
        .execute(params![name, new.team, new.pipeline, new.now, new.plan, new.public_plan])?;
        let id = BuildId(self.last_insert_rowid());
        if !new.waits {
            self.start_plain_build(id, new.plan, new.public_plan, new.now)?;
        }
        Ok(id)
    }

    /// Makes the build of a check with its plan, and starts it unless it has to wait for the check pass to do so.
    pub fn create_check_build(&self, check: &CheckBuild<'_>) -> Result<BuildId> {
        let id = self
            .prepare_cached(
                "insert into builds (name, team_id, pipeline_id, resource_id, created_at, created_by, manual, plan, public_plan)
                 select 'check', p.team_id, p.id, ?2, ?3, ?4, ?4 is not null, ?5, ?6 from pipelines p where p.id = ?1
                 returning id",
            )?
            .query_row(
                params![check.pipeline, check.resource, check.now, check.by, check.plan, check.public_plan],
                |r| r.get(0),
            )?;
        if let Some(resource) = check.resource {
            self.set_last_check_build(resource, id)?;
        }
        if !check.waits {
            self.start_plain_build(id, check.plan, check.public_plan, check.now)?;
        }
        Ok(id)
    }

    /// An id that no build has or will have.
    pub(in crate::store) fn take_build_id(&self) -> Result<BuildId> {
        let next = "update sqlite_sequence set seq = seq + 1 where name = 'builds' returning seq";
        let mut query = self.prepare_cached(next)?;
        if let Some(id) = query.query_row([], |r| r.get(0)).optional()? {
            return Ok(id);
        }
        self.prepare_cached("insert into sqlite_sequence (name, seq) values ('builds', 0)")?.execute([])?;
        Ok(query.query_row([], |r| r.get(0))?)
    }

    fn add_job_build(&self, job: JobId, by: Option<&str>, now: Time) -> Result<BuildId> {
        self.prepare_cached("update jobs set build_count = build_count + 1 where id = ?")?.execute([job])?;
        let id = self
            .prepare_cached(
                "insert into builds (name, team_id, pipeline_id, job_id, created_at, created_by, manual)
                 select cast(j.build_count as text), p.team_id, p.id, j.id, ?2, ?3, ?3 is not null
                 from jobs j join pipelines p on p.id = j.pipeline_id where j.id = ?1 returning id",
            )?
            .query_row(params![job, now, by], |r| r.get(0))?;
        self.update_next_build(job)?;
        Ok(id)
    }
}

impl ReadTx<'_> {
    /// Whether a build was ever given its inputs (which may be none).
    pub fn has_inputs(&self, build: BuildId) -> Result<bool> {
        let mut query = self.prepare_cached("select started_at is not null from builds where id = ?")?;
        Ok(query.query_row([build], |r| r.get(0))?)
    }
}
