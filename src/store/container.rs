//! Containers, written before the runtime is asked.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, ResourceId, TeamId};

/// A row of `containers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name in the runtime.
    pub handle: String,
    /// Whose it is.
    pub team_id: TeamId,
    /// The build it runs a step of; none once the build is gone, and for checks without a row.
    pub build_id: Option<BuildId>,
    /// The step.
    pub plan_id: String,
    /// `task`, `get`, `put` or `check`.
    pub kind: String,
    /// Name of the step.
    pub step_name: String,
    /// `1`, `1.2`: which of the attempts; empty without any.
    pub attempt: String,
    /// User of the process.
    pub user: String,
    /// Where it runs.
    pub working_directory: String,
    /// When.
    pub created_at: Time,
    /// Kept until then because somebody is, or was, inside.
    pub hijacked_until: Time,
    /// For checks: of what.
    pub resource_id: Option<ResourceId>,
}

const COLUMNS: &str = "select handle, team_id, build_id, plan_id, type, step_name, attempt, user, working_directory,
  created_at, hijacked_until, resource_id from containers";

impl Container {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Container> {
        Ok(Container {
            handle: r.get(0)?,
            team_id: r.get(1)?,
            build_id: r.get(2)?,
            plan_id: r.get(3)?,
            kind: r.get(4)?,
            step_name: r.get(5)?,
            attempt: r.get(6)?,
            user: r.get(7)?,
            working_directory: r.get(8)?,
            created_at: r.get(9)?,
            hijacked_until: r.get(10)?,
            resource_id: r.get(11)?,
        })
    }
}

impl ReadTx<'_> {
    /// The container of that handle.
    pub fn container(&self, handle: &str) -> Result<Option<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where handle = ?"))?;
        Ok(query.query_row([handle], Container::from_row).optional()?)
    }

    /// All of a team's, oldest first.
    pub fn containers_of_team(&self, team: TeamId) -> Result<Vec<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? order by created_at, handle"))?;
        Ok(query.query_map([team], Container::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All of a build's, oldest first.
    pub fn containers_of_build(&self, build: BuildId) -> Result<Vec<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where build_id = ? order by created_at, handle"))?;
        Ok(query.query_map([build], Container::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Every handle there is.
    pub fn container_handles(&self) -> Result<Vec<String>> {
        let mut query = self.prepare_cached("select handle from containers")?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Those that may go at `now`: nobody is inside, and the build has ended with success, or ended before
    /// `failed_before`, or a later build of the same job exists, or there is no build any more (a check: made before
    /// `checks_before`).
    pub fn removable_containers(&self, now: Time, failed_before: Time, checks_before: Time) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select c.handle from containers c left join builds b on b.id = c.build_id
             where c.hijacked_until <= ?1 and (
               (b.id is null and c.created_at < ?3)
               or b.status in ('succeeded', 'aborted')
               or (b.status in ('failed', 'errored') and (
                 b.ended_at < ?2
                 or exists (select 1 from builds n where n.job_id = b.job_id and n.id > b.id
                            and n.status not in ('pending', 'started')))))",
        )?;
        let rows = query.query_map(params![now, failed_before, checks_before], |r| r.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Writes down a container that is about to be made; one that is there already stays.
    pub fn insert_container(&self, c: &Container) -> Result<()> {
        self.prepare_cached(
            "insert into containers (handle, team_id, build_id, plan_id, type, step_name, attempt, user,
               working_directory, created_at, hijacked_until, resource_id)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?
        .execute(params![
            c.handle,
            c.team_id,
            c.build_id,
            c.plan_id,
            c.kind,
            c.step_name,
            c.attempt,
            c.user,
            c.working_directory,
            c.created_at,
            c.hijacked_until,
            c.resource_id,
        ])?;
        Ok(())
    }

    /// Keeps a container until `until`; false if it is gone.
    pub fn keep_container(&self, handle: &str, until: Time) -> Result<bool> {
        let n = self
            .prepare_cached("update containers set hijacked_until = max(hijacked_until, ?) where handle = ?")?
            .execute(params![until, handle])?;
        Ok(n == 1)
    }

    /// Forgets a container that the runtime has removed.
    pub fn delete_container(&self, handle: &str) -> Result<()> {
        self.prepare_cached("delete from containers where handle = ?")?.execute([handle])?;
        Ok(())
    }
}
