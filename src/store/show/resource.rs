//! Resources with all that is shown of them.

use crate::base::id::PipelineId;
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
}

impl ReadTx<'_> {
    /// A pipeline's resources by name.
    pub fn resource_views(&self, pipeline: &Pipeline) -> Result<Vec<ResourceView>> {
        self.resources_of_pipeline(pipeline.id)?.into_iter().map(|r| self.resource_view_of(pipeline, r)).collect()
    }

    /// One resource of a pipeline.
    pub fn resource_view(&self, pipeline: PipelineId, name: &str) -> Result<Option<ResourceView>> {
        let (Some(pipeline), Some(resource)) = (self.pipeline(pipeline)?, self.find_resource(pipeline, name)?) else {
            return Ok(None);
        };
        self.resource_view_of(&pipeline, resource).map(Some)
    }

    fn resource_view_of(&self, pipeline: &Pipeline, resource: Resource) -> Result<ResourceView> {
        let check = match resource.last_check_build_id.map(|id| self.build(id)).transpose()?.flatten() {
            Some(build) => {
                let plan = self.build_public_plan(build.id)?;
                Some((build, plan))
            }
            None => None,
        };
        Ok(ResourceView { resource, pipeline: pipeline.clone(), check })
    }
}
