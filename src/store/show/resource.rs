//! Resources with all that is shown of them.

use std::sync::Arc;

use rusqlite::OptionalExtension;

use crate::base::id::{BuildId, PipelineId};
use crate::pipeline::ResourceType;
use crate::store::build::Build;
use crate::store::pipeline::Pipeline;
use crate::store::resource::Resource;
use crate::store::{ReadTx, Result};

/// A resource and its last check that was a build of its own, with that build's public plan.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The row.
    pub resource: Resource,
    /// Its pipeline.
    pub pipeline: Pipeline,
    /// The check, if there was one.
    pub check: Option<(Build, Option<String>)>,
    /// The pipeline's resource types, which say how a resource of theirs is checked.
    pub types: Arc<Vec<ResourceType>>,
}

impl ReadTx<'_> {
    /// A pipeline's resources by name.
    pub fn resource_views(&self, pipeline: &Pipeline) -> Result<Vec<ResourceView>> {
        let types = Arc::new(self.resource_types(pipeline.id)?);
        let rows = self.resources_of_pipeline(pipeline.id)?.into_iter();
        rows.map(|r| self.resource_view_of(pipeline, r, types.clone())).collect()
    }

    /// One resource of a pipeline.
    pub fn resource_view(&self, pipeline: PipelineId, name: &str) -> Result<Option<ResourceView>> {
        let (Some(pipeline), Some(resource)) = (self.pipeline(pipeline)?, self.find_resource(pipeline, name)?) else {
            return Ok(None);
        };
        let types = Arc::new(self.resource_types(pipeline.id)?);
        self.resource_view_of(&pipeline, resource, types).map(Some)
    }

    /// The resource whose last check left no row and has that id; of several with one history the oldest.
    pub fn view_of_check(&self, check: BuildId) -> Result<Option<ResourceView>> {
        let mut query = self.prepare_cached(
            "select pipeline_id, name from resources where last_check_id = ? and active = 1 order by id limit 1",
        )?;
        let found = query.query_row([check], |r| Ok((r.get(0)?, r.get::<_, String>(1)?))).optional()?;
        found.map_or(Ok(None), |(pipeline, name)| self.resource_view(pipeline, &name))
    }

    fn resource_types(&self, pipeline: PipelineId) -> Result<Vec<ResourceType>> {
        let mut query =
            self.prepare_cached("select json_extract(config, '$.resource_types') from pipelines where id = ?")?;
        let text: Option<String> = query.query_row([pipeline], |r| r.get(0)).optional()?.flatten();
        Ok(text.map(|t| serde_json::from_str(&t)).transpose()?.unwrap_or_default())
    }

    fn resource_view_of(
        &self,
        pipeline: &Pipeline,
        resource: Resource,
        types: Arc<Vec<ResourceType>>,
    ) -> Result<ResourceView> {
        let check = match resource.last_check_build_id.map(|id| self.build(id)).transpose()?.flatten() {
            Some(build) => {
                let plan = self.build_public_plan(build.id)?;
                Some((build, plan))
            }
            None => None,
        };
        Ok(ResourceView { resource, pipeline: pipeline.clone(), check, types })
    }
}
