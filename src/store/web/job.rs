//! What builds were given and made, for a whole page of builds at once; and who used a version.

use rusqlite::params;

use super::overview::{BuildFace, face};
use crate::base::id::{BuildId, ResourceId};
use crate::base::version::Version;
use crate::store::{ReadTx, Result};

/// A version that a build got or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The build.
    pub build: BuildId,
    /// Name of the step.
    pub name: String,
    /// Name of the resource.
    pub resource: String,
    /// Which version.
    pub version: Version,
    /// Made rather than got.
    pub output: bool,
}

impl ReadTx<'_> {
    /// The inputs, then the outputs, of these builds.
    pub fn used_by_builds(&self, builds: &[BuildId]) -> Result<Vec<Used>> {
        let ids: Vec<i64> = builds.iter().map(|b| b.0).collect();
        let mut query = self.prepare_cached(
            "select x.build_id, x.name, r.name, x.version, x.output from (
               select build_id, name, resource_id, version, 0 as output from build_inputs
               where build_id in (select value from json_each(?1))
               union all
               select build_id, name, resource_id, version, 1 from build_outputs
               where build_id in (select value from json_each(?1))
             ) x join resources r on r.id = x.resource_id order by x.output, x.name",
        )?;
        let rows = query.query_map(params![serde_json::to_string(&ids)?], |r| {
            Ok(Used { build: r.get(0)?, name: r.get(1)?, resource: r.get(2)?, version: r.get(3)?, output: r.get(4)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Builds (with their job's name) that used a version of a resource, and those that made it: newest first, a few.
    pub fn builds_around_version(&self, resource: ResourceId, digest: &str) -> Result<[Vec<(String, BuildFace)>; 2]> {
        let read = |table: &str| -> Result<Vec<(String, BuildFace)>> {
            let mut query = self.prepare_cached(&format!(
                "select j.name, b.id, b.name, b.status, b.started_at, b.ended_at
                 from {table} x join builds b on b.id = x.build_id join jobs j on j.id = b.job_id
                 where x.resource_id = ? and x.digest = ? order by b.id desc limit 40"
            ))?;
            let rows = query.query_map(params![resource, digest], |r| {
                Ok((r.get(0)?, face(r, 1)?.expect("a build's id is never null")))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        Ok([read("build_inputs")?, read("build_outputs")?])
    }
}
