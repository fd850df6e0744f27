//! The file a user writes: its types, how it is read, checked, compared and printed.
//!
//! The types mirror what Concourse 8.2 stores and gives back: a field left at its zero value is left out, a step is one
//! flat object. Nothing here does IO.

mod anything;
pub mod check_every;
pub mod client;
pub mod decode;
mod diff;
mod flat;
pub mod glob;
pub mod group;
pub mod identifier;
pub mod instance;
pub mod job;
pub mod limits;
pub mod listing;
mod load;
pub mod problem;
mod quote;
pub mod resource;
pub mod resource_type;
pub mod schema;
pub mod step;
pub mod task;
mod unsupported;
mod validate;
pub mod var_source;
pub mod yaml;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use check_every::CheckEvery;
pub use diff::{diff, yaml as as_yaml};
pub use group::{Display, Group};
pub use job::{Job, JobInput, JobOutput, LogRetention};
pub use limits::{LimitError, Limits, parse_memory};
pub use listing::Listing;
pub use load::{load, resolve, to_json};
pub use problem::{Problem, Section, Warning, wire};
pub use resource::Resource;
pub use resource_type::{Prototype, ResourceType};
pub use step::{
    Across, AcrossVar, Core, Get, InParallel, LoadVar, MaxInFlight, Put, PutInputs, Run, SetPipeline, Step, TaskStep,
    VersionConfig,
};
pub use task::{ImageResource, TaskCache, TaskConfig, TaskInput, TaskOutput, TaskRun};
pub use unsupported::unsupported;
pub use validate::validate;
pub use var_source::VarSource;

/// A map of anything, such as `source` or `params`; keys are kept sorted by whoever fills it.
pub type Object = Map<String, Value>;

/// A whole pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Tabs of the dashboard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Where `((source:path))` is looked up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub var_sources: Vec<VarSource>,
    /// What jobs get and put.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Resource types beyond those that are built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_types: Vec<ResourceType>,
    /// Types of `run` steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prototypes: Vec<Prototype>,
    /// The jobs, in the order they are shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    /// How the pipeline looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// Anything; given back as it came.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub user_data: Value,
}

impl Config {
    /// The order in which Concourse's server gives a pipeline back: jobs as they were, everything else by name.
    #[must_use]
    pub fn sorted_by_name(mut self) -> Config {
        self.resources.sort_by(|a, b| a.name.cmp(&b.name));
        self.resource_types.sort_by(|a, b| a.name.cmp(&b.name));
        self.prototypes.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.name == name)
    }

    /// The resource type of that name; built-in types are not listed here.
    pub fn resource_type(&self, name: &str) -> Option<&ResourceType> {
        self.resource_types.iter().find(|r| r.name == name)
    }

    /// The prototype of that name.
    pub fn prototype(&self, name: &str) -> Option<&Prototype> {
        self.prototypes.iter().find(|p| p.name == name)
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|j| j.name == name)
    }
}

/// Whether a flag is at its zero value, so that it is left out.
pub(crate) fn off(flag: &bool) -> bool {
    !flag
}

/// Whether a number is at its zero value, so that it is left out.
pub(crate) fn zero(number: &i64) -> bool {
    *number == 0
}
