//! Builds: their rows and how they are read. Making them is in `create.rs`, running and ending them in `finish.rs`.

use std::collections::BTreeMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::page::{Bounds, Page, PageRequest};
use super::{ReadTx, Result, pipeline};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, TeamId};
use crate::base::version::Version;
use crate::pipeline::Object;

/// What is said of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits to start.
    Pending,
    /// Runs.
    Started,
    /// Every step succeeded.
    Succeeded,
    /// A step said no.
    Failed,
    /// A step could not be run.
    Errored,
    /// Somebody stopped it.
    Aborted,
}

impl Status {
    /// Every one.
    pub const ALL: [Status; 6] =
        [Status::Pending, Status::Started, Status::Succeeded, Status::Failed, Status::Errored, Status::Aborted];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Started => "started",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Errored => "errored",
            Status::Aborted => "aborted",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Status::Pending | Status::Started)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ToSql for Status {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Status::ALL.into_iter().find(|s| s.as_str() == word).ok_or(FromSqlError::InvalidType)
    }
}

/// Where a build is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildState {
    /// Waits to start.
    Pending,
    /// Runs.
    Started {
        /// Since then.
        at: Time,
    },
    /// Is over.
    Finished {
        /// Since then.
        at: Time,
        /// How.
        status: Status,
    },
}

/// How a build is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// By stopping its steps and running its hooks.
    Graceful,
    /// At once.
    Forced,
}

/// A row of `builds` with the names of what it belongs to, without its plans.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// Number within the job (`7`, rerun `7.1`), of the one-off sequence, or `check`.
    pub name: String,
    /// What is said of it.
    pub status: Status,
    /// Whose it is.
    pub team_id: TeamId,
    /// That team's name.
    pub team_name: String,
    /// Its pipeline, unless it is one-off.
    pub pipeline_id: Option<PipelineId>,
    /// That pipeline's name.
    pub pipeline_name: Option<String>,
    /// The variables that make that pipeline an instance.
    pub pipeline_instance_vars: Option<Object>,
    /// Its job, unless it is one-off or a check.
    pub job_id: Option<JobId>,
    /// That job's name.
    pub job_name: Option<String>,
    /// What it checks.
    pub resource_id: Option<ResourceId>,
    /// That resource's name.
    pub resource_name: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Whether it has taken a slot of its serial groups.
    pub scheduled: bool,
    /// Whether a person asked for it.
    pub manual: bool,
    /// Who.
    pub created_by: Option<String>,
    /// The build it repeats.
    pub rerun_of: Option<BuildId>,
    /// That build's name.
    pub rerun_of_name: Option<String>,
    /// Which repetition.
    pub rerun_number: Option<i64>,
    /// Whether and how it is to be stopped.
    pub aborted: Option<Abort>,
    /// What people say of it.
    pub comment: String,
    /// When its log was removed.
    pub reap_time: Option<Time>,
}

const COLUMNS: &str = "select b.id, b.name, b.status, b.team_id, t.name, b.pipeline_id, p.name, p.instance_vars, b.job_id,
  j.name, b.resource_id, r.name, b.created_at, b.started_at, b.ended_at, b.scheduled, b.manual, b.created_by, b.rerun_of,
  o.name, b.rerun_number, b.aborted, b.comment, b.reap_time
  from builds b join teams t on t.id = b.team_id left join pipelines p on p.id = b.pipeline_id
  left join jobs j on j.id = b.job_id left join resources r on r.id = b.resource_id
  left join builds o on o.id = b.rerun_of";

/// What lists show: of the checks of a resource those that go on, and the last one, until it is checked again.
const LISTED: &str = "(b.resource_id is null or b.status in ('pending', 'started')
  or b.id = r.last_check_build_id and b.id > coalesce(r.last_check_id, 0))";

impl Build {
    /// Where it is in its life.
    pub fn state(&self) -> BuildState {
        match self.status {
            Status::Pending => BuildState::Pending,
            Status::Started => BuildState::Started { at: self.started_at.unwrap_or(self.created_at) },
            status => BuildState::Finished { at: self.ended_at.unwrap_or(self.created_at), status },
        }
    }

