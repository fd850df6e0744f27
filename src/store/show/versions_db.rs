//! All that the scheduler decides by, of one pipeline: for those who wonder about a decision.

use rusqlite::params;
use serde::Serialize;

use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, ScopeId, VersionId};
use crate::store::{ReadTx, Result};

/// The dump, with Concourse's names.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionsDb {
    /// Jobs.
    pub jobs: Vec<JobRow>,
    /// Resources and their histories.
    pub resources: Vec<ResourceRow>,
    /// Enabled versions.
    pub resource_versions: Vec<VersionRow>,
    /// What succeeded builds hold.
    pub build_outputs: Vec<OutputRow>,
    /// What builds were given.
    pub build_inputs: Vec<InputRow>,
    /// Which builds repeat which.
    pub build_reruns: Vec<RerunRow>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID")]
    id: JobId,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceRow {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID")]
    id: ResourceId,
    #[serde(rename = "ScopeID")]
    scope_id: Option<ScopeId>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionRow {
    #[serde(rename = "VersionID")]
    version_id: VersionId,
    #[serde(rename = "ResourceID")]
    resource_id: ResourceId,
    #[serde(rename = "CheckOrder")]
    check_order: i64,
    #[serde(rename = "ScopeID")]
    scope_id: ScopeId,
}

/// A version that a succeeded build holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputRow {
    #[serde(flatten)]
    version: VersionRow,
    #[serde(rename = "BuildID")]
    build_id: BuildId,
    #[serde(rename = "JobID")]
    job_id: JobId,
}

/// A version that a build was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputRow {
    #[serde(flatten)]
    output: OutputRow,
    #[serde(rename = "InputName")]
    input_name: String,
}

/// A build that repeats another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RerunRow {
    #[serde(rename = "BuildID")]
    build_id: BuildId,
    #[serde(rename = "JobID")]
    job_id: JobId,
    #[serde(rename = "RerunOf")]
    rerun_of: BuildId,
}

/// Versions that are enabled, of the pipeline's active resources.
const ENABLED: &str = "v.scope_id = r.scope_id and r.pipeline_id = ?1 and r.active = 1
  and not exists (select 1 from disabled_versions d where d.resource_id = r.id and d.digest = v.digest)";

fn version(r: &rusqlite::Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow { version_id: r.get(0)?, resource_id: r.get(1)?, check_order: r.get(2)?, scope_id: r.get(3)? })
}

fn output(r: &rusqlite::Row<'_>) -> rusqlite::Result<OutputRow> {
    Ok(OutputRow { version: version(r)?, build_id: r.get(4)?, job_id: r.get(5)? })
}

impl ReadTx<'_> {
    /// The dump of a pipeline.
    pub fn versions_db(&self, pipeline: PipelineId) -> Result<VersionsDb> {
        let id = params![pipeline];
        let jobs = "select name, id from jobs where pipeline_id = ? and active = 1 order by id";
        let resources = "select name, id, scope_id from resources where pipeline_id = ? and active = 1 order by id";
        let versions = format!(
            "select v.id, r.id, v.check_order, v.scope_id from versions v join resources r on {ENABLED}
             where v.check_order > 0 order by v.id"
        );
        let outputs = format!(
            "select v.id, r.id, v.check_order, v.scope_id, b.id, b.job_id
             from (select build_id, resource_id, digest from build_outputs
                   union select build_id, resource_id, digest from build_inputs) o
             join builds b on b.id = o.build_id and b.status = 'succeeded' and b.pipeline_id = ?1 and b.job_id is not null
             join resources r on r.id = o.resource_id join versions v on v.digest = o.digest and {ENABLED} order by b.id, v.id"
        );
        let inputs = format!(
            "select v.id, r.id, v.check_order, v.scope_id, b.id, b.job_id, i.name from build_inputs i
             join builds b on b.id = i.build_id and b.pipeline_id = ?1 and b.job_id is not null
             join resources r on r.id = i.resource_id join versions v on v.digest = i.digest and {ENABLED} order by b.id, v.id"
        );
        let reruns = "select id, job_id, rerun_of from builds
             where pipeline_id = ? and rerun_of is not null and job_id is not null and status = 'succeeded' order by id";
        Ok(VersionsDb {
            jobs: self.rows(jobs, id, |r| Ok(JobRow { name: r.get(0)?, id: r.get(1)? }))?,
            resources: self
                .rows(resources, id, |r| Ok(ResourceRow { name: r.get(0)?, id: r.get(1)?, scope_id: r.get(2)? }))?,
            resource_versions: self.rows(&versions, id, version)?,
            build_outputs: self.rows(&outputs, id, output)?,
            build_inputs: self.rows(&inputs, id, |r| Ok(InputRow { output: output(r)?, input_name: r.get(6)? }))?,
            build_reruns: self
                .rows(reruns, id, |r| Ok(RerunRow { build_id: r.get(0)?, job_id: r.get(1)?, rerun_of: r.get(2)? }))?,
        })
    }

    fn rows<T>(
        &self,
        query: &str,
        params: &[&dyn rusqlite::ToSql],
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.prepare_cached(query)?.query_map(params, row)?.collect::<rusqlite::Result<_>>()?)
    }
}
