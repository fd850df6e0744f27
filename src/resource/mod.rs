//! Resource types: the check, get and put that a pipeline's resources are made of.
//!
//! The contract is Concourse's (`/opt/resource/{check,in,out}`, JSON on standard input and output, text for the
//! log on standard error). A *native* type implements it in this binary and runs without a container; every
//! other type is *contained*: its image runs the scripts.

pub mod native;

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::version::{MetadataField, Version};

/// What a script is given on standard input. `check` may have a version and has no params, `in` has a version.
///
/// Absent members are left out and nothing is added: some types refuse members they do not know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// The resource's configuration.
    #[serde(default)]
    pub source: Map<String, Value>,
    /// Parameters of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Map<String, Value>>,
    /// For `check` the newest known version, for `in` the one to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// What `in` and `out` answer on standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The version fetched or made.
    pub version: Version,
    /// What to show beside it.
    #[serde(default)]
    pub metadata: Vec<MetadataField>,
}

/// Why a native script did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The script failed, as a non-zero exit: the step fails. The text goes to the log.
    #[error("{0}")]
    Failed(String),
    /// The configuration cannot be understood: the step fails as well, with the key named.
    #[error("{0}")]
    Config(String),
}

/// What surrounds a native script while it runs.
pub struct Env<'a> {
    /// Where text for the build log goes (a contained type's standard error).
    pub log: &'a mut (dyn Write + Send),
    /// A directory that outlives the call and is private to this resource configuration, for clones and the
    /// like; `None` in children of the server, which must make do without.
    pub cache: Option<&'a Path>,
    /// Whether addresses on this machine's own file system are allowed (`file://` and plain paths).
    pub allow_local: bool,
    /// Set when the caller no longer wants the answer; long work polls it and ends its children.
    pub cancelled: &'a (dyn Fn() -> bool + Send + Sync),
    /// The environment of the build (`BUILD_ID` and so on), for metadata and messages.
    pub build: &'a std::collections::BTreeMap<String, String>,
}

/// A type implemented in this binary.
///
/// `check` is called in the server, on a blocking thread, any number of times at once. `get` and `put` run in a
/// child process of their own (`whistlestop resource NAME in|out DIR`), each in a fresh directory; they may
/// block. `put` may have effects elsewhere and is never run twice for one step.
pub trait Native: Send + Sync {
    /// The type's name in pipelines, such as `git`.
    fn name(&self) -> &'static str;

    /// Versions from `request.version` (included where it still exists) to the newest, oldest first; without a
    /// version only the newest.
    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure>;

    /// Fetches `request.version` into `directory`, which exists and is empty.
    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure>;

    /// Makes a new version from the artifacts below `directory`.
    fn put(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure>;
}
