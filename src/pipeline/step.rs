//! One step of a plan: what it does, and what is wrapped around it.
//!
//! In a file a step is one flat object. Around its core lie, from the outside in: `ensure`, `on_error`, `on_abort`,
//! `on_failure`, `on_success`, `across`, `attempts`, and `timeout` (a field of the core in get, put, task and run).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resource_type::no_object;
use super::{Limits, Listing, Object, TaskConfig, off};
use crate::base::version::Version;

/// A step with its modifiers.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub core: Core,
    /// How long it may take, where the core has no such field itself.
    pub timeout: Option<String>,
    /// How often it is tried.
    pub attempts: Option<i64>,
    /// Runs it once for each combination of values.
    pub across: Option<Across>,
    /// Runs after success.
    pub on_success: Option<Box<Step>>,
    /// Runs after failure.
    pub on_failure: Option<Box<Step>>,
    /// Runs after an abort.
    pub on_abort: Option<Box<Step>>,
    /// Runs after an error.
    pub on_error: Option<Box<Step>>,
    /// Runs in any case, last.
    pub ensure: Option<Box<Step>>,
    /// Keys nobody knows; a step that has any is refused.
    pub unknown: BTreeMap<String, Value>,
}

impl From<Core> for Step {
    fn from(core: Core) -> Self {
        Step {
            core,
            timeout: None,
            attempts: None,
            across: None,
            on_success: None,
            on_failure: None,
            on_abort: None,
            on_error: None,
            ensure: None,
            unknown: BTreeMap::new(),
        }
    }
}

impl Step {
    /// Calls `visit` with every step within that holds no other: the core's, then those of the hooks from the inside out.
    pub fn each_leaf<'a>(&'a self, visit: &mut dyn FnMut(&'a Core)) {
        match &self.core {
            Core::Do { steps, .. } => steps.iter().for_each(|s| s.each_leaf(visit)),
            Core::InParallel(parallel) => parallel.steps.iter().for_each(|s| s.each_leaf(visit)),
            Core::Try(step) => step.each_leaf(visit),
            leaf => visit(leaf),
        }
        for hook in self.hooks() {
            hook.each_leaf(visit);
        }
    }

    /// The hooks there are, from the inside out.
    pub fn hooks(&self) -> impl Iterator<Item = &Step> {
        [&self.on_success, &self.on_failure, &self.on_abort, &self.on_error, &self.ensure]
            .into_iter()
            .filter_map(|hook| hook.as_deref())
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Core {
    /// Fetches a version of a resource.
    Get(Get),
    /// Makes a version of a resource.
    Put(Put),
    /// Runs a task.
    Task(Box<TaskStep>),
    /// Sends a message to a prototype.
    Run(Run),
    /// Sets a pipeline.
    SetPipeline(SetPipeline),
    /// Reads a local variable from a file.
    LoadVar(LoadVar),
    /// Runs a step and swallows its failure.
    Try(Box<Step>),
    /// Runs steps one after the other.
    Do {
        /// The steps.
        steps: Listing<Step>,
        /// Tags of steps within that have none of their own.
        tags: Vec<String>,
    },
    /// Runs steps at once.
    InParallel(InParallel),
}

/// Fetches a version of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Get {
    /// Name of the artifact.
    #[serde(rename = "get")]
    pub name: String,
    /// The resource, where it is not called like the artifact; see [`Get::resource_name`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Which versions are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionConfig>,
    /// What the type should know.
    #[serde(skip_serializing_if = "no_object")]
    pub params: Option<Object>,
    /// Globs of the jobs the version must have passed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<String>,
    /// Whether a new version starts a build.
    #[serde(skip_serializing_if = "off")]
    pub trigger: bool,
    /// Tags of the workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How long it may take.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
}

impl Get {
    /// The resource it fetches.
    pub fn resource_name(&self) -> &str {
        if self.resource.is_empty() { &self.name } else { &self.resource }
    }
}

/// Makes a version of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    /// Name of the artifact.
    #[serde(rename = "put")]
    pub name: String,
    /// The resource, where it is not called like the artifact; see [`Put::resource_name`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// What the type should know.
    #[serde(skip_serializing_if = "no_object")]
    pub params: Option<Object>,
    /// Which artifacts it sees; left out means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<PutInputs>,
    /// Tags of the workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Params of the get that follows.
    #[serde(skip_serializing_if = "no_object")]
    pub get_params: Option<Object>,
    /// How long it may take.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// Whether no get follows.
    #[serde(skip_serializing_if = "off")]
    pub no_get: bool,
}

