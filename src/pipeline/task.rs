//! What a task runs: in a step's `config`, or in a file of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resource::no_version;
use super::resource_type::no_object;
use super::{Limits, Object, off};
use crate::base::version::Version;

/// A task.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TaskConfig {
    /// Platform of the worker, such as `linux`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// A root file system the worker knows by itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_uri: String,
    /// The image as a resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_resource: Option<ImageResource>,
    /// Limits of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<Limits>,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// What to start; left out means the image's entry point.
    #[serde(skip_serializing_if = "TaskRun::is_zero")]
    pub run: TaskRun,
    /// Directories it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<TaskInput>,
    /// Directories it leaves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<TaskOutput>,
    /// Directories kept between its runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<TaskCache>,
    /// Keys nobody knows; a config that has any is refused.
    #[serde(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// A task's image as an anonymous resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageResource {
    /// Its name in the build; empty means `image`.
    pub name: String,
    /// Its resource type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is.
    pub source: Option<Object>,
    /// The version to take instead of the latest.
    #[serde(skip_serializing_if = "no_version")]
    pub version: Option<Version>,
    /// Params of its get.
    #[serde(skip_serializing_if = "no_object")]
    pub params: Option<Object>,
    /// Tags of the workers that may fetch it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What a task starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRun {
    /// The program.
    pub path: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Where it starts, relative to the working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// As whom; empty means the image's user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

impl TaskRun {
    /// Whether nothing is said at all.
    pub fn is_zero(&self) -> bool {
        *self == TaskRun::default()
    }
}

/// A directory a task needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskInput {
    /// Name of the artifact.
    pub name: String,
    /// Where it is mounted; empty means its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Whether the task runs without it.
    #[serde(skip_serializing_if = "off")]
    pub optional: bool,
}

/// A directory a task leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskOutput {
    /// Name of the artifact.
    pub name: String,
    /// Where it is mounted; empty means its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// A directory kept between runs of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCache {
    /// Where it is mounted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// How long it is kept, as Go writes durations.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ttl: String,
}
