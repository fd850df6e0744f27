//! What a build will do, as a tree that is stored with the build and run from the top, again after a restart.

mod across;
mod from_job;
mod image;
pub mod one_off;
mod show;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base::id::ArtifactId;
use crate::base::version::Version;
use crate::pipeline::{AcrossVar, Limits, Object, TaskConfig, decode};
pub use across::{combinations, expand};
pub use from_job::{Error, Planner};
pub use image::{fetch as fetch_image, of_type};
pub use show::{Shown, shown};

/// Reads a plan, or the shown form of one, that was stored. It nests several times as deeply as its pipeline's file did,
/// whose reader has set a bound, and deeper than others' JSON may.
pub fn stored<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader)
}

/// Names a node within its build: hexadecimal numbers, `<id>/image-get` and `/image-check` for nested images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

impl std::fmt::Display for PlanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: PlanId,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
}

/// What a node does: leaves first, then composites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Fetches a version.
    Get(Box<GetPlan>),
    /// Makes a version.
    Put(Box<PutPlan>),
    /// Runs a task.
    Task(Box<TaskPlan>),
    /// Looks for new versions.
    Check(Box<CheckPlan>),
    /// Hands an upload to later steps.
    ArtifactInput(ArtifactInputPlan),
    /// Keeps an artifact for download.
    ArtifactOutput(ArtifactOutputPlan),
    /// Sends a message to a prototype.
    Run(Box<RunPlan>),
    /// Sets a pipeline.
    SetPipeline(Box<SetPipelinePlan>),
    /// Reads a local variable from a file.
    LoadVar(LoadVarPlan),
    /// Once for each combination of values, which only the running build knows.
    Across(Box<AcrossPlan>),
    /// One after the other, until one does not succeed.
    Do(Vec<Plan>),
    /// At once.
    InParallel(ParallelPlan),
    /// Swallows failure and error.
    Try(Box<TryPlan>),
    /// Until one succeeds.
    Retry(Vec<Plan>),
    /// Fails when it takes too long.
    Timeout(Box<TimeoutPlan>),
    /// Runs `hook` after `step` succeeded.
    OnSuccess(Box<HookPlan>),
    /// … failed.
    OnFailure(Box<HookPlan>),
    /// … errored.
    OnError(Box<HookPlan>),
    /// … was aborted.
    OnAbort(Box<HookPlan>),
    /// … in any case.
    Ensure(Box<HookPlan>),
}

/// See [`Action::Get`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GetPlan {
    /// Name of the artifact.
    pub name: String,
    /// The resource, if it is one of the pipeline's.
    pub resource: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its configuration, defaults applied, variables not filled in.
    pub source: Object,
    /// What the type should know.
    pub params: Option<Object>,
    /// The version to fetch …
    pub version: Option<Version>,
    /// … or the node whose result holds it.
    pub version_from: Option<PlanId>,
    /// Tags of the workers.
    pub tags: Vec<String>,
    /// How long it may take.
    pub timeout: Option<String>,
    /// Whether a new version starts the job by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trigger: bool,
    /// Where the type's scripts come from.
    pub image: TypeImage,
}

/// See [`Action::Put`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PutPlan {
    /// Name of the artifact.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its configuration.
    pub source: Object,
    /// What the type should know.
    pub params: Option<Object>,
    /// Which artifacts it sees.
    pub inputs: Inputs,
    /// Tags of the workers.
    pub tags: Vec<String>,
    /// How long it may take.
    pub timeout: Option<String>,
    /// Whether the script may know who started the build.
    pub expose_build_created_by: bool,
    /// Where the type's scripts come from.
    pub image: TypeImage,
}

/// Text of whatever a variable has put there.
fn environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(name, value)| (name, decode::coerced(&value))).collect())
}

/// Which artifacts a put sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// Those that its params seem to name.
    #[default]
    Detect,
    /// All so far.
    All,
    /// These.
    Listed(Vec<String>),
}

/// See [`Action::Task`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskPlan {
    /// Name of the step.
    pub name: String,
    /// The configuration …
    pub config: Option<TaskConfig>,
    /// … or the file that holds it, `artifact/path`.
    pub config_path: Option<String>,
    /// Variables for the file.
    pub vars: Option<Object>,
    /// Environment over the configuration's.
    #[serde(deserialize_with = "environment")]
    pub params: BTreeMap<String, String>,
    /// With more rights.
    pub privileged: bool,
    /// Without network.
    pub hermetic: bool,
    /// The artifact that is the image.
    pub image: Option<String>,
    /// Task's names to artifacts' names.
    pub input_mapping: BTreeMap<String, String>,
    /// The same for outputs.
    pub output_mapping: BTreeMap<String, String>,
    /// Limits over the configuration's.
    pub container_limits: Option<Limits>,
    /// Tags of the workers.
    pub tags: Vec<String>,
    /// How long it may take.
    pub timeout: Option<String>,
    /// The pipeline's types, for the image.
    pub resource_types: Vec<crate::pipeline::ResourceType>,
    /// Whether image checks ask even before their interval has passed.
    pub check_skip_interval: bool,
}

/// See [`Action::Run`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunPlan {
    /// The message.
    pub message: String,
    /// The prototype.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the prototype should know: its defaults, and the step's params over them.
    pub object: Object,
    /// With more rights.
    pub privileged: bool,
}

