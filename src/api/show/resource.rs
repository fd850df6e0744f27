//! Resources and their versions.

use serde::Serialize;
use serde_json::value::RawValue;

use super::build::SummaryJson;
use super::why::WhyJson;
use crate::base::clock::Time;
use crate::base::id::{BuildId, PipelineId, VersionId};
use crate::base::version::{MetadataField, Version};
use crate::pipeline::Object;
use crate::plan::{self, Action, CheckPlan, Plan, PlanId};
use crate::store::build::{Build, Status};
use crate::store::show::resource::ResourceView;
use crate::store::show::why::Why;
use crate::store::version::VersionRow;

/// A resource.
#[derive(Debug, Serialize)]
pub struct ResourceJson<'r> {
    name: &'r str,
    pipeline_id: PipelineId,
    pipeline_name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_instance_vars: Option<&'r Object>,
    team_name: &'r str,
    #[serde(rename = "type")]
    kind: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checked: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    icon: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_version: Option<&'r Version>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pinned_in_config: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pin_comment: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<SummaryJson<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<WhyJson>,
}

/// What a resource's JSON borrows from: its last check as a build, and that build's plan.
#[derive(Debug)]
pub struct LastCheck {
    /// The build.
    pub build: Build,
    /// What is shown of its plan.
    pub plan: Option<Box<RawValue>>,
    /// What it said if it failed.
    pub error: String,
}

impl LastCheck {
    /// The last check: the last that was a build of its own, unless a check in between was shorter than a build.
    pub fn of(view: &ResourceView) -> Option<LastCheck> {
        let ended = view.resource.last_check_ended;
        if let Some((build, plan)) = &view.check
            && (build.ended_at.is_none() || build.ended_at >= Some(ended))
        {
            let plan = plan.as_ref().and_then(|p| RawValue::from_string(p.clone()).ok());
            return Some(LastCheck { build: build.clone(), plan, error: String::new() });
        }
        let status = if view.resource.last_check_succeeded { Status::Succeeded } else { Status::Failed };
        (ended > Time(0)).then(|| LastCheck { build: brief(view, status), plan: plan_of(view), error: String::new() })
    }

    /// The last check, which left no row, by itself: it may still go on.
    pub fn without_row(view: &ResourceView) -> LastCheck {
        let resource = &view.resource;
        let (status, ended, error) = match resource.last_check_ended < resource.last_check_started {
            true => (Status::Started, None, String::new()),
            false if resource.last_check_succeeded => {
                (Status::Succeeded, Some(resource.last_check_ended), String::new())
            }
            false => (Status::Failed, Some(resource.last_check_ended), resource.last_check_error.clone()),
        };
        let build = Build { ended_at: ended, ..brief(view, status) };
        LastCheck { build, plan: plan_of(view), error }
    }
}

/// How a resource is checked, as the plan of that check would be shown.
fn plan_of(view: &ResourceView) -> Option<Box<RawValue>> {
    let (resource, id) = (&view.resource, PlanId("1".to_owned()));
    let image = plan::of_type(&id, &resource.kind, &view.types, &resource.config.tags, false);
    let check = CheckPlan { name: resource.name.clone(), kind: resource.kind.clone(), image, ..CheckPlan::default() };
    let shown = plan::shown(&Plan { id, action: Action::Check(Box::new(check)) });
    RawValue::from_string(shown.to_string()).ok()
}

/// A check that left no row, told as a build: most checks are too short and too many to be kept.
fn brief(view: &ResourceView, status: Status) -> Build {
    let (resource, pipeline) = (&view.resource, &view.pipeline);
    Build {
        id: resource.last_check_id.or(resource.last_check_build_id).unwrap_or(BuildId(0)),
        name: "check".to_owned(),
        status,
        team_id: pipeline.team_id,
        team_name: pipeline.team_name.clone(),
        pipeline_id: Some(pipeline.id),
        pipeline_name: Some(pipeline.name.clone()),
        pipeline_instance_vars: pipeline.instance_vars.clone(),
        job_id: None,
        job_name: None,
        resource_id: Some(resource.id),
        resource_name: Some(resource.name.clone()),
        created_at: resource.last_check_started,
        started_at: Some(resource.last_check_started).filter(|t| *t > Time(0)),
        ended_at: Some(resource.last_check_ended),
        scheduled: true,
        manual: false,
        created_by: None,
        rerun_of: None,
        rerun_of_name: None,
        rerun_number: None,
        aborted: None,
        comment: String::new(),
        reap_time: None,
    }
}

impl<'r> ResourceJson<'r> {
    /// A resource and its last check.
    pub fn new(view: &'r ResourceView, check: Option<&'r LastCheck>) -> ResourceJson<'r> {
        let (resource, pipeline) = (&view.resource, &view.pipeline);
        ResourceJson {
            name: &resource.name,
            pipeline_id: pipeline.id,
            pipeline_name: &pipeline.name,
            pipeline_instance_vars: pipeline.instance_vars.as_ref(),
            team_name: &pipeline.team_name,
            kind: &resource.kind,
            last_checked: Some(resource.last_check_ended).filter(|t| *t > Time(0)).map(Time::unix),
            icon: &resource.config.icon,
            pinned_version: resource.pin(),
            pinned_in_config: resource.config_pin.is_some(),
            pin_comment: &resource.pin_comment,
            build: check.map(|c| SummaryJson::new(&c.build, c.plan.as_deref())),
            why: None,
        }
    }

    /// With the reason why it is not checked now.
    pub fn because(self, why: Option<Why>) -> ResourceJson<'r> {
        ResourceJson { why: why.map(WhyJson::from), ..self }
    }
}

/// A version of a resource.
#[derive(Debug, Serialize)]
pub struct VersionJson<'v> {
    id: VersionId,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    metadata: &'v [MetadataField],
    version: &'v Version,
    enabled: bool,
}

impl<'v> VersionJson<'v> {
    /// A version; its metadata only for those who may see them.
    pub fn new(row: &'v VersionRow, metadata: bool) -> VersionJson<'v> {
        let metadata = if metadata { row.metadata.as_slice() } else { &[] };
        VersionJson { id: row.id, metadata, version: &row.version, enabled: row.enabled }
    }
}
