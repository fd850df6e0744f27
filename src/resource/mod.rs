//! Resource types: the check, get and put that a pipeline's resources are made of.
//!
//! The contract is Concourse's (`/opt/resource/{check,in,out}`, JSON on standard input and output, text for the
//! log on standard error). A *native* type implements it in this binary and runs without a container; every
//! other type is *contained*: its image runs the scripts.

pub mod base_type;
pub mod bundle;
pub mod child;
pub mod contained;
pub mod native;
pub mod registry;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::clock::Time;
use crate::base::version::{MetadataField, Version};
use registry::Registries;

/// Where the scripts of a type lie in its image.
pub const SCRIPTS: &str = "/opt/resource";

/// One of the three programs a resource type is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Script {
    /// Lists versions.
    Check,
    /// Fetches one.
    In,
    /// Makes one.
    Out,
}

impl Script {
    /// Its file name below [`SCRIPTS`].
    pub fn name(self) -> &'static str {
        match self {
            Script::Check => "check",
            Script::In => "in",
            Script::Out => "out",
        }
    }

    /// The script of that name.
    pub fn find(name: &str) -> Option<Script> {
        [Script::Check, Script::In, Script::Out].into_iter().find(|script| script.name() == name)
    }

    /// Its absolute path in an image.
    pub fn path(self) -> String {
        format!("{SCRIPTS}/{}", self.name())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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

impl Request {
    /// The JSON for the standard input of `script`: only the members that script knows.
    pub fn payload(&self, script: Script) -> Vec<u8> {
        let mut members = Map::new();
        members.insert("source".into(), Value::Object(self.source.clone()));
        if let Some(params) = self.params.as_ref().filter(|p| script != Script::Check && !p.is_empty()) {
            members.insert("params".into(), Value::Object(params.clone()));
        }
        if let Some(version) = self.version.as_ref().filter(|_| script != Script::Out) {
            let pairs = version.0.iter().map(|(k, v)| (k.clone(), Value::String(v.clone())));
            members.insert("version".into(), Value::Object(pairs.collect()));
        }
        Value::Object(members).to_string().into_bytes()
    }
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

/// Why a native script did not succeed. The text is for the log, may have several lines and names no secret.
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
    /// The present moment.
    pub now: Time,
    /// Whether this is a privileged container, for the types that tell.
    pub privileged: bool,
    /// What a type that gives itself away as an image (`mock` with `mirror_self`) may give.
    pub mirror: Mirror,
    /// What the operator has set about registries of images.
    pub registries: Registries,
}

/// What `mirror_self` puts beside the scripts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mirror {
    /// Nothing: the image has no shell.
    #[default]
    Nothing,
    /// The host's own files, which the runtime mounts; the operator allowed it.
    HostRootfs,
    /// All files of the container it runs in, as the type does it where it came from.
    Container,
}

/// A type implemented in this binary.
///
/// `check` is called in the server, on a blocking thread, any number of times at once. `get` and `put` run in a
/// child process of their own (`whistlestop resource NAME in|out DIR`), each in a fresh directory; they may
/// block. `put` may have effects elsewhere and is never run twice for one step.
pub trait Native: Send + Sync {
    /// The type's name in pipelines, such as `git`.
    fn name(&self) -> &'static str;

    /// Whether its versions say nothing about other resources of the same source, so that none are ever shared.
    fn unique_history(&self) -> bool {
        false
    }

    /// The program of the host that it cannot do without.
    fn program(&self) -> Option<&'static str> {
        None
    }

    /// Whether a get of this gives the type itself away as an image, for which [`Env::mirror`] is needed.
    fn mirrors_itself(&self, _request: &Request) -> bool {
        false
    }

    /// Directories of this host, beside its own, that a put of this changes. Anywhere else what it writes is thrown away.
    fn changes(&self, _request: &Request) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Versions from `request.version` (included where it still exists) to the newest, oldest first; without a
    /// version only the newest.
    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure>;

    /// Fetches `request.version` into `directory`, which exists and is empty.
    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure>;

    /// Makes a new version from the artifacts below `directory`.
    fn put(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure>;
}
