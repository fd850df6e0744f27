//! How a pipeline is shown: groups of jobs, and its background.

use serde::{Deserialize, Serialize};

use super::glob;

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

impl Group {
    /// Whether a job of this name is in it.
    pub fn holds(&self, job: &str) -> bool {
        let matches = |pattern: &String| glob::Group::new(pattern).is_some_and(|glob| glob.is_match(job));
        self.jobs.iter().any(|pattern| pattern == job || matches(pattern))
    }
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
