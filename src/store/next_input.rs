//! The answer of the last schedule pass: a version for each input of a job, or the reason why there is none.

use rusqlite::{Row, params};

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;
use crate::schedule::input::Passage;

/// A row of `next_inputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextInput {
    /// Name of the get step.
    pub name: String,
    /// What of.
    pub resource_id: ResourceId,
    /// Which, or the reason why there is none, as shown to people.
    pub version: std::result::Result<Version, String>,
    /// Whether the job never had it.
    pub first_occurrence: bool,
    /// Upstream builds that vouch for it.
    pub from_builds: Vec<BuildId>,
    /// How far the jobs have come that it must pass, if it has no version because of them.
    pub passages: Vec<Passage>,
    /// Since when it is so.
    pub since: Time,
}

impl NextInput {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<NextInput> {
        let version = match r.get::<_, Option<Version>>(2)? {
            Some(version) => Ok(version),
            None => Err(r.get::<_, Option<String>>(3)?.unwrap_or_default()),
        };
        Ok(NextInput {
            name: r.get(0)?,
            resource_id: r.get(1)?,
            version,
            first_occurrence: r.get(4)?,
            from_builds: r.get::<_, Json<Vec<BuildId>>>(5)?.0,
            passages: r.get::<_, Json<Vec<Passage>>>(6)?.0,
            since: r.get(7)?,
        })
    }
}

impl ReadTx<'_> {
    /// A job's next inputs by name.
    pub fn next_inputs(&self, job: JobId) -> Result<Vec<NextInput>> {
        let mut query = self.prepare_cached(
            "select name, resource_id, version, reason, first_occurrence, from_builds, passages, since from next_inputs
             where job_id = ? order by name",
        )?;
        Ok(query.query_map([job], NextInput::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Replaces a job's next inputs, and with them whether they are determined. If that has changed, other jobs of its
    /// serial groups may go on or must wait: then they are asked to be looked at. What is as it was keeps its time.
    pub fn save_next_inputs(&self, job: JobId, mut inputs: Vec<NextInput>) -> Result<()> {
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        let before = self.next_inputs(job)?;
        for input in &mut inputs {
            if let Some(same) = before.iter().find(|b| b.name == input.name && b.version == input.version) {
                input.since = same.since;
            }
        }
        if before != inputs {
            self.replace_next_inputs(job, &inputs)?;
        }
        let determined = inputs.iter().all(|i| i.version.is_ok());
        let changed = self
            .prepare_cached("update jobs set inputs_determined = ?1 where id = ?2 and inputs_determined <> ?1")?
            .execute(params![determined, job])?;
        if changed == 1 {
            self.request_schedule_of_rivals(job)?;
        }
        Ok(())
    }

    fn replace_next_inputs(&self, job: JobId, inputs: &[NextInput]) -> Result<()> {
        self.prepare_cached("delete from next_inputs where job_id = ?")?.execute([job])?;
        let mut query = self.prepare_cached(
            "insert into next_inputs (job_id, name, resource_id, digest, version, reason, first_occurrence, from_builds,
               passages, since)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?;
        for i in inputs {
            let (version, reason) = (i.version.as_ref().ok(), i.version.as_ref().err());
            let digest = version.map(Version::digest);
            query.execute(params![
                job,
                i.name,
                i.resource_id,
                digest,
                version,
                reason,
                i.first_occurrence,
                Json(&i.from_builds),
                Json(&i.passages),
                i.since
            ])?;
        }
        Ok(())
    }
}