    fn from_row(r: &Row<'_>) -> rusqlite::Result<Build> {
        Ok(Build {
            id: r.get(0)?,
            name: r.get(1)?,
            status: r.get(2)?,
            team_id: r.get(3)?,
            team_name: r.get(4)?,
            pipeline_id: r.get(5)?,
            pipeline_name: r.get(6)?,
            pipeline_instance_vars: pipeline::vars(&r.get::<_, Option<String>>(7)?.unwrap_or_default())?,
            job_id: r.get(8)?,
            job_name: r.get(9)?,
            resource_id: r.get(10)?,
            resource_name: r.get(11)?,
            created_at: r.get(12)?,
            started_at: r.get(13)?,
            ended_at: r.get(14)?,
            scheduled: r.get(15)?,
            manual: r.get(16)?,
            created_by: r.get(17)?,
            rerun_of: r.get(18)?,
            rerun_of_name: r.get(19)?,
            rerun_number: r.get(20)?,
            aborted: match r.get::<_, i64>(21)? {
                0 => None,
                1 => Some(Abort::Graceful),
                _ => Some(Abort::Forced),
            },
            comment: r.get(22)?,
            reap_time: r.get(23)?,
        })
    }
}

/// Whose builds a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody's.
    All,
    /// Those of these teams, and of public pipelines.
    TeamsAndPublic(Vec<TeamId>),
    /// Those of one team.
    Team(TeamId),
    /// Those of public pipelines of one team.
    PublicOf(TeamId),
}

/// A version that a build was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInput {
    /// Name of the get step.
    pub name: String,
    /// What of.
    pub resource_id: ResourceId,
    /// Which.
    pub version: Version,
    /// Whether the job had never had it.
    pub first_occurrence: bool,
}

/// A version that a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// Name of the put step.
    pub name: String,
    /// What of.
    pub resource_id: ResourceId,
    /// Which.
    pub version: Version,
}

