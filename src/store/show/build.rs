//! Builds by when they started.

use rusqlite::params;

use crate::base::clock::Time;
use crate::base::id::BuildId;
use crate::store::build::{Audience, Build};
use crate::store::{ReadTx, Result};

impl ReadTx<'_> {
    /// Builds that such an audience may see and that started between two times (both inclusive), newest first.
    pub fn builds_started_between(
        &self,
        audience: &Audience,
        from: Option<Time>,
        to: Option<Time>,
        limit: i64,
    ) -> Result<Vec<Build>> {
        let (all, public, teams) = match audience {
            Audience::All => (true, false, Vec::new()),
            Audience::TeamsAndPublic(teams) => (false, true, teams.clone()),
            Audience::Team(team) => (false, false, vec![*team]),
            Audience::PublicOf(_) => return Ok(Vec::new()),
        };
        let mut query = self.prepare_cached(
            "select b.id from builds b left join pipelines p on p.id = b.pipeline_id
             where b.resource_id is null and b.started_at is not null
               and (?1 or (?2 and p.public = 1) or b.team_id in (select value from json_each(?3)))
               and (?4 is null or b.started_at >= ?4) and (?5 is null or b.started_at <= ?5)
             order by coalesce(b.rerun_of, b.id) desc, b.id desc limit ?6",
        )?;
        let ids =
            query.query_map(params![all, public, serde_json::to_string(&teams)?, from, to, limit], |r| r.get(0))?;
        let ids = ids.collect::<rusqlite::Result<Vec<BuildId>>>()?;
        Ok(ids.into_iter().map(|id| self.build(id)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}