impl Put {
    /// The resource it makes a version of.
    pub fn resource_name(&self) -> &str {
        if self.resource.is_empty() { &self.name } else { &self.resource }
    }
}

/// Runs a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskStep {
    /// Its name in the build.
    #[serde(rename = "task")]
    pub name: String,
    /// Whether its container is privileged.
    #[serde(skip_serializing_if = "off")]
    pub privileged: bool,
    /// Whether it has no network.
    #[serde(skip_serializing_if = "off")]
    pub hermetic: bool,
    /// Where the task is described: `artifact/path`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Limits of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<Limits>,
    /// The task itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<TaskConfig>,
    /// Environment variables over those of the task.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Variables for the task's file.
    #[serde(skip_serializing_if = "no_object")]
    pub vars: Option<Object>,
    /// Tags of the workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The task's name of an input to the artifact's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub input_mapping: BTreeMap<String, String>,
    /// The task's name of an output to the artifact's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub output_mapping: BTreeMap<String, String>,
    /// The artifact that is its image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// How long it may take.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
}

/// Sends a message to a prototype.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The message.
    #[serde(rename = "run")]
    pub message: String,
    /// The prototype.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the prototype should know.
    #[serde(skip_serializing_if = "no_object")]
    pub params: Option<Object>,
    /// Whether its container is privileged.
    #[serde(skip_serializing_if = "off")]
    pub privileged: bool,
    /// Tags of the workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Limits of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<Limits>,
    /// How long it may take.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
}

/// Sets a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPipeline {
    /// Its name, or `self`.
    #[serde(rename = "set_pipeline")]
    pub name: String,
    /// Where it is described: `artifact/path`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The team, if another.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub team: String,
    /// Variables filled in.
    #[serde(skip_serializing_if = "no_object")]
    pub vars: Option<Object>,
    /// Files of variables filled in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub var_files: Vec<String>,
    /// What tells instances of one pipeline apart.
    #[serde(skip_serializing_if = "no_object")]
    pub instance_vars: Option<Object>,
}

/// Reads a local variable from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadVar {
    /// Name of the variable.
    #[serde(rename = "load_var")]
    pub name: String,
    /// Where it is: `artifact/path`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// `raw`, `trim`, `yml`, `yaml` or `json`; empty means by the file's ending.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Whether the value may be seen in the log.
    #[serde(skip_serializing_if = "off")]
    pub reveal: bool,
}

/// Runs steps at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InParallel {
    /// The steps.
    pub steps: Vec<Step>,
    /// How many at a time; 0 means all.
    pub limit: i64,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
    /// Tags of steps within that have none of their own.
    pub tags: Vec<String>,
}

/// Runs a step once for each combination of values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Across {
    /// The variables; the last one varies fastest.
    pub vars: Listing<AcrossVar>,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
}

/// One variable of `across`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcrossVar {
    /// Its name.
    pub var: String,
    /// Its values: a list, or a variable that is one.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub values: Value,
    /// How many of them at a time; left out means one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<MaxInFlight>,
}

/// How many values of `across` are run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxInFlight {
    /// All of them.
    All,
    /// So many.
    Limit(i64),
}

/// Which versions a get wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionConfig {
    /// The newest.
    Latest,
    /// Each in turn.
    Every,
    /// This one; may name a part only.
    Pinned(Version),
    /// Some other word, which Concourse takes and forgets.
    Unset,
}

/// Which artifacts a put sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutInputs {
    /// All there are.
    All,
    /// Those its params name.
    Detect,
    /// These.
    Specified(Vec<String>),
    /// Some other word, which Concourse takes and forgets.
    Unset,
}