impl ReadTx<'_> {
    /// The build of that id.
    pub fn build(&self, id: BuildId) -> Result<Option<Build>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where b.id = ?"))?;
        Ok(query.query_row([id], Build::from_row).optional()?)
    }

    /// A job's build of that name.
    pub fn find_build(&self, job: JobId, name: &str) -> Result<Option<Build>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where b.job_id = ? and b.name = ?"))?;
        Ok(query.query_row(params![job, name], Build::from_row).optional()?)
    }

    /// A job's newest build.
    pub fn latest_build(&self, job: JobId) -> Result<Option<Build>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where b.job_id = ? order by b.id desc limit 1"))?;
        Ok(query.query_row([job], Build::from_row).optional()?)
    }

    /// A page of a job's builds.
    pub fn builds_of_job(&self, job: JobId, page: PageRequest) -> Result<Page<Build>> {
        self.build_page("b.job_id = ?1", job.0, page)
    }

    /// A page of a pipeline's builds.
    pub fn builds_of_pipeline(&self, pipeline: PipelineId, page: PageRequest) -> Result<Page<Build>> {
        self.build_page(&format!("b.pipeline_id = ?1 and {LISTED}"), pipeline.0, page)
    }

    /// A page of the builds that such an audience may see.
    pub fn builds(&self, audience: &Audience, page: PageRequest) -> Result<Page<Build>> {
        let listed = |whose: &str| format!("{whose} and {LISTED}");
        match audience {
            Audience::All => self.build_page(&listed("?1 is not null"), 0, page),
            Audience::Team(team) => self.build_page(&listed("b.team_id = ?1"), team.0, page),
            Audience::PublicOf(team) => self.build_page(&listed("b.team_id = ?1 and p.public = 1"), team.0, page),
            Audience::TeamsAndPublic(teams) => self.build_page(
                &listed("(p.public = 1 or b.team_id in (select value from json_each(?1)))"),
                serde_json::to_string(teams)?,
                page,
            ),
        }
    }

    /// The builds of these ids, by id.
    pub fn builds_by_ids(&self, ids: &[BuildId]) -> Result<BTreeMap<BuildId, Build>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where b.id in (select value from json_each(?))"))?;
        let rows = query.query_map([Json(ids)], |r| Ok((r.get(0)?, Build::from_row(r)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A page of the builds that checked a resource.
    pub fn builds_of_resource(&self, resource: ResourceId, page: PageRequest) -> Result<Page<Build>> {
        self.build_page("b.resource_id = ?1", resource.0, page)
    }

    /// Builds that were given that version.
    pub fn builds_with_input(&self, resource: ResourceId, digest: &str) -> Result<Vec<Build>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where b.id in (select build_id from build_inputs where resource_id = ? and digest = ?) order by b.id desc"
        ))?;
        Ok(query.query_map(params![resource, digest], Build::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Builds that made that version.
    pub fn builds_with_output(&self, resource: ResourceId, digest: &str) -> Result<Vec<Build>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where b.id in (select build_id from build_outputs where resource_id = ? and digest = ?) order by b.id desc"
        ))?;
        Ok(query.query_map(params![resource, digest], Build::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// When the oldest of the builds that run began.
    pub fn oldest_running_build(&self) -> Result<Option<Time>> {
        let mut query = self.prepare_cached(
            "select min(coalesce(started_at, created_at)) from builds
             where status in ('pending', 'started') and status = 'started'",
        )?;
        Ok(query.query_row([], |r| r.get(0))?)
    }

    /// Builds that have started and not ended, in the order they were made: what the tracker runs.
    pub fn started_builds(&self) -> Result<Vec<Build>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where b.status in ('pending', 'started') and b.status = 'started' order by b.id"
        ))?;
        Ok(query.query_map([], Build::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// A job's builds that wait, in the order they start.
    pub fn pending_builds(&self, job: JobId) -> Result<Vec<Build>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where b.id in (select id from builds indexed by builds_going_on
                 where status in ('pending', 'started') and status = 'pending' and job_id = ?)
             order by coalesce(b.rerun_of, b.id), b.id"
        ))?;
        Ok(query.query_map([job], Build::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Builds of checks and one-off builds that were asked for and have not started: no job's queue holds them.
    pub fn pending_without_job(&self) -> Result<Vec<Build>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where b.status in ('pending', 'started') and b.status = 'pending' and b.job_id is null order by b.id"
        ))?;
        Ok(query.query_map([], Build::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The plan that is run (JSON); none while pending and once over.
    pub fn build_plan(&self, id: BuildId) -> Result<Option<String>> {
        let mut query = self.prepare_cached("select plan from builds where id = ?")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?.flatten())
    }

    /// What is shown of the plan (JSON).
    pub fn build_public_plan(&self, id: BuildId) -> Result<Option<String>> {
        let mut query = self.prepare_cached("select public_plan from builds where id = ?")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?.flatten())
    }

    /// What a build was given, by name.
    pub fn build_inputs(&self, id: BuildId) -> Result<Vec<BuildInput>> {
        let mut query = self.prepare_cached(
            "select name, resource_id, version, first_occurrence from build_inputs where build_id = ? order by name",
        )?;
        let rows = query.query_map([id], |r| {
            Ok(BuildInput { name: r.get(0)?, resource_id: r.get(1)?, version: r.get(2)?, first_occurrence: r.get(3)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What a build made, by name.
    pub fn build_outputs(&self, id: BuildId) -> Result<Vec<BuildOutput>> {
        let mut query = self
            .prepare_cached("select name, resource_id, version from build_outputs where build_id = ? order by name")?;
        let rows = query
            .query_map([id], |r| Ok(BuildOutput { name: r.get(0)?, resource_id: r.get(1)?, version: r.get(2)? }))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Reruns stand beside what they repeat. A bound is the id of the row at the end of the page: rows are counted by
    /// their places in this order, so that going from page to page shows each once.
    fn build_page(&self, condition: &str, id: impl rusqlite::ToSql, page: PageRequest) -> Result<Page<Build>> {
        if page.bounds == Bounds::Starts {
            return self.builds_by_start(condition, id, page);
        }
        let (place, row) = match page.from.or(page.to) {
            Some(bound) => self.place(BuildId(bound))?,
            None => (i64::MAX, i64::MAX),
        };
        let upwards = page.upwards();
        let bound = if upwards { page_bound(">=", "") } else { page_bound("<=", "desc") };
        let end = match page.to.filter(|_| upwards) {
            Some(end) => self.place(BuildId(end))?,
            None => (i64::MAX, i64::MAX),
        };
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where {condition} and (not ?5 or (coalesce(b.rerun_of, b.id), b.id) <= (?6, ?7)) and {bound} limit ?4"
        ))?;
        let rows =
            query.query_map(params![id, place, row, page.limit, page.is_range(), end.0, end.1], Build::from_row)?;
        let mut items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if upwards && !page.is_range() {
            items.reverse();
        }
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return Ok(Page { items, newer: None, older: None });
        };
        let from = "select b.id from builds b left join pipelines p on p.id = b.pipeline_id
          left join resources r on r.id = b.resource_id";
        let neighbour = |bound: String, of: &Build| -> Result<Option<i64>> {
            let mut query = self.prepare_cached(&format!("{from} where {condition} and {bound} limit 1"))?;
            let place = of.rerun_of.unwrap_or(of.id);
            Ok(query.query_row(params![id, place, of.id], |r| r.get(0)).optional()?)
        };
        let newer = neighbour(page_bound(">", ""), first)?;
        let older = neighbour(page_bound("<", "desc"), last)?;
        Ok(Page { items, newer, older })
    }

    /// Builds that started between two times, both inclusive; one that has not started is between none.
    fn builds_by_start(&self, condition: &str, id: impl rusqlite::ToSql, page: PageRequest) -> Result<Page<Build>> {
        let at = |bound: Option<i64>| bound.map(|seconds| Time(seconds.saturating_mul(1000)));
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where {condition} and (?2 is null or b.started_at >= ?2) and (?3 is null or b.started_at <= ?3)
             order by coalesce(b.rerun_of, b.id) desc, b.id desc limit ?4"
        ))?;
        let rows = query.query_map(params![id, at(page.from), at(page.to), page.limit], Build::from_row)?;
        Ok(Page { items: rows.collect::<rusqlite::Result<_>>()?, newer: None, older: None })
    }

    /// Where a build stands in lists; an id that no build has stands where it would.
    fn place(&self, id: BuildId) -> Result<(i64, i64)> {
        let mut query = self.prepare_cached("select coalesce(rerun_of, id), id from builds where id = ?")?;
        Ok(query.query_row([id], |r| Ok((r.get(0)?, r.get(1)?))).optional()?.unwrap_or((id.0, id.0)))
    }
}

/// The rows on one side of a place (`?2`) and row (`?3`), from there on.
fn page_bound(side: &str, order: &str) -> String {
    let strictly = &side[..1];
    format!(
        "coalesce(b.rerun_of, b.id) {strictly}= ?2 and (coalesce(b.rerun_of, b.id) {strictly} ?2 or b.id {side} ?3)
         order by coalesce(b.rerun_of, b.id) {order}, b.id {order}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::{job, set, store};

    #[test]
    fn lists_show_what_their_audience_may_see_page_by_page() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let jobs = json!({"jobs": [{"name": "j", "plan": []}], "resources": [{"name": "r", "type": "mock"}]});
                let (open, hidden) = (set(tx, "open", jobs.clone())?, set(tx, "hidden", jobs)?);
                tx.set_pipeline_public(open, true)?;
                let main = tx.ensure_main(None)?;
                let other = tx.set_team("other", &json!({}))?.0.id;
                let mut ids = Vec::new();
                for pipeline in [open, hidden, open] {
                    ids.push(tx.create_manual_build(job(tx, pipeline, "j"), "alice", Time(1))?);
                }
                ids.push(tx.create_one_off_build(other, "bob", Time(2))?);
                let r = tx.find_resource(open, "r")?.unwrap().id;
                let check = tx.create_check_build(&crate::store::create::CheckBuild {
                    pipeline: open,
                    resource: Some(r),
                    by: Some("alice"),
                    plan: "{}",
                    public_plan: "{}",
                    now: Time(3),
                    waits: true,
                })?;
                let list = |audience, page| -> Vec<usize> {
                    let page = tx.builds(&audience, page).unwrap();
                    page.items.iter().map(|b| ids.iter().position(|id| *id == b.id).unwrap_or(9)).collect()
                };
                let all = PageRequest::default();
                assert_eq!(list(Audience::TeamsAndPublic(vec![]), all), [9, 2, 0], "while it goes on");
                tx.finish_build(check, Status::Succeeded, Time(4))?;
                assert_eq!(list(Audience::TeamsAndPublic(vec![]), all), [9, 2, 0], "and as the last check");
                assert_eq!(tx.builds_of_pipeline(open, all)?.items[0].id, check);
                let scope = tx.find_or_create_scope("scope", main)?.id;
                tx.set_scope(r, scope)?;
                tx.number_check(scope)?;
                assert_eq!(list(Audience::All, all), [3, 2, 1, 0]);
                assert_eq!(list(Audience::Team(main), all), [2, 1, 0]);
                assert_eq!(list(Audience::PublicOf(main), all), [2, 0]);
                assert_eq!(list(Audience::TeamsAndPublic(vec![other]), all), [3, 2, 0]);
                assert_eq!(list(Audience::TeamsAndPublic(vec![]), all), [2, 0]);
                assert_eq!(list(Audience::All, PageRequest { from: Some(ids[1].0), ..PageRequest::newest(2) }), [2, 1]);
                assert_eq!(list(Audience::All, PageRequest { to: Some(ids[1].0), ..PageRequest::newest(2) }), [1, 0]);
                let page = tx.builds(&Audience::All, PageRequest { from: Some(ids[1].0), ..PageRequest::newest(2) })?;
                assert_eq!((page.newer, page.older), (Some(ids[3].0), Some(ids[0].0)));
                let range = PageRequest { from: Some(ids[1].0), to: Some(ids[2].0), ..all };
                assert_eq!(list(Audience::All, range), [1, 2], "oldest first");
                assert_eq!(list(Audience::All, PageRequest { limit: 1, ..range }), [1]);
                for (at, id) in [(5, ids[0]), (7, ids[1])] {
                    tx.start_plain_build(id, "{}", "{}", Time(at * 1000))?;
                }
                let starts = |from, to| PageRequest { from, to, bounds: Bounds::Starts, ..all };
                assert_eq!(list(Audience::All, starts(None, None)), [3, 2, 1, 0]);
                assert_eq!(list(Audience::All, starts(Some(0), None)), [1, 0]);
                assert_eq!(list(Audience::All, starts(Some(5), Some(6))), [0]);
                assert_eq!(list(Audience::PublicOf(main), starts(None, Some(7))), [0]);
                assert_eq!(tx.builds_of_pipeline(open, all)?.items.len(), 2);
                assert_eq!(tx.builds_by_ids(&[ids[0], ids[3]])?.len(), 2);
                let check = tx.build(check)?.unwrap();
                assert_eq!((check.name.as_str(), check.resource_name.as_deref()), ("check", Some("r")));
                assert_eq!(tx.resource(r)?.unwrap().last_check_build_id, Some(check.id));
                assert_eq!(tx.builds_of_resource(r, all)?.items, [check]);
                assert_eq!(tx.pending_without_job()?.len(), 1);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn reruns_stand_beside_what_they_repeat_and_are_on_one_page_each() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let pipeline = set(tx, "p", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let j = job(tx, pipeline, "j");
                for _ in 0..5 {
                    tx.create_manual_build(j, "alice", Time(1))?;
                }
                tx.execute("update builds set rerun_of = 2 where id in (4, 5)", [])?;
                let ids = |page: &Page<Build>| page.items.iter().map(|b| b.id.0).collect::<Vec<_>>();
                assert_eq!(ids(&tx.builds_of_job(j, PageRequest::default())?), [3, 5, 4, 2, 1]);
                for limit in 1..=5 {
                    let (mut down, mut up) = (Vec::new(), Vec::new());
                    let mut next = Some(PageRequest::newest(limit));
                    while let Some(page) = next {
                        let page = tx.builds_of_pipeline(pipeline, page)?;
                        down.extend(ids(&page));
                        next = page.older.map(|to| PageRequest { to: Some(to), ..PageRequest::newest(limit) });
                    }
                    assert_eq!(down, [3, 5, 4, 2, 1], "by {limit}");
                    let mut next = Some(PageRequest { from: Some(1), ..PageRequest::newest(limit) });
                    while let Some(page) = next {
                        let page = tx.builds(&Audience::All, page)?;
                        up.extend(ids(&page).into_iter().rev());
                        next = page.newer.map(|from| PageRequest { from: Some(from), ..PageRequest::newest(limit) });
                    }
                    assert_eq!(up, [1, 2, 4, 5, 3], "by {limit}");
                }
                assert_eq!(
                    ids(&tx.builds(&Audience::All, PageRequest { to: Some(99), ..PageRequest::newest(2) })?),
                    [3, 5]
                );
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn checks_without_a_row_take_ids_too_and_none_is_used_twice() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let file = json!({"jobs": [{"name": "j", "plan": []}], "resources": [{"name": "r", "type": "mock"}]});
                let pipeline = set(tx, "p", file)?;
                let (j, r) = (job(tx, pipeline, "j"), tx.find_resource(pipeline, "r")?.unwrap().id);
                let team = tx.ensure_main(None)?;
                let (used, image) = (tx.find_or_create_scope("r", team)?.id, tx.find_or_create_scope("i", team)?.id);
                tx.set_scope(r, used)?;
                tx.number_check(used)?;
                assert_eq!(tx.resource(r)?.unwrap().last_check_id, Some(BuildId(1)));
                tx.number_check(image)?;
                assert_eq!(tx.create_manual_build(j, "alice", Time(1))?, BuildId(2));
                tx.execute("delete from builds", [])?;
                assert_eq!(tx.create_manual_build(j, "alice", Time(1))?, BuildId(3));
                tx.number_check(used)?;
                assert_eq!(tx.resource(r)?.unwrap().last_check_id, Some(BuildId(4)));
                tx.check_started(used, Time(5))?;
                for (error, started, check) in [("", 9, 4), ("late", 5, 4), ("no image", 9, 5)] {
                    tx.checked(r, error, Time(started), Time(10))?;
                    assert_eq!(tx.resource(r)?.unwrap().last_check_id, Some(BuildId(check)), "{error}");
                }
                let failed = tx.resource(r)?.unwrap();
                assert_eq!((failed.last_check_started, failed.last_check_ended), (Time(9), Time(10)));
                assert_eq!(tx.view_of_check(BuildId(5))?.map(|v| v.resource.id), Some(r));
                assert_eq!(tx.build_access(BuildId(5))?.map(|b| (b.team, b.exposed)), Some(("main".to_owned(), false)));
                assert_eq!(tx.build_access(BuildId(4))?, None);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_build_is_in_one_state_and_ends_once() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.ensure_main(None)?;
                let id = tx.create_one_off_build(team, "alice", Time(1))?;
                let state = |tx: &ReadTx<'_>| tx.build(id).unwrap().unwrap().state();
                assert_eq!(state(tx), BuildState::Pending);
                assert!(tx.start_plain_build(id, "{\"id\":1}", "{}", Time(2))?);
                assert!(!tx.start_plain_build(id, "{}", "{}", Time(3))?, "a build starts once");
                assert_eq!(state(tx), BuildState::Started { at: Time(2) });
                assert_eq!(tx.started_builds()?.len(), 1);
                tx.record_plan_result(id, "1", "a")?;
                tx.record_plan_result(id, "1", "b")?;
                assert_eq!(tx.plan_result(id, "1")?.as_deref(), Some("a"));
                assert_eq!(tx.abort_build(id, Abort::Forced)?, Some(BuildState::Started { at: Time(2) }));
                assert_eq!(tx.build(id)?.unwrap().aborted, Some(Abort::Forced));
                assert!(tx.finish_build(id, Status::Aborted, Time(4))?.changed);
                assert!(!tx.finish_build(id, Status::Succeeded, Time(5))?.changed);
                assert_eq!(state(tx), BuildState::Finished { at: Time(4), status: Status::Aborted });
                assert_eq!((tx.build_plan(id)?, tx.plan_results(id)?.len()), (None, 0));
                assert_eq!(tx.build_public_plan(id)?.as_deref(), Some("{}"));
                Ok(())
            })
            .unwrap();
    }
}
