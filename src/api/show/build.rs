//! Builds, whole and in short.

use serde::Serialize;
use serde_json::value::RawValue;

use super::seconds;
use crate::base::id::{BuildId, PipelineId};
use crate::pipeline::Object;
use crate::store::build::{Build, Status};

/// A build.
#[derive(Debug, Serialize)]
pub struct BuildJson<'b> {
    id: BuildId,
    team_name: &'b str,
    name: &'b str,
    status: Status,
    api_url: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'b str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_name: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_id: Option<PipelineId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_name: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_instance_vars: Option<&'b Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reap_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun_number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun_of: Option<RerunOf<'b>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<&'b str>,
}

#[derive(Debug, Serialize)]
struct RerunOf<'b> {
    id: BuildId,
    name: &'b str,
}

impl<'b> BuildJson<'b> {
    /// A build; its comment only for those who belong to its team, or where its job is public.
    pub fn new(build: &'b Build, comment: bool) -> BuildJson<'b> {
        BuildJson {
            id: build.id,
            team_name: &build.team_name,
            name: &build.name,
            status: build.status,
            api_url: format!("/api/v1/builds/{}", build.id),
            comment: if comment { &build.comment } else { "" },
            job_name: build.job_name.as_deref(),
            resource_name: build.resource_name.as_deref(),
            pipeline_id: build.pipeline_id,
            pipeline_name: build.pipeline_name.as_deref(),
            pipeline_instance_vars: build.pipeline_instance_vars.as_ref(),
            start_time: seconds(build.started_at),
            end_time: seconds(build.ended_at),
            reap_time: seconds(build.reap_time),
            rerun_number: build.rerun_number,
            rerun_of: build.rerun_of.map(|id| RerunOf { id, name: build.rerun_of_name.as_deref().unwrap_or_default() }),
            // Of a check nobody is told who asked for it.
            created_by: build.created_by.as_deref().filter(|_| build.job_id.is_some() || build.name != "check"),
        }
    }
}

/// What Go makes of a time that is none.
const NO_TIME: i64 = -62_135_596_800;

/// A build in short, as lists of jobs and resources show it.
#[derive(Debug, Serialize)]
pub struct SummaryJson<'b> {
    id: BuildId,
    name: &'b str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    team_name: &'b str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_id: Option<PipelineId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_name: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_instance_vars: Option<&'b Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_name: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'b RawValue>,
}

impl<'b> SummaryJson<'b> {
    /// A build of a job in a list, whose times are there even if it has none yet.
    pub fn of_job(build: &'b Build) -> SummaryJson<'b> {
        let time = |t| seconds(t).or(Some(NO_TIME));
        SummaryJson {
            start_time: time(build.started_at),
            end_time: time(build.ended_at),
            ..SummaryJson::new(build, None)
        }
    }

    /// A build in short, with its public plan where that is shown.
    pub fn new(build: &'b Build, plan: Option<&'b RawValue>) -> SummaryJson<'b> {
        SummaryJson {
            id: build.id,
            name: &build.name,
            status: build.status,
            start_time: seconds(build.started_at),
            end_time: seconds(build.ended_at),
            team_name: &build.team_name,
            pipeline_id: build.pipeline_id,
            pipeline_name: build.pipeline_name.as_deref(),
            pipeline_instance_vars: build.pipeline_instance_vars.as_ref(),
            job_name: build.job_name.as_deref(),
            plan,
        }
    }
}
