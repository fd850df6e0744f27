//! A job: a plan with its rules of when it may run.

use serde::{Deserialize, Serialize};

use super::step::{Core, Step, VersionConfig};
use super::{Listing, Object, off, zero};

/// A plan that is run as builds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its name in the pipeline.
    pub name: String,
    /// The name it had before, to keep its builds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old_name: String,
    /// Whether everybody may read its logs when the pipeline is exposed.
    #[serde(skip_serializing_if = "off")]
    pub public: bool,
    /// Whether people may not start it.
    #[serde(skip_serializing_if = "off")]
    pub disable_manual_trigger: bool,
    /// Whether its builds may not be run again.
    #[serde(skip_serializing_if = "off")]
    pub disable_reruns: bool,
    /// Whether only one build runs at a time.
    #[serde(skip_serializing_if = "off")]
    pub serial: bool,
    /// Whether a worker that leaves need not wait for its builds.
    #[serde(skip_serializing_if = "off")]
    pub interruptible: bool,
    /// Of all jobs that share one of these, one build runs at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial_groups: Vec<String>,
    /// How many builds may run at a time as written; see [`Job::limit`].
    #[serde(skip_serializing_if = "zero")]
    pub max_in_flight: i64,
    /// Tags of steps that have none of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How many logs are kept; `build_log_retention` took its place.
    #[serde(skip_serializing_if = "zero")]
    pub build_logs_to_retain: i64,
    /// Which logs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_log_retention: Option<LogRetention>,
    /// Runs after success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Step>,
    /// Runs after failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Step>,
    /// Runs after an abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_abort: Option<Step>,
    /// Runs after an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<Step>,
    /// Runs in any case, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensure: Option<Step>,
    /// The steps.
    pub plan: Listing<Step>,
}

/// Which build logs are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogRetention {
    /// Of how many builds.
    #[serde(skip_serializing_if = "zero")]
    pub builds: i64,
    /// At least so many of builds that succeeded.
    #[serde(skip_serializing_if = "zero")]
    pub minimum_succeeded_builds: i64,
    /// For how many days.
    #[serde(skip_serializing_if = "zero")]
    pub days: i64,
}

/// A get of a job's plan.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInput {
    /// Name of the artifact.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Globs of the jobs its version must have passed.
    pub passed: Vec<String>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// Which versions are wanted.
    pub version: Option<VersionConfig>,
    /// Params of the get.
    pub params: Option<Object>,
    /// Tags of the workers.
    pub tags: Vec<String>,
}

/// A put of a job's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutput {
    /// Name of the artifact.
    pub name: String,
    /// The resource.
    pub resource: String,
}

impl Job {
    /// How many builds may run at a time; 0 means any number.
    pub fn limit(&self) -> i64 {
        if self.serial || !self.serial_groups.is_empty() { 1 } else { self.max_in_flight }
    }

    /// The job as one step: its plan as a `do` with the job's hooks.
    pub fn as_step(&self) -> Step {
        Step {
            on_success: self.on_success.clone().map(Box::new),
            on_failure: self.on_failure.clone().map(Box::new),
            on_abort: self.on_abort.clone().map(Box::new),
            on_error: self.on_error.clone().map(Box::new),
            ensure: self.ensure.clone().map(Box::new),
            ..Step::from(Core::Do { steps: self.plan.clone(), tags: Vec::new() })
        }
    }

    /// Calls `visit` with every step that holds no other, hooks included, in Concourse's order.
    pub fn each_leaf<'a>(&'a self, visit: &mut dyn FnMut(&'a Core)) {
        for step in &self.plan {
            step.each_leaf(visit);
        }
        let hooks = [&self.on_success, &self.on_failure, &self.on_abort, &self.on_error, &self.ensure];
        for hook in hooks.into_iter().flatten() {
            hook.each_leaf(visit);
        }
    }

    /// Every get of the plan and its hooks.
    pub fn inputs(&self) -> Vec<JobInput> {
        let mut inputs = Vec::new();
        self.each_leaf(&mut |core| {
            if let Core::Get(get) = core {
                inputs.push(JobInput {
                    name: get.name.clone(),
                    resource: get.resource_name().to_owned(),
                    passed: get.passed.clone(),
                    trigger: get.trigger,
                    version: get.version.clone(),
                    params: get.params.clone(),
                    tags: get.tags.clone(),
                });
            }
        });
        inputs
    }

    /// Every put of the plan and its hooks.
    pub fn outputs(&self) -> Vec<JobOutput> {
        let mut outputs = Vec::new();
        self.each_leaf(&mut |core| {
            if let Core::Put(put) = core {
                outputs.push(JobOutput { name: put.name.clone(), resource: put.resource_name().to_owned() });
            }
        });
        outputs
    }
}
