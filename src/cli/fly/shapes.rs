//! The JSON that Concourse's API answers with, as far as commands look into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::reference::PipelineRef;
use crate::pipeline::Warning;

/// Reads `null` as nothing: Go writes empty lists so.
pub fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What the server says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// The version workers must have.
    pub worker_version: String,
}

/// The answer to changing a pipeline or a team.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SaveAnswer {
    /// Why it was refused.
    #[serde(deserialize_with = "nullable")]
    pub errors: Vec<String>,
    /// What to think of.
    #[serde(deserialize_with = "nullable")]
    pub warnings: Vec<Warning>,
}

/// Who is logged in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Whether they may do everything.
    pub is_admin: bool,
    /// Roles by team.
    pub teams: Option<BTreeMap<String, Vec<String>>>,
    /// The name shown.
    pub display_user_id: String,
}

/// A team and who may do what in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TeamInfo {
    /// Its name.
    pub name: String,
    /// `users` and `groups` by role.
    #[serde(deserialize_with = "nullable")]
    pub auth: Auth,
}

/// `users` and `groups` by role.
pub type Auth = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// A pipeline.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pipeline {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The instance's vars.
    pub instance_vars: Option<Map<String, Value>>,
    /// Whether it stands still.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: String,
    /// When.
    pub paused_at: i64,
    /// Whether everybody may see it.
    pub public: bool,
    /// Whether it was put away.
    pub archived: bool,
    /// Its team.
    pub team_name: String,
    /// The build that set it.
    pub parent_build_id: i64,
    /// The job of that build.
    pub parent_job_id: i64,
    /// When it was set.
    pub last_updated: i64,
}

impl Pipeline {
    /// How it is named on the command line.
    pub fn reference(&self) -> PipelineRef {
        PipelineRef { name: self.name.clone(), vars: self.instance_vars.clone() }
    }
}

/// A build, with the fields and the order that Go prints.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its id.
    pub id: i64,
    /// Its team.
    pub team_name: String,
    /// Its number within the job.
    pub name: String,
    /// Its state.
    pub status: String,
    /// Where the API has it.
    pub api_url: String,
    /// What somebody noted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Its job.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job_name: String,
    /// The resource it checks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_name: String,
    /// Its pipeline's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub pipeline_id: i64,
    /// Its pipeline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pipeline_name: String,
    /// The instance's vars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_instance_vars: Option<Map<String, Value>>,
    /// When it started.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_time: i64,
    /// When it ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub end_time: i64,
    /// When its log was removed.
    #[serde(skip_serializing_if = "is_zero")]
    pub reap_time: i64,
    /// How many times the build it repeats was repeated.
    #[serde(skip_serializing_if = "is_zero")]
    pub rerun_number: i64,
    /// The build it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<Value>,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl Build {
    /// `pipeline/job/3`, as far as it has them.
    pub fn path(&self) -> String {
        let pipeline = (!self.pipeline_name.is_empty()).then(|| {
            PipelineRef { name: self.pipeline_name.clone(), vars: self.pipeline_instance_vars.clone() }.to_string()
        });
        let parts = [&self.job_name, &self.resource_name].into_iter().filter(|p| !p.is_empty()).chain([&self.name]);
        pipeline.iter().chain(parts).map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// A job, with the fields and the order that Go prints.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its team.
    pub team_name: String,
    /// Its pipeline's id.
    pub pipeline_id: i64,
    /// Its pipeline.
    pub pipeline_name: String,
    /// The instance's vars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_instance_vars: Option<Map<String, Value>>,
    /// Whether it stands still.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Who paused it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub paused_by: String,
    /// When.
    #[serde(skip_serializing_if = "is_zero")]
    pub paused_at: i64,
    /// Whether a build would see something new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_new_inputs: bool,
    /// The groups it is in.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub groups: Vec<String>,
    /// The first build whose log is kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub first_logged_build_id: i64,
    /// Whether nobody may start it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_manual_trigger: bool,
    /// Whether nobody may repeat its builds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_reruns: bool,
    /// The build that waits or runs.
    pub next_build: Option<Build>,
    /// The last that ended.
    pub finished_build: Option<Build>,
    /// The last that ended otherwise than the one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transition_build: Option<Build>,
    /// What it gets.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub inputs: Vec<JobInput>,
    /// What it puts.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub outputs: Vec<Value>,
}

/// What a job gets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInput {
    /// Its name.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Whether new versions start builds.
    pub trigger: bool,
    /// The jobs a version must have gone through.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub passed: Vec<String>,
    /// The version it is held at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
}

/// A resource.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version it is pinned to.
    pub pinned_version: Option<BTreeMap<String, String>>,
    /// Its last check.
    pub build: Option<Build>,
}

/// A version of a resource.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ResourceVersion {
    /// Its id.
    pub id: i64,
    /// Its fields.
    #[serde(deserialize_with = "nullable")]
    pub version: BTreeMap<String, String>,
    /// Whether jobs may use it.
    pub enabled: bool,
}

/// `k:v,k:v` in order.
pub fn present_version(version: &BTreeMap<String, String>) -> String {
    version.iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>().join(",")
}

/// A container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its handle.
    pub id: String,
    /// Where it is.
    pub worker_name: String,
    /// Whether it is there yet.
    pub state: String,
    /// `task`, `get`, `put` or `check`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its step.
    pub step_name: String,
    /// Which attempt of that.
    pub attempt: String,
    /// Its build's id.
    pub build_id: i64,
    /// Its pipeline.
    pub pipeline_name: String,
    /// The instance's vars.
    pub pipeline_instance_vars: Option<Map<String, Value>>,
    /// Its job.
    pub job_name: String,
    /// Its build's number.
    pub build_name: String,
    /// The resource it checks.
    pub resource_name: String,
    /// Who runs in it.
    pub user: String,
    /// Where.
    pub working_directory: String,
    /// When it goes.
    pub expires_in: String,
}

/// A worker.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub addr: String,
    /// Where its volumes are reached.
    pub baggageclaim_url: String,
    /// How many containers it has.
    pub active_containers: i64,
    /// How many tasks it runs.
    pub active_tasks: i64,
    /// What it can run by itself.
    #[serde(deserialize_with = "nullable")]
    pub resource_types: Vec<WorkerResourceType>,
    /// Its platform.
    pub platform: String,
    /// Its tags.
    #[serde(deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Its team.
    pub team: String,
    /// Its version.
    pub version: String,
    /// When it came.
    pub start_time: i64,
    /// How it is.
    pub state: String,
}

/// A resource type of a worker.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WorkerResourceType {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
