//! What came of a version and what it came of, and the dump of all that the scheduler decides by.

use axum::http::StatusCode;
use serde::Serialize;

use super::version::row;
use crate::base::id::{BuildId, JobId, ResourceId, VersionId};
use crate::base::version::Version;
use crate::front::{Answer, Call, Failure, Permit, json};
use crate::store::build::Status;
use crate::store::show::causality::{Causality, Direction};

#[derive(Serialize)]
struct Job<'c> {
    id: JobId,
    name: &'c str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    build_ids: &'c [BuildId],
}

#[derive(Serialize)]
struct Build<'c> {
    id: BuildId,
    name: &'c str,
    job_id: JobId,
    status: Status,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource_version_ids: Vec<VersionId>,
}

#[derive(Serialize)]
struct Resource<'c> {
    id: ResourceId,
    name: &'c str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    version_ids: &'c [VersionId],
}

#[derive(Serialize)]
struct ResourceVersion<'c> {
    id: VersionId,
    resource_id: ResourceId,
    version: &'c Version,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    build_ids: &'c [BuildId],
}

#[derive(Serialize)]
struct CausalityJson<'c> {
    jobs: Vec<Job<'c>>,
    builds: Vec<Build<'c>>,
    resources: Vec<Resource<'c>>,
    resource_versions: Vec<ResourceVersion<'c>>,
}

impl<'c> CausalityJson<'c> {
    fn new(c: &'c Causality) -> CausalityJson<'c> {
        let told = |ids: &[VersionId]| {
            let known = |id: &VersionId| c.versions.keys().any(|(_, v)| v == id);
            ids.iter().filter(|id| known(id)).copied().collect()
        };
        CausalityJson {
            jobs: c.jobs.iter().map(|(id, (name, build_ids))| Job { id: *id, name, build_ids }).collect(),
            builds: c
                .builds
                .iter()
                .map(|(id, b)| Build {
                    id: *id,
                    name: &b.name,
                    job_id: b.job,
                    status: b.status,
                    resource_version_ids: told(&b.versions),
                })
                .collect(),
            resources: c
                .resources
                .iter()
                .map(|(id, (name, version_ids))| Resource { id: *id, name, version_ids })
                .collect(),
            resource_versions: c
                .versions
                .iter()
                .map(|((resource, id), v)| ResourceVersion {
                    id: *id,
                    resource_id: *resource,
                    version: &v.version,
                    build_ids: &v.builds,
                })
                .collect(),
        }
    }
}

/// `GetDownstreamResourceCausality`
pub async fn downstream(permit: Permit, call: Call) -> Answer {
    answer(permit, call, Direction::Downstream).await
}

/// `GetUpstreamResourceCausality`
pub async fn upstream(permit: Permit, call: Call) -> Answer {
    answer(permit, call, Direction::Upstream).await
}

async fn answer(permit: Permit, call: Call, direction: Direction) -> Answer {
    let (resource, row) = row(&permit, &call).await?;
    let (pipeline, digest) = (permit.pipeline()?.id, row.version.digest());
    let found = call.app.store.read(move |tx| tx.causality(pipeline, resource.id, &digest, direction)).await?;
    let found = found.ok_or_else(|| {
        let text = "more builds are tied to this version than can be told; ask for one that fewer builds have used";
        Failure::text(StatusCode::UNPROCESSABLE_ENTITY, text)
    })?;
    json(StatusCode::OK, &CausalityJson::new(&found))
}

/// `GetVersionsDB`
pub async fn versions_db(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    json(StatusCode::OK, &call.app.store.read(move |tx| tx.versions_db(id)).await?)
}
