//! How a step ends, and what of a leaf is recorded.

use serde::{Deserialize, Serialize};

use super::artifact::Artifact;
use super::world::WorldError;
use crate::base::version::{MetadataField, Version};
use crate::runtime;

/// What the log says of a step whose time was over.
const TIMED_OUT: &str = "timeout exceeded";

/// How a step ended. Hooks match on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// It said no: a non-zero exit, or it took too long.
    Failed,
    /// Something around it is wrong: the text says what.
    Errored(String),
    /// Somebody stopped it.
    Aborted,
    /// The time of a `timeout` around it was over before it could say so itself.
    TimedOut,
}

impl Outcome {
    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Succeeded)
    }

    /// What is wrong, if it errored.
    pub fn error(&self) -> Option<&str> {
        match self {
            Outcome::Errored(text) => Some(text),
            Outcome::TimedOut => Some(TIMED_OUT),
            _ => None,
        }
    }
}

/// What a finished leaf leaves behind for later steps and for a run after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafResult {
    /// How it ended.
    pub outcome: Outcome,
    /// The version fetched, made or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What was told about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataField>,
    /// Artifacts by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<(String, Artifact)>,
    /// Why it failed or found nothing, for the step that it was run for; nothing in it is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl LeafResult {
    /// A result with nothing but its outcome.
    pub fn of(outcome: Outcome) -> LeafResult {
        LeafResult { outcome, version: None, metadata: Vec::new(), artifacts: Vec::new(), why: None }
    }
}

/// Why a leaf ended before its process told how.
#[derive(Debug)]
pub enum Stop {
    /// Something around it is wrong.
    Error(String),
    /// The build was aborted, or a sibling failed fast.
    Aborted,
    /// It took too long.
    TimedOut,
}

impl Stop {
    /// What the log says.
    pub fn text(&self) -> String {
        match self {
            Stop::Error(text) => text.clone(),
            Stop::Aborted => "interrupted".to_owned(),
            Stop::TimedOut => TIMED_OUT.to_owned(),
        }
    }

    /// What the step becomes; `text` is what the log said.
    pub fn outcome(self, text: String) -> Outcome {
        match self {
            Stop::Error(_) => Outcome::Errored(text),
            Stop::Aborted => Outcome::Aborted,
            Stop::TimedOut => Outcome::Failed,
        }
    }
}

impl From<WorldError> for Stop {
    fn from(e: WorldError) -> Self {
        Stop::Error(e.to_string())
    }
}

impl From<runtime::Error> for Stop {
    fn from(e: runtime::Error) -> Self {
        Stop::Error(e.to_string())
    }
}

impl From<crate::vars::Error> for Stop {
    fn from(e: crate::vars::Error) -> Self {
        Stop::Error(e.to_string())
    }
}
