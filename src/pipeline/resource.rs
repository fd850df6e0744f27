//! What jobs get and put.

use serde::{Deserialize, Serialize};

use super::{CheckEvery, Object, off};
use crate::base::version::Version;

/// One versioned thing outside the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Its name in this pipeline.
    pub name: String,
    /// The name it had before, to keep its history.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old_name: String,
    /// Whether its versions' metadata are shown to everybody when the pipeline is exposed.
    #[serde(skip_serializing_if = "off")]
    pub public: bool,
    /// What a web hook must present; may be a variable.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub webhook_token: String,
    /// Built-in type, or the name of a resource type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the type needs to know.
    pub source: Option<Object>,
    /// How often it is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_every: Option<CheckEvery>,
    /// How long a check may take, as Go writes durations.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub check_timeout: String,
    /// Tags of the workers that may check it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The version it is pinned to; may name a part only.
    #[serde(skip_serializing_if = "no_version")]
    pub version: Option<Version>,
    /// Name of the icon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icon: String,
    /// Whether puts learn who started the build.
    #[serde(skip_serializing_if = "off")]
    pub expose_build_created_by: bool,
}

/// Whether a version says nothing, so that it is left out.
pub(crate) fn no_version(version: &Option<Version>) -> bool {
    version.as_ref().is_none_or(|v| v.0.is_empty())
}
