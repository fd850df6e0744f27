//! Jobs: rows, pause, and the requests to look at them. Which builds they point to is kept by `finish.rs`.

use rusqlite::{OptionalExtension, Row, params};

use super::build::Status;
use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, TeamId};
use crate::pipeline;

/// A row of `jobs`, with what its pipeline and team add.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// That pipeline's team.
    pub team_id: TeamId,
    /// Its name.
    pub name: String,
    /// Whether it is in the configuration.
    pub active: bool,
    /// Its part of the configuration.
    pub config: pipeline::Job,
    /// Whether it starts no builds.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// When.
    pub paused_at: Option<Time>,
    /// Whether its pipeline is paused.
    pub pipeline_paused: bool,
    /// Whether its pipeline is archived.
    pub pipeline_archived: bool,
    /// Whether the last pass found a version for every input.
    pub inputs_determined: bool,
    /// Whether any input has a version it never had.
    pub has_new_inputs: bool,
    /// Newest completed build.
    pub latest_completed_build_id: Option<BuildId>,
    /// First pending or started build.
    pub next_build_id: Option<BuildId>,
    /// First build since the status last changed.
    pub transition_build_id: Option<BuildId>,
    /// Builds before it have no log any more.
    pub first_logged_build_id: BuildId,
    /// Count of requests to look at it, to be handed to [`WriteTx::mark_scheduled`].
    pub schedule_mark: i64,
}

const COLUMNS: &str =
    "select j.id, j.pipeline_id, p.team_id, j.name, j.active, j.config, j.paused, j.paused_by, j.paused_at,
  p.paused, p.archived, j.inputs_determined, j.has_new_inputs, j.latest_completed_build_id, j.next_build_id,
  j.transition_build_id, j.first_logged_build_id, j.schedule_requested
  from jobs j join pipelines p on p.id = j.pipeline_id";

impl Job {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Job> {
        Ok(Job {
            id: r.get(0)?,
            pipeline_id: r.get(1)?,
            team_id: r.get(2)?,
            name: r.get(3)?,
            active: r.get(4)?,
            config: r.get::<_, Json<pipeline::Job>>(5)?.0,
            paused: r.get(6)?,
            paused_by: r.get(7)?,
            paused_at: r.get(8)?,
            pipeline_paused: r.get(9)?,
            pipeline_archived: r.get(10)?,
            inputs_determined: r.get(11)?,
            has_new_inputs: r.get(12)?,
            latest_completed_build_id: r.get(13)?,
            next_build_id: r.get(14)?,
            transition_build_id: r.get(15)?,
            first_logged_build_id: r.get(16)?,
            schedule_mark: r.get(17)?,
        })
    }
}

/// An input of a job as saved: globs of `passed` resolved to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInputRow {
    /// The job.
    pub job_id: JobId,
    /// Name of the get step.
    pub name: String,
    /// What it gets.
    pub resource_id: ResourceId,
    /// That resource's name.
    pub resource_name: String,
    /// Jobs it must have passed, with their names, in the order of ids.
    pub passed: Vec<(JobId, String)>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// `latest`, `every`, or JSON of a pinned version.
    pub version: String,
}

/// An output of a job as saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutputRow {
    /// The job.
    pub job_id: JobId,
    /// Name of the put step.
    pub name: String,
    /// What it puts.
    pub resource_id: ResourceId,
    /// That resource's name.
    pub resource_name: String,
}

/// How the latest build of a job ended that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestStatus {
    /// Job.
    pub job: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its team.
    pub team: String,
    /// Status.
    pub status: Status,
}