/// See [`Action::SetPipeline`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPipelinePlan {
    /// Its name, or `self`.
    pub name: String,
    /// Where it is described, `artifact/path`.
    pub file: String,
    /// The team, if another.
    pub team: String,
    /// Variables filled in.
    pub vars: Option<Object>,
    /// Files of variables filled in.
    pub var_files: Vec<String>,
    /// What tells instances of one pipeline apart.
    pub instance_vars: Option<Object>,
}

/// See [`Action::LoadVar`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadVarPlan {
    /// Name of the variable.
    pub name: String,
    /// Where its value is, `artifact/path`.
    pub file: String,
    /// How the file is read; empty means by its ending.
    pub format: String,
    /// Whether the value may be seen in the log.
    pub reveal: bool,
}

/// See [`Action::Across`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcrossPlan {
    /// The variables; the last one varies fastest.
    pub vars: Vec<AcrossVar>,
    /// The plan of one step as JSON, its variables not filled in.
    pub template: Value,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
}

/// See [`Action::Check`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckPlan {
    /// Name of what is checked.
    pub name: String,
    /// The resource, if it is one of the pipeline's; else an image or a type.
    pub resource: Option<String>,
    /// The resource type whose image it looks for.
    pub resource_type: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its configuration.
    pub source: Object,
    /// The version to go on from instead of the newest known.
    pub from: Option<Version>,
    /// How long to trust the last check, a Go duration; `None` is the server's default.
    pub interval: Option<String>,
    /// Ask whatever the interval says.
    pub skip_interval: bool,
    /// Tags of the workers.
    pub tags: Vec<String>,
    /// How long it may take.
    pub timeout: Option<String>,
    /// Where the type's scripts come from.
    pub image: TypeImage,
}

/// See [`Action::ArtifactInput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInputPlan {
    /// The upload.
    pub artifact_id: ArtifactId,
    /// What later steps know it by.
    pub name: String,
}

/// See [`Action::ArtifactOutput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactOutputPlan {
    /// Name of the artifact.
    pub name: String,
}

/// Where a type's scripts come from: this binary or a bundle (`base_type` alone), or the image that a custom type names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TypeImage {
    /// The base type at the end of the chain.
    pub base_type: String,
    /// Finds the image's version.
    pub check: Option<Box<Plan>>,
    /// Fetches it.
    pub get: Option<Box<Plan>>,
    /// Its containers get more rights.
    pub privileged: bool,
}

/// See [`Action::InParallel`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParallelPlan {
    /// The steps.
    pub steps: Vec<Plan>,
    /// How many at a time; 0 is all.
    pub limit: usize,
    /// Whether the first that does not succeed stops the others.
    pub fail_fast: bool,
}

/// See [`Action::Try`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TryPlan {
    /// What is tried.
    pub step: Plan,
}

/// See [`Action::Timeout`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeoutPlan {
    /// What is bounded.
    pub step: Plan,
    /// By how much, a Go duration.
    pub duration: String,
}

/// A step and its hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookPlan {
    /// The step.
    pub step: Plan,
    /// What runs after it.
    pub hook: Plan,
}

impl Plan {
    /// Calls `visit` with this node and all below it, images included, in the order of the text.
    pub fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a Plan)) {
        visit(self);
        let image = match &self.action {
            Action::Get(get) => Some(&get.image),
            Action::Put(put) => Some(&put.image),
            Action::Check(check) => Some(&check.image),
            _ => None,
        };
        for nested in image.into_iter().flat_map(|i| [&i.check, &i.get]).flatten() {
            nested.each(visit);
        }
        for child in self.children() {
            child.each(visit);
        }
    }

    /// The same with leave to change the nodes.
    pub fn each_mut(&mut self, visit: &mut dyn FnMut(&mut Plan)) {
        visit(self);
        let image = match &mut self.action {
            Action::Get(get) => Some(&mut get.image),
            Action::Put(put) => Some(&mut put.image),
            Action::Check(check) => Some(&mut check.image),
            _ => None,
        };
        for nested in image.into_iter().flat_map(|i| [&mut i.check, &mut i.get]).flatten() {
            nested.each_mut(visit);
        }
        let children: Vec<&mut Plan> = match &mut self.action {
            Action::Do(steps) | Action::Retry(steps) => steps.iter_mut().collect(),
            Action::InParallel(p) => p.steps.iter_mut().collect(),
            Action::Try(t) => vec![&mut t.step],
            Action::Timeout(t) => vec![&mut t.step],
            Action::OnSuccess(h)
            | Action::OnFailure(h)
            | Action::OnError(h)
            | Action::OnAbort(h)
            | Action::Ensure(h) => vec![&mut h.step, &mut h.hook],
            _ => Vec::new(),
        };
        for child in children {
            child.each_mut(visit);
        }
    }

    /// The nodes directly below a composite.
    pub fn children(&self) -> Vec<&Plan> {
        match &self.action {
            Action::Get(_)
            | Action::Put(_)
            | Action::Task(_)
            | Action::Check(_)
            | Action::ArtifactInput(_)
            | Action::ArtifactOutput(_)
            | Action::Run(_)
            | Action::SetPipeline(_)
            | Action::LoadVar(_)
            | Action::Across(_) => Vec::new(),
            Action::Do(steps) | Action::Retry(steps) => steps.iter().collect(),
            Action::InParallel(p) => p.steps.iter().collect(),
            Action::Try(t) => vec![&t.step],
            Action::Timeout(t) => vec![&t.step],
            Action::OnSuccess(h)
            | Action::OnFailure(h)
            | Action::OnError(h)
            | Action::OnAbort(h)
            | Action::Ensure(h) => {
                vec![&h.step, &h.hook]
            }
        }
    }
}
