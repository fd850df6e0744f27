//! Containers and volumes.

use serde::Serialize;

use crate::base::clock::Time;
use crate::base::duration;
use crate::base::id::{BuildId, JobId, PipelineId};
use crate::base::version::Version;
use crate::front::Settings;
use crate::pipeline::Object;
use crate::store::show::container::{ContainerView, VolumeView};

/// A container.
#[derive(Debug, Serialize)]
pub struct ContainerJson<'c> {
    id: &'c str,
    worker_name: &'c str,
    state: &'static str,
    #[serde(rename = "type")]
    kind: &'c str,
    step_name: &'c str,
    #[serde(skip_serializing_if = "str::is_empty")]
    attempt: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_id: Option<PipelineId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<BuildId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_name: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_instance_vars: Option<&'c Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_name: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_name: Option<&'c str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'c str,
    #[serde(skip_serializing_if = "str::is_empty")]
    working_directory: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<String>,
}

impl<'c> ContainerJson<'c> {
    /// A container on that worker as of now.
    pub fn new(view: &'c ContainerView, worker: &'c str, now: Time) -> ContainerJson<'c> {
        let (c, place) = (&view.container, &view.place);
        let check = c.kind == "check";
        ContainerJson {
            id: &c.handle,
            worker_name: worker,
            state: "created",
            kind: &c.kind,
            step_name: &c.step_name,
            attempt: &c.attempt,
            pipeline_id: place.pipeline_id,
            job_id: place.job_id,
            build_id: place.build_id,
            pipeline_name: place.pipeline_name.as_deref(),
            pipeline_instance_vars: place.pipeline_instance_vars.as_ref(),
            job_name: place.job_name.as_deref(),
            build_name: if check { Some("check") } else { place.build_name.as_deref() },
            user: &c.user,
            working_directory: &c.working_directory,
            expires_in: (c.hijacked_until > now).then(|| duration::format(c.hijacked_until.since(now))),
        }
    }
}

/// What a fetched version is of.
#[derive(Debug, Serialize)]
struct FetchedJson<'v> {
    resource_type: (),
    base_resource_type: BaseJson<'v>,
    version: &'v Version,
}

/// A built-in type.
#[derive(Debug, Serialize)]
struct BaseJson<'v> {
    name: &'v str,
    version: &'v str,
}

/// A volume.
#[derive(Debug, Serialize)]
pub struct VolumeJson<'v> {
    id: &'v str,
    worker_name: &'v str,
    #[serde(rename = "type")]
    kind: &'static str,
    container_handle: &'v str,
    path: &'v str,
    parent_handle: &'v str,
    resource_type: Option<FetchedJson<'v>>,
    base_resource_type: (),
    pipeline_id: i64,
    pipeline_name: &'v str,
    pipeline_instance_vars: Option<&'v Object>,
    job_name: &'v str,
    step_name: &'v str,
}

impl<'v> VolumeJson<'v> {
    /// A volume, under Concourse's word for its kind.
    pub fn new(view: &'v VolumeView, settings: &'v Settings) -> VolumeJson<'v> {
        let VolumeView { volume, fetched, cache } = view;
        let kind = match volume.kind.as_str() {
            _ if fetched.is_some() => "resource",
            _ if cache.is_some() => "task-cache",
            _ if volume.container.is_some() => "container",
            "artifact" => "artifact",
            // Still being fetched, or no cache any more.
            _ => "unknown",
        };
        let version_of =
            |name: &str| settings.resource_types.iter().find(|t| t.name == name).map_or("", |t| t.version.as_str());
        let fetched = fetched.as_ref().map(|(name, version)| FetchedJson {
            resource_type: (),
            base_resource_type: BaseJson { name, version: version_of(name) },
            version,
        });
        let place = cache.as_ref().map(|(place, _)| place);
        VolumeJson {
            id: &volume.handle,
            worker_name: &settings.worker_name,
            kind,
            container_handle: volume.container.as_deref().unwrap_or_default(),
            path: &volume.path,
            parent_handle: volume.parent.as_deref().unwrap_or_default(),
            resource_type: fetched,
            base_resource_type: (),
            pipeline_id: place.and_then(|p| p.pipeline_id).map_or(0, |p| p.0),
            pipeline_name: place.and_then(|p| p.pipeline_name.as_deref()).unwrap_or_default(),
            pipeline_instance_vars: place.and_then(|p| p.pipeline_instance_vars.as_ref()),
            job_name: place.and_then(|p| p.job_name.as_deref()).unwrap_or_default(),
            step_name: cache.as_ref().map_or("", |(_, step)| step.as_str()),
        }
    }
}
