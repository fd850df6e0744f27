//! What came of a version, and what it came of: builds and versions, from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::params;

use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, VersionId};
use crate::base::version::Version;
use crate::store::build::Status;
use crate::store::{ReadTx, Result};

/// More builds than this are not told.
const MOST_BUILDS: i64 = 5000;
/// More inputs and outputs of them than this are not.
const MOST_ENDS: i64 = 25_000;

/// Which way to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What came of the version.
    Downstream,
    /// What it came of.
    Upstream,
}

/// The builds and versions that are tied to one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Causality {
    /// Jobs with their builds, by id.
    pub jobs: BTreeMap<JobId, (String, Vec<BuildId>)>,
    /// Builds by id.
    pub builds: BTreeMap<BuildId, CausalBuild>,
    /// Resources with their versions, by id.
    pub resources: BTreeMap<ResourceId, (String, Vec<VersionId>)>,
    /// Versions by resource and id.
    pub versions: BTreeMap<(ResourceId, VersionId), CausalVersion>,
}

/// A build, and the versions that follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalBuild {
    /// Its number.
    pub name: String,
    /// Its job.
    pub job: JobId,
    /// How it stands.
    pub status: Status,
    /// Versions that follow it in this direction.
    pub versions: Vec<VersionId>,
}

/// A version, and the builds that follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalVersion {
    /// The version.
    pub version: Version,
    /// Builds that follow it in this direction.
    pub builds: Vec<BuildId>,
}

/// One input or output of a build on the way.
struct End {
    resource: ResourceId,
    version_id: VersionId,
    name: String,
    version: Version,
    build: BuildId,
    input: bool,
}

impl Direction {
    /// The builds on the way, never leaving the pipeline. A build's other versions of the root's resource lead nowhere.
    fn walk(self) -> &'static str {
        match self {
            Direction::Downstream => {
                "with recursive way (build_id) as (
                   select i.build_id from build_inputs i where i.resource_id = ?1 and i.digest = ?2
                   union
                   select i.build_id from way join build_outputs o on o.build_id = way.build_id
                     join build_inputs i on i.resource_id = o.resource_id and i.digest = o.digest
                     where i.resource_id <> ?1)"
            }
            Direction::Upstream => {
                "with recursive way (build_id) as (
                   select o.build_id from build_outputs o where o.resource_id = ?1 and o.digest = ?2
                   union
                   select o.build_id from way join build_inputs i on i.build_id = way.build_id
                     join build_outputs o on o.resource_id = i.resource_id and o.digest = i.digest
                     where i.resource_id <> ?1)"
            }
        }
    }
}

impl ReadTx<'_> {
    /// What is tied to a version of a resource; `None` if that is too much to tell.
    pub fn causality(
        &self,
        pipeline: PipelineId,
        root: ResourceId,
        digest: &str,
        direction: Direction,
    ) -> Result<Option<Causality>> {
        let mut found = Causality::default();
        let mut builds = self.prepare_cached(&format!(
            "{} select b.id, b.name, b.status, j.id, j.name from way join builds b on b.id = way.build_id
             join jobs j on j.id = b.job_id where b.pipeline_id = ?3 order by b.id limit ?4",
            direction.walk()
        ))?;
        let rows = builds.query_map(params![root, digest, pipeline, MOST_BUILDS], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
        })?;
        for row in rows {
            let (id, name, status, job, job_name): (BuildId, String, Status, JobId, String) = row?;
            found.jobs.entry(job).or_insert((job_name, Vec::new())).1.push(id);
            found.builds.insert(id, CausalBuild { name, job, status, versions: Vec::new() });
        }
        let ends = self.causal_ends(pipeline, root, digest, direction)?;
        if found.builds.len() as i64 == MOST_BUILDS || ends.len() as i64 == MOST_ENDS {
            return Ok(None);
        }
        found.tie(root, ends, direction);
        Ok(Some(found))
    }

    fn causal_ends(
        &self,
        pipeline: PipelineId,
        root: ResourceId,
        digest: &str,
        direction: Direction,
    ) -> Result<Vec<End>> {
        let end = |table: &str, input: u8| {
            format!(
                "select r.id, v.id, r.name, v.version, e.build_id, {input} from way join {table} e on e.build_id = way.build_id
                 join resources r on r.id = e.resource_id and r.pipeline_id = ?3
                 join versions v on v.scope_id = r.scope_id and v.digest = e.digest"
            )
        };
        let mut query = self.prepare_cached(&format!(
            "{} {} union all {} limit ?4",
            direction.walk(),
            end("build_inputs", 1),
            end("build_outputs", 0)
        ))?;
        let rows = query.query_map(params![root, digest, pipeline, MOST_ENDS], |r| {
            Ok(End {
                resource: r.get(0)?,
                version_id: r.get(1)?,
                name: r.get(2)?,
                version: r.get(3)?,
                build: r.get(4)?,
                input: r.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Causality {
    /// Ties versions to builds; versions that nothing on the way leads to are left out.
    fn tie(&mut self, root: ResourceId, ends: Vec<End>, direction: Direction) {
        let mut reached = BTreeSet::from([root]);
        for end in ends {
            let key = (end.resource, end.version_id);
            let row =
                self.versions.entry(key).or_insert_with(|| CausalVersion { version: end.version, builds: Vec::new() });
            let resource = self.resources.entry(end.resource).or_insert((end.name, Vec::new()));
            add(&mut resource.1, end.version_id);
            if end.input == (direction == Direction::Downstream) {
                add(&mut row.builds, end.build);
            } else {
                reached.insert(end.resource);
                if let Some(build) = self.builds.get_mut(&end.build) {
                    add(&mut build.versions, end.version_id);
                }
            }
        }
        self.versions.retain(|(resource, _), _| reached.contains(resource));
        self.resources.retain(|resource, _| reached.contains(resource));
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
