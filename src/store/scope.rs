//! Scopes: one version history each.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{PipelineId, ScopeId, TeamId};

/// A row of `scopes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its id.
    pub id: ScopeId,
    /// Digest over team, resource or none, chain of types and resolved source.
    pub key: String,
    /// Whose it is.
    pub team_id: TeamId,
    /// When the last check started; `Time(0)` for never.
    pub last_check_started: Time,
    /// When it ended.
    pub last_check_ended: Time,
    /// Whether it succeeded.
    pub last_check_succeeded: bool,
    /// What it said if it failed.
    pub last_check_error: String,
}

impl Scope {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Scope> {
        Ok(Scope {
            id: r.get(0)?,
            key: r.get(1)?,
            team_id: r.get(2)?,
            last_check_started: r.get(3)?,
            last_check_ended: r.get(4)?,
            last_check_succeeded: r.get(5)?,
            last_check_error: r.get(6)?,
        })
    }
}

const COLUMNS: &str = "select id, key, team_id, last_check_started, last_check_ended, last_check_succeeded,
  last_check_error from scopes";

impl ReadTx<'_> {
    /// The scope of that id.
    pub fn scope(&self, id: ScopeId) -> Result<Option<Scope>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where id = ?"))?;
        Ok(query.query_row([id], Scope::from_row).optional()?)
    }

    /// The resource types with that history: pipeline and name of each.
    pub fn types_of_scope(&self, scope: ScopeId) -> Result<Vec<(String, String)>> {
        let mut query = self.prepare_cached(
            "select p.name, t.name from type_scopes t join pipelines p on p.id = t.pipeline_id
             where t.scope_id = ? order by p.name, t.name",
        )?;
        Ok(query.query_map([scope], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The history of a pipeline's resource type, once it was checked.
    pub fn type_scope(&self, pipeline: PipelineId, name: &str) -> Result<Option<ScopeId>> {
        let mut query = self.prepare_cached("select scope_id from type_scopes where pipeline_id = ? and name = ?")?;
        Ok(query.query_row(params![pipeline, name], |r| r.get(0)).optional()?)
    }

    /// The scope of that key.
    pub fn find_scope(&self, key: &str) -> Result<Option<Scope>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where key = ?"))?;
        Ok(query.query_row([key], Scope::from_row).optional()?)
    }
}

impl WriteTx<'_> {
    /// The scope of that key, made if it is not there.
    pub fn find_or_create_scope(&self, key: &str, team: TeamId) -> Result<Scope> {
        self.prepare_cached("insert into scopes (key, team_id) values (?, ?) on conflict do nothing")?
            .execute(params![key, team])?;
        Ok(self.prepare_cached(&format!("{COLUMNS} where key = ?"))?.query_row([key], Scope::from_row)?)
    }

    /// Remembers which history a pipeline's resource type has.
    pub fn set_type_scope(&self, pipeline: PipelineId, name: &str, scope: ScopeId) -> Result<()> {
        self.prepare_cached(
            "insert into type_scopes (pipeline_id, name, scope_id) values (?, ?, ?)
             on conflict (pipeline_id, name) do update set scope_id = excluded.scope_id",
        )?
        .execute(params![pipeline, name, scope])?;
        Ok(())
    }

    /// Remembers that a check has started.
    pub fn check_started(&self, id: ScopeId, now: Time) -> Result<()> {
        self.prepare_cached("update scopes set last_check_started = ? where id = ?")?.execute(params![now, id])?;
        Ok(())
    }

    /// Remembers how a check ended: with what error, if it failed.
    pub fn check_ended(&self, id: ScopeId, error: Option<&str>, now: Time) -> Result<()> {
        self.prepare_cached(
            "update scopes set last_check_ended = ?, last_check_succeeded = ?, last_check_error = ? where id = ?",
        )?
        .execute(params![now, error.is_none(), error.unwrap_or_default(), id])?;
        Ok(())
    }
}
