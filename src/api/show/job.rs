//! Jobs, one by one and in lists; the two differ in order and in what is null.

use serde::Serialize;

use super::build::{BuildJson, SummaryJson};
use super::seconds;
use super::why::WhyJson;
use crate::base::id::{BuildId, JobId, PipelineId};
use crate::pipeline::Object;
use crate::store::build::Build;
use crate::store::show::job::JobView;
use crate::store::show::why::Why;

#[derive(Debug, Serialize)]
struct Head<'j> {
    id: JobId,
    name: &'j str,
    team_name: &'j str,
    pipeline_id: PipelineId,
    pipeline_name: &'j str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_instance_vars: Option<&'j Object>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<&'j str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_new_inputs: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'j [String],
}

impl<'j> Head<'j> {
    fn new(view: &'j JobView) -> Head<'j> {
        Head {
            id: view.job.id,
            name: &view.job.name,
            team_name: &view.team_name,
            pipeline_id: view.job.pipeline_id,
            pipeline_name: &view.pipeline_name,
            pipeline_instance_vars: view.pipeline_instance_vars.as_ref(),
            paused: view.job.paused,
            paused_by: view.job.paused_by.as_deref(),
            paused_at: seconds(view.job.paused_at),
            has_new_inputs: view.job.has_new_inputs,
            groups: &view.groups,
        }
    }
}

/// A job by itself.
#[derive(Debug, Serialize)]
pub struct JobJson<'j> {
    #[serde(flatten)]
    head: Head<'j>,
    #[serde(skip_serializing_if = "is_none")]
    first_logged_build_id: BuildId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_manual_trigger: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_reruns: bool,
    next_build: Option<BuildJson<'j>>,
    finished_build: Option<BuildJson<'j>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Input<'j>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Output<'j>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<WhyJson>,
}

fn is_none(build: &BuildId) -> bool {
    build.0 == 0
}

#[derive(Debug, Serialize)]
struct Input<'j> {
    name: &'j str,
    resource: &'j str,
    trigger: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    passed: &'j [String],
}

#[derive(Debug, Serialize)]
struct Output<'j> {
    name: &'j str,
    resource: &'j str,
}

fn outputs(view: &JobView) -> Vec<Output<'_>> {
    view.outputs.iter().map(|(name, resource)| Output { name, resource }).collect()
}

impl<'j> JobJson<'j> {
    /// A job; comments of its builds only for those who may see them.
    pub fn new(view: &'j JobView, comments: bool) -> JobJson<'j> {
        let comments = comments || view.job.config.public;
        let build = |b: &'j Option<Build>| b.as_ref().map(|b| BuildJson::new(b, comments));
        let input = |i: &'j crate::store::show::job::InputView| Input {
            name: &i.name,
            resource: &i.resource,
            trigger: i.trigger,
            passed: &i.passed,
        };
        JobJson {
            head: Head::new(view),
            first_logged_build_id: view.job.first_logged_build_id,
            disable_manual_trigger: view.job.config.disable_manual_trigger,
            disable_reruns: view.job.config.disable_reruns,
            next_build: build(&view.next_build),
            finished_build: build(&view.finished_build),
            inputs: view.inputs.iter().map(input).collect(),
            outputs: outputs(view),
            why: Vec::new(),
        }
    }

    /// With the reasons why it has no build that runs.
    pub fn because(self, why: Vec<Why>) -> JobJson<'j> {
        JobJson { why: super::why::all(why), ..self }
    }
}

/// A job in a list.
#[derive(Debug, Serialize)]
pub struct JobSummaryJson<'j> {
    #[serde(flatten)]
    head: Head<'j>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_build: Option<SummaryJson<'j>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_build: Option<SummaryJson<'j>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transition_build: Option<SummaryJson<'j>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<ListedInput<'j>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Output<'j>>,
}

#[derive(Debug, Serialize)]
struct ListedInput<'j> {
    name: &'j str,
    resource: &'j str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    passed: &'j [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    trigger: bool,
}

impl<'j> JobSummaryJson<'j> {
    /// A job in a list.
    pub fn new(view: &'j JobView) -> JobSummaryJson<'j> {
        let build = |b: &'j Option<Build>| b.as_ref().map(SummaryJson::of_job);
        let input = |i: &'j crate::store::show::job::InputView| ListedInput {
            name: &i.name,
            resource: &i.resource,
            passed: &i.passed,
            trigger: i.trigger,
        };
        JobSummaryJson {
            head: Head::new(view),
            finished_build: build(&view.finished_build),
            next_build: build(&view.next_build),
            transition_build: build(&view.transition_build),
            inputs: view.inputs.iter().map(input).collect(),
            outputs: outputs(view),
        }
    }
}
