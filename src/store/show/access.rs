//! What a permission depends on.

use rusqlite::{OptionalExtension, params};

use crate::auth::TeamAuth;
use crate::base::id::{BuildId, PipelineId, TeamId};
use crate::store::{ReadTx, Result};

/// A team with who belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamAccess {
    /// Its row.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// Whether its owners administer the installation.
    pub admin: bool,
    /// Who has which role.
    pub auth: TeamAuth,
    /// The networks its members must call from; empty for any.
    pub networks: Vec<String>,
}

/// A pipeline as far as access depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineAccess {
    /// Its row.
    pub id: PipelineId,
    /// Its name.
    pub name: String,
    /// Canonical JSON of its instance variables, or ''.
    pub instance_vars: String,
    /// Whether it is exposed.
    pub public: bool,
    /// Whether it is archived.
    pub archived: bool,
}

/// A build as far as access depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildAccess {
    /// Its row.
    pub id: BuildId,
    /// The team it belongs to.
    pub team: String,
    /// Whether its pipeline is exposed.
    pub exposed: bool,
    /// Whether its job is `public`.
    pub public_job: bool,
}

impl ReadTx<'_> {
    /// All teams, oldest first.
    pub fn teams_with_auth(&self) -> Result<Vec<TeamAccess>> {
        let mut rows = self.prepare_cached("select id, name, admin, auth, networks from teams order by id")?;
        let rows = rows.query_map([], |r| {
            let texts = (r.get::<_, String>(3)?, r.get::<_, String>(4)?);
            Ok((TeamId(r.get(0)?), r.get::<_, String>(1)?, r.get::<_, bool>(2)?, texts))
        })?;
        rows.map(|row| {
            let (id, name, admin, (auth, networks)) = row?;
            let (auth, networks) = (serde_json::from_str(&auth)?, serde_json::from_str(&networks)?);
            Ok(TeamAccess { id, name, admin, auth, networks })
        })
        .collect()
    }

    /// A pipeline of a team; `instance_vars` is canonical JSON, or '' for none.
    pub fn pipeline_access(&self, team: TeamId, name: &str, instance_vars: &str) -> Result<Option<PipelineAccess>> {
        let mut row = self.prepare_cached(
            "select id, name, instance_vars, public, archived from pipelines
             where team_id = ? and name = ? and instance_vars = ?",
        )?;
        let found = row.query_row(params![team.0, name, instance_vars], |r| {
            Ok(PipelineAccess {
                id: PipelineId(r.get(0)?),
                name: r.get(1)?,
                instance_vars: r.get(2)?,
                public: r.get(3)?,
                archived: r.get(4)?,
            })
        });
        Ok(found.optional()?)
    }

    /// What access to a build depends on. A check that left no row belongs to its resource's pipeline.
    pub fn build_access(&self, build: BuildId) -> Result<Option<BuildAccess>> {
        let mut row = self.prepare_cached(
            "select b.id, t.name, coalesce(p.public, 0), coalesce(json_extract(j.config, '$.public'), 0)
             from builds b join teams t on t.id = b.team_id
             left join pipelines p on p.id = b.pipeline_id left join jobs j on j.id = b.job_id where b.id = ?1
             union all
             select * from (
               select r.last_check_id, t.name, p.public, 0
               from resources r join pipelines p on p.id = r.pipeline_id join teams t on t.id = p.team_id
               where r.last_check_id = ?1 and r.active = 1 order by r.id limit 1)",
        )?;
        let found = row.query_row([build.0], |r| {
            Ok(BuildAccess { id: BuildId(r.get(0)?), team: r.get(1)?, exposed: r.get(2)?, public_job: r.get(3)? })
        });
        Ok(found.optional()?)
    }
}
