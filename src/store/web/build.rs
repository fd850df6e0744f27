//! The neighbourhood of a build: its job's other builds, and those that hold it up.

use rusqlite::params;

use super::overview::{BuildFace, face};
use crate::base::id::{BuildId, JobId};
use crate::store::{ReadTx, Result};

impl ReadTx<'_> {
    /// Builds of a job around one of them, newest first; reruns stand beside what they repeat.
    pub fn build_neighbours(&self, job: JobId, around: BuildId, newer: i64, older: i64) -> Result<Vec<BuildFace>> {
        let mut query = self.prepare_cached(
            "select id, name, status, started_at, ended_at from (
               select * from (select *, coalesce(rerun_of, id) as place from builds
                 where job_id = ?1 and id > ?2 order by id limit ?3)
               union all
               select * from (select *, coalesce(rerun_of, id) as place from builds
                 where job_id = ?1 and id <= ?2 order by id desc limit ?4)
             ) order by place desc, id desc",
        )?;
        let rows = query
            .query_map(params![job, around, newer, older], |r| Ok(face(r, 0)?.expect("a build's id is never null")))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
