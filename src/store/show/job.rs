//! Jobs with all that is shown of them.

use crate::base::id::{BuildId, PipelineId};
use crate::pipeline::{Group, Object};
use crate::store::build::Build;
use crate::store::job::Job;
use crate::store::pipeline::Pipeline;
use crate::store::{ReadTx, Result};

/// A job, its place, its builds, and what it takes and makes.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The row.
    pub job: Job,
    /// Whose it is.
    pub team_name: String,
    /// Its pipeline.
    pub pipeline_name: String,
    /// That pipeline's instance variables.
    pub pipeline_instance_vars: Option<Object>,
    /// The groups that hold it.
    pub groups: Vec<String>,
    /// First pending or started build.
    pub next_build: Option<Build>,
    /// Newest completed build.
    pub finished_build: Option<Build>,
    /// First build since the status last changed.
    pub transition_build: Option<Build>,
    /// What it takes, by name.
    pub inputs: Vec<InputView>,
    /// Name and resource of what it makes, by name.
    pub outputs: Vec<(String, String)>,
}

/// One thing a job takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputView {
    /// Name of the get step.
    pub name: String,
    /// Of which resource.
    pub resource: String,
    /// Jobs it must have passed.
    pub passed: Vec<String>,
    /// Whether a new version starts a build.
    pub trigger: bool,
}

impl ReadTx<'_> {
    /// A pipeline's jobs in the order of its configuration.
    pub fn job_views(&self, pipeline: &Pipeline) -> Result<Vec<JobView>> {
        let (inputs, outputs) = (self.job_inputs_of_pipeline(pipeline.id)?, self.job_outputs_of_pipeline(pipeline.id)?);
        let jobs = self.jobs_of_pipeline(pipeline.id)?;
        let build = |id: Option<BuildId>| id.map(|id| self.build(id)).transpose().map(Option::flatten);
        let view = |job: Job| -> Result<JobView> {
            let own = inputs.iter().filter(|i| i.job_id == job.id);
            let mut taken: Vec<InputView> = own
                .map(|i| InputView {
                    name: i.name.clone(),
                    resource: i.resource_name.clone(),
                    passed: i.passed.iter().map(|(_, name)| name.clone()).collect(),
                    trigger: i.trigger,
                })
                .collect();
            taken.sort_by(|a, b| a.name.cmp(&b.name));
            let own = outputs.iter().filter(|o| o.job_id == job.id);
            let mut made: Vec<_> = own.map(|o| (o.name.clone(), o.resource_name.clone())).collect();
            made.sort();
            Ok(JobView {
                team_name: pipeline.team_name.clone(),
                pipeline_name: pipeline.name.clone(),
                pipeline_instance_vars: pipeline.instance_vars.clone(),
                groups: groups_of(&job.name, &pipeline.face.groups),
                next_build: build(job.next_build_id)?,
                finished_build: build(job.latest_completed_build_id)?,
                transition_build: build(job.transition_build_id)?,
                inputs: taken,
                outputs: made,
                job,
            })
        };
        jobs.into_iter().map(view).collect()
    }

    /// One job of a pipeline.
    pub fn job_view(&self, pipeline: PipelineId, name: &str) -> Result<Option<JobView>> {
        let Some(pipeline) = self.pipeline(pipeline)? else { return Ok(None) };
        Ok(self.job_views(&pipeline)?.into_iter().find(|v| v.job.name == name))
    }
}

/// The groups whose globs match a job.
fn groups_of(job: &str, groups: &[Group]) -> Vec<String> {
    groups.iter().filter(|g| g.holds(job)).map(|g| g.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_in_the_groups_whose_globs_match_it() {
        let group = |name: &str, jobs: &[&str]| Group {
            name: name.into(),
            jobs: jobs.iter().map(ToString::to_string).collect(),
            ..Group::default()
        };
        let groups = [group("main", &["unit", "ship-*"]), group("rest", &["fails"]), group("all", &["*"])];
        assert_eq!(groups_of("ship-it", &groups), ["main", "all"]);
        assert_eq!(groups_of("fails", &groups), ["rest", "all"]);
    }
}
