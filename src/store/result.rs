//! What finished leaves of a running build left behind, by plan id.

use rusqlite::{OptionalExtension, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::id::BuildId;

impl ReadTx<'_> {
    /// The recorded result (JSON) of that leaf.
    pub fn plan_result(&self, build: BuildId, plan_id: &str) -> Result<Option<String>> {
        let mut query = self.prepare_cached("select result from results where build_id = ? and plan_id = ?")?;
        Ok(query.query_row(params![build, plan_id], |r| r.get(0)).optional()?)
    }

    /// All recorded results of a build, as (plan id, JSON).
    pub fn plan_results(&self, build: BuildId) -> Result<Vec<(String, String)>> {
        let mut query = self.prepare_cached("select plan_id, result from results where build_id = ?")?;
        Ok(query.query_map([build], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The nodes of a build that have a result or, written down, a container.
    pub fn begun_plans(&self, build: BuildId) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select plan_id from results where build_id = ?1 union select plan_id from containers where build_id = ?1",
        )?;
        Ok(query.query_map([build], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Records the result (JSON) of a leaf; the first one stays.
    pub fn record_plan_result(&self, build: BuildId, plan_id: &str, result: &str) -> Result<()> {
        self.prepare_cached("insert into results (build_id, plan_id, result) values (?, ?, ?) on conflict do nothing")?
            .execute(params![build, plan_id, result])?;
        Ok(())
    }
}
