//! What the resolver is asked, and what it answers: inputs of a job, and versions or reasons for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;

/// An input of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Name of the get step.
    pub name: String,
    /// What it gets.
    pub resource: ResourceId,
    /// Jobs that must have succeeded with the version.
    pub passed: BTreeSet<JobId>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// Whether each version is wanted in turn.
    pub every: bool,
    /// The version it is pinned to by the get step, else by the resource's configuration, else by a person.
    pub pin: Option<Version>,
}

/// A version and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The version.
    pub version: Version,
    /// Of its canonical JSON.
    pub digest: String,
}

impl From<Version> for Picked {
    fn from(version: Version) -> Self {
        Picked { digest: version.digest(), version }
    }
}

/// A version for an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the input.
    pub input: String,
    /// What of.
    pub resource: ResourceId,
    /// Which.
    pub picked: Picked,
    /// Whether the job never had it as this input.
    pub first_occurrence: bool,
    /// Upstream builds that vouch for it.
    pub from_builds: Vec<BuildId>,
}

/// Why there is no version for an input, in Concourse's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// None was found, or all are disabled.
    NoLatest,
    /// None was found, or all are disabled, for an input that wants every version.
    NoVersion,
    /// No version has what the pin says.
    NoPinned(Version),
    /// No builds of the passed jobs go together.
    NoSatisfiableBuilds,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoLatest => f.write_str("latest version of resource not found"),
            Reason::NoVersion => f.write_str("version of resource not found"),
            Reason::NoPinned(pin) => {
                f.write_str("pinned version")?;
                pin.0.iter().try_for_each(|(key, value)| write!(f, " {key}:{value}"))?;
                f.write_str(" not found")
            }
            Reason::NoSatisfiableBuilds => {
                f.write_str("no satisfiable builds from passed jobs found for set of inputs")
            }
        }
    }
}

/// How far a job that an input must pass has come with its resource: what would have to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The job.
    pub job: JobId,
    /// Its newest build that succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub build: Option<BuildId>,
    /// The version of the resource that this build held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<Version>,
    /// Whether that version may be used: it is in the resource's history, not disabled, and not beside a pin.
    #[serde(default)]
    pub usable: bool,
}

/// An input without a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Name of the input.
    pub input: String,
    /// What of.
    pub resource: ResourceId,
    /// Why.
    pub reason: Reason,
    /// How far the jobs have come that it must pass, if that is why.
    pub passages: Vec<Passage>,
}

/// What the resolver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Every input has a version.
    Ready {
        /// One for each input.
        chosen: Vec<Chosen>,
        /// Whether after a build with these, there are versions for another at once.
        run_again: bool,
    },
    /// Some have none.
    Missing {
        /// Those that have.
        chosen: Vec<Chosen>,
        /// Those that have not.
        lacking: Vec<Lacking>,
    },
}

/// What the resolver says, and what it wants to know the next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub resolution: Resolution,
    /// For groups of inputs, named for their first one, whose history was long to search.
    pub memories: BTreeMap<String, Memory>,
}
