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

    /// Builds that hold a place which builds of this job need: of the job itself, or of one in the same serial group.
    pub fn builds_in_the_way(&self, job: JobId, but: BuildId) -> Result<Vec<(String, BuildFace)>> {
        let mut query = self.prepare_cached(
            "select j.name, b.id, b.name, b.status, b.started_at, b.ended_at
             from builds b join jobs j on j.id = b.job_id
             where b.status in ('pending', 'started') and b.scheduled and b.id <> ?2 and (b.job_id = ?1 or exists (
               select 1 from serial_groups mine join serial_groups theirs on theirs.name = mine.name
               where mine.job_id = ?1 and theirs.job_id = b.job_id
                 and j.pipeline_id = (select pipeline_id from jobs where id = ?1)))
             order by b.id limit 20",
        )?;
        let rows = query
            .query_map(params![job, but], |r| Ok((r.get(0)?, face(r, 1)?.expect("a build's id is never null"))))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
