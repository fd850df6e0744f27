//! Pipelines.

use serde::Serialize;
use serde_json::Value;

use super::seconds;
use crate::base::id::{BuildId, JobId, PipelineId};
use crate::pipeline::{Display, Group, Object};
use crate::store::pipeline::Pipeline;

/// A pipeline.
#[derive(Debug, Serialize)]
pub struct PipelineJson<'p> {
    id: PipelineId,
    name: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_vars: Option<&'p Object>,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<i64>,
    public: bool,
    archived: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'p [Group],
    team_name: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'p Display>,
    #[serde(skip_serializing_if = "Value::is_null")]
    user_data: &'p Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_build_id: Option<BuildId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_job_id: Option<JobId>,
    last_updated: i64,
}

impl<'p> PipelineJson<'p> {
    /// A pipeline.
    pub fn new(p: &'p Pipeline) -> PipelineJson<'p> {
        PipelineJson {
            id: p.id,
            name: &p.name,
            instance_vars: p.instance_vars.as_ref(),
            paused: p.paused,
            paused_by: p.paused_by.as_deref(),
            paused_at: seconds(p.paused_at),
            public: p.public,
            archived: p.archived,
            groups: &p.face.groups,
            team_name: &p.team_name,
            display: p.face.display.as_ref(),
            user_data: &p.face.user_data,
            parent_build_id: p.parent_build_id,
            parent_job_id: p.parent_job_id,
            last_updated: p.last_updated.unix(),
        }
    }
}
