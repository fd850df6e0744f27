//! Many pipelines, or one, at a glance: three queries whatever the number.

use rusqlite::{Row, params};

use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, TeamId};
use crate::store::build::Status;
use crate::store::{ReadTx, Result};

/// A pipeline on the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineFace {
    /// Its id.
    pub id: PipelineId,
    /// Its team's name.
    pub team: String,
    /// Its name.
    pub name: String,
    /// Canonical JSON of its instance variables, or ''.
    pub instance_vars: String,
    /// Whether it does nothing.
    pub paused: bool,
    /// Whether everybody may look.
    pub public: bool,
    /// Whether it is kept for its history only.
    pub archived: bool,
    /// How many of its resources fail to be checked.
    pub broken: i64,
}

/// A build as lists name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFace {
    /// Its id.
    pub id: BuildId,
    /// Its name.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// When it started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
}

/// A job with the builds it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFace {
    /// Its id.
    pub id: JobId,
    /// Its pipeline.
    pub pipeline: PipelineId,
    /// Its name.
    pub name: String,
    /// Whether it starts no builds.
    pub paused: bool,
    /// The newest completed build.
    pub last: Option<BuildFace>,
    /// The first one that waits or runs.
    pub next: Option<BuildFace>,
}

/// Whose pipelines are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// Those of these teams, and public ones.
    Teams(Vec<TeamId>),
    /// This one.
    One(PipelineId),
}

impl Scope {
    /// The parameters of the condition below.
    fn parameters(&self) -> Result<(bool, String, i64)> {
        Ok(match self {
            Scope::All => (true, "[]".into(), 0),
            Scope::Teams(ids) => (false, serde_json::to_string(ids)?, 0),
            Scope::One(id) => (false, "[]".into(), id.0),
        })
    }
}

/// Which pipelines `p` of teams `t` belong to a scope.
const IN_SCOPE: &str = "case when ?3 > 0 then p.id = ?3
  else ?1 or p.public or t.id in (select value from json_each(?2)) end";

impl ReadTx<'_> {
    /// The pipelines of a scope, by team and place on the dashboard.
    pub fn pipeline_faces(&self, scope: &Scope) -> Result<Vec<PipelineFace>> {
        let (all, teams, one) = scope.parameters()?;
        let mut query = self.prepare_cached(&format!(
            "select p.id, t.name, p.name, p.instance_vars, p.paused, p.public, p.archived,
               (select count(*) from resources r left join scopes s on s.id = r.scope_id
                where r.pipeline_id = p.id and r.active
                  and coalesce(nullif(r.last_attempt_error, ''), s.last_check_error, '') <> '')
             from pipelines p join teams t on t.id = p.team_id where {IN_SCOPE}
             order by t.id, p.ordering, p.id"
        ))?;
        let rows = query.query_map(params![all, teams, one], |r| {
            Ok(PipelineFace {
                id: r.get(0)?,
                team: r.get(1)?,
                name: r.get(2)?,
                instance_vars: r.get(3)?,
                paused: r.get(4)?,
                public: r.get(5)?,
                archived: r.get(6)?,
                broken: r.get(7)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The jobs of these pipelines in the order of the configuration.
    pub fn job_faces(&self, scope: &Scope) -> Result<Vec<JobFace>> {
        let (all, teams, one) = scope.parameters()?;
        let mut query = self.prepare_cached(&format!(
            "select j.id, j.pipeline_id, j.name, j.paused,
               l.id, l.name, l.status, l.started_at, l.ended_at, n.id, n.name, n.status, n.started_at, n.ended_at
             from pipelines p join teams t on t.id = p.team_id
             join jobs j on j.pipeline_id = p.id and j.active
             left join builds l on l.id = j.latest_completed_build_id
             left join builds n on n.id = j.next_build_id
             where {IN_SCOPE} order by j.pipeline_id, j.ordering, j.id"
        ))?;
        let rows = query.query_map(params![all, teams, one], |r| {
            Ok(JobFace {
                id: r.get(0)?,
                pipeline: r.get(1)?,
                name: r.get(2)?,
                paused: r.get(3)?,
                last: face(r, 4)?,
                next: face(r, 9)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Which job of these pipelines waits for which: (job, the one its inputs must have passed).
    pub fn passed_pairs(&self, scope: &Scope) -> Result<Vec<(JobId, JobId)>> {
        let (all, teams, one) = scope.parameters()?;
        let mut query = self.prepare_cached(&format!(
            "select distinct i.job_id, i.passed_job_id from pipelines p join teams t on t.id = p.team_id
             join jobs j on j.pipeline_id = p.id and j.active
             join job_inputs i on i.job_id = j.id and i.passed_job_id is not null
             where {IN_SCOPE} order by 1, 2"
        ))?;
        let rows = query.query_map(params![all, teams, one], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// A build from five columns, none if the first is null.
pub(super) fn face(r: &Row<'_>, at: usize) -> rusqlite::Result<Option<BuildFace>> {
    let Some(id) = r.get::<_, Option<BuildId>>(at)? else { return Ok(None) };
    Ok(Some(BuildFace {
        id,
        name: r.get(at + 1)?,
        status: r.get(at + 2)?,
        started_at: r.get(at + 3)?,
        ended_at: r.get(at + 4)?,
    }))
}
