//! How a pipeline is shown: groups of jobs, and its background.

use serde::{Deserialize, Serialize};

/// A tab of the dashboard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// What the tab says.
    pub name: String,
    /// Globs of job names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// Names of resources; only checked for existence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

/// How the pipeline page looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Display {
    /// URL of an image: http, https or relative.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub background_image: String,
    /// CSS filter laid over it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub background_filter: String,
}