impl ReadTx<'_> {
    /// How the latest build of every job ended; instances of a pipeline count as one.
    pub fn latest_statuses(&self) -> Result<Vec<LatestStatus>> {
        let mut query = self.prepare_cached(
            "select j.name, p.name, t.name, b.status, max(b.id)
             from jobs j join builds b on b.id = j.latest_completed_build_id
             join pipelines p on p.id = j.pipeline_id join teams t on t.id = p.team_id
             where j.active = 1 and p.archived = 0
             group by 1, 2, 3",
        )?;
        let rows = query.query_map([], |r| {
            Ok(LatestStatus { job: r.get(0)?, pipeline: r.get(1)?, team: r.get(2)?, status: r.get(3)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The job of that id.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where j.id = ?"))?;
        Ok(query.query_row([id], Job::from_row).optional()?)
    }

    /// The active job of that name.
    pub fn find_job(&self, pipeline: PipelineId, name: &str) -> Result<Option<Job>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} where j.pipeline_id = ? and j.name = ? and j.active = 1"))?;
        Ok(query.query_row(params![pipeline, name], Job::from_row).optional()?)
    }

    /// A pipeline's active jobs in the order of its configuration.
    pub fn jobs_of_pipeline(&self, pipeline: PipelineId) -> Result<Vec<Job>> {
        let mut query = self
            .prepare_cached(&format!("{COLUMNS} where j.pipeline_id = ? and j.active = 1 order by j.ordering, j.id"))?;
        Ok(query.query_map([pipeline], Job::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All active jobs, by pipeline, in the order of configurations.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} where j.active = 1 order by j.pipeline_id, j.ordering, j.id"))?;
        Ok(query.query_map([], Job::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Inputs of a pipeline's jobs.
    pub fn job_inputs_of_pipeline(&self, pipeline: PipelineId) -> Result<Vec<JobInputRow>> {
        let mut query = self.prepare_cached(
            "select i.job_id, i.name, i.resource_id, r.name, i.passed_job_id, p.name, i.trigger, i.version
             from job_inputs i join jobs j on j.id = i.job_id join resources r on r.id = i.resource_id
               left join jobs p on p.id = i.passed_job_id
             where j.pipeline_id = ? order by j.ordering, i.job_id, i.rowid",
        )?;
        gather(query.query([pipeline])?)
    }

    /// Inputs of one job.
    pub fn job_inputs(&self, job: JobId) -> Result<Vec<JobInputRow>> {
        let mut query = self.prepare_cached(
            "select i.job_id, i.name, i.resource_id, r.name, i.passed_job_id, p.name, i.trigger, i.version
             from job_inputs i join resources r on r.id = i.resource_id left join jobs p on p.id = i.passed_job_id
             where i.job_id = ? order by i.rowid",
        )?;
        gather(query.query([job])?)
    }

    /// Outputs of a pipeline's jobs.
    pub fn job_outputs_of_pipeline(&self, pipeline: PipelineId) -> Result<Vec<JobOutputRow>> {
        let mut query = self.prepare_cached(
            "select o.job_id, o.name, o.resource_id, r.name
             from job_outputs o join jobs j on j.id = o.job_id join resources r on r.id = o.resource_id
             where j.pipeline_id = ? order by j.ordering, o.job_id, o.rowid",
        )?;
        let rows = query.query_map([pipeline], |r| {
            Ok(JobOutputRow { job_id: r.get(0)?, name: r.get(1)?, resource_id: r.get(2)?, resource_name: r.get(3)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Jobs that somebody asked to look at, with the team whose they are: first those that a version can start, or that
    /// have a waiting build.
    pub fn jobs_wanting_schedule(&self) -> Result<Vec<(JobId, TeamId)>> {
        let mut query = self.prepare_cached(
            "select j.id, p.team_id from jobs j join pipelines p on p.id = j.pipeline_id
             where j.schedule_requested > j.last_scheduled
             order by not (exists (select 1 from job_inputs i where i.job_id = j.id and i.trigger)
                           or exists (select 1 from builds b indexed by builds_going_on where b.job_id = j.id
                                      and b.status in ('pending', 'started') and b.status = 'pending')), j.id",
        )?;
        Ok(query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
    }
}

/// Rows of one input follow each other; each names one passed job.
fn gather(mut rows: rusqlite::Rows<'_>) -> Result<Vec<JobInputRow>> {
    let mut inputs: Vec<JobInputRow> = Vec::new();
    while let Some(r) = rows.next()? {
        let (job_id, name): (JobId, String) = (r.get(0)?, r.get(1)?);
        let passed = r.get::<_, Option<JobId>>(4)?.zip(r.get::<_, Option<String>>(5)?);
        match inputs.last_mut() {
            Some(last) if last.job_id == job_id && last.name == name => last.passed.extend(passed),
            _ => inputs.push(JobInputRow {
                job_id,
                name,
                resource_id: r.get(2)?,
                resource_name: r.get(3)?,
                passed: passed.into_iter().collect(),
                trigger: r.get(6)?,
                version: r.get(7)?,
            }),
        }
    }
    Ok(inputs)
}

impl WriteTx<'_> {
    /// Stops a job from starting builds. Those that wait give their slots to others.
    pub fn pause_job(&self, id: JobId, by: &str, now: Time) -> Result<bool> {
        let n = self
            .prepare_cached("update jobs set paused = 1, paused_by = ?, paused_at = ? where id = ? and paused = 0")?
            .execute(params![by, now, id])?;
        self.prepare_cached(
            "update builds indexed by builds_going_on set scheduled = 0
             where job_id = ? and status in ('pending', 'started') and status = 'pending' and scheduled = 1",
        )?
        .execute([id])?;
        self.request_schedule_of_rivals(id)?;
        Ok(n == 1)
    }

    /// Lets a job start builds again.
    pub fn unpause_job(&self, id: JobId) -> Result<bool> {
        let n = self
            .prepare_cached("update jobs set paused = 0, paused_by = null, paused_at = null where id = ?")?
            .execute([id])?;
        self.request_schedule(id)?;
        Ok(n == 1)
    }

    /// Asks for a look at a job.
    pub fn request_schedule(&self, id: JobId) -> Result<()> {
        self.prepare_cached("update jobs set schedule_requested = schedule_requested + 1 where id = ?")?
            .execute([id])?;
        Ok(())
    }

    /// Asks for a look at all jobs of a pipeline; those that left the configuration may have builds that still wait.
    pub fn request_schedule_of_pipeline(&self, id: PipelineId) -> Result<usize> {
        Ok(self
            .prepare_cached("update jobs set schedule_requested = schedule_requested + 1 where pipeline_id = ?")?
            .execute([id])?)
    }

    /// Asks for a look at the jobs that have that resource as an input, whether passed or not.
    pub fn request_schedule_of_resource(&self, id: ResourceId) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "update jobs set schedule_requested = schedule_requested + 1
                 where id in (select job_id from job_inputs where resource_id = ?)",
            )?
            .execute([id])?)
    }

    /// Asks for a look at the jobs that have that resource as an input and a build that waits.
    pub fn request_schedule_of_waiting(&self, id: ResourceId) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "update jobs set schedule_requested = schedule_requested + 1 where id in (
                   select w.job_id from builds w indexed by builds_going_on where w.status in ('pending', 'started') and w.status = 'pending'
                     and w.job_id in (select job_id from job_inputs where resource_id = ?))",
            )?
            .execute([id])?)
    }

    /// Asks for a look at the other jobs of a job's serial groups.
    pub fn request_schedule_of_rivals(&self, id: JobId) -> Result<()> {
        self.prepare_cached(
            "update jobs set schedule_requested = schedule_requested + 1 where id <> ?1 and id in (
               select other.job_id from serial_groups mine
                 join serial_groups other on other.pipeline_id = mine.pipeline_id and other.name = mine.name
               where mine.job_id = ?1)",
        )?
        .execute([id])?;
        Ok(())
    }

    /// Takes back requests up to `mark`, which was read before the job was looked at; later ones stay.
    pub fn mark_scheduled(&self, id: JobId, mark: i64) -> Result<()> {
        self.prepare_cached(
            "update jobs set last_scheduled = max(last_scheduled, min(?, schedule_requested)) where id = ?",
        )?
        .execute(params![mark, id])?;
        Ok(())
    }

    /// Remembers whether any input has a version the job never had.
    pub fn set_has_new_inputs(&self, id: JobId, has: bool) -> Result<()> {
        self.prepare_cached("update jobs set has_new_inputs = ?1 where id = ?2 and has_new_inputs <> ?1")?
            .execute(params![has, id])?;
        Ok(())
    }

    /// Moves the first build that still has a log; never back.
    pub fn set_first_logged_build(&self, id: JobId, build: BuildId) -> Result<()> {
        self.prepare_cached("update jobs set first_logged_build_id = max(first_logged_build_id, ?) where id = ?")?
            .execute(params![build, id])?;
        Ok(())
    }
}
