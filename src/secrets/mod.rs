//! Where the values of `((variables))` come from at run time: credential managers behind one trait, asked frugally, for
//! the right team only.
//!
//! [`Secrets`] is what the engine, the API and the pages see. It looks through the platform's own values
//! (`readonly_…`), the installation's source ([`ssm`], [`vault`], [`env`], or the encrypted [`local`] store where nothing
//! else is set) and a pipeline's `var_sources`. A source is asked for whole paths: templates make them from names that
//! [`name`] has let through.

mod broker;
mod cache;
mod dummy;
pub mod env;
mod explain;
pub mod idtoken;
mod keyring;
pub mod local;
mod manager;
mod name;
pub mod platform;
pub mod ssm;
mod template;
mod var_source;
pub mod vault;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::base::clock::Time;
use crate::base::id::TeamId;
use crate::base::secret::Secret;
pub use broker::{Asker, LookupError, Parts, Secrets, Session, WriteError};
pub use cache::{CacheSettings, Cached};
pub use explain::{Explained, Tried};
pub use keyring::{Keyring, KeyringError};
pub use manager::{Manager, Retry};
pub use name::{Name, NameError, is_readonly};
pub use template::{Place, Template, TemplateError};
pub use var_source::{Lent, PIPELINE_TEMPLATE, Pool, TEAM_TEMPLATE};

/// Where a value may stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// As the source spells it.
    pub text: String,
    /// Whose it is, for the store of our own.
    pub team: TeamId,
    /// That team's name.
    pub team_name: String,
    /// Its pipeline, if it belongs to one.
    pub pipeline: Option<String>,
    /// Its name within.
    pub name: String,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A value a source has given.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The value: text, or a map of texts.
    pub value: Secret<Value>,
    /// From when on it is no longer good.
    pub expires: Option<Time>,
    /// Whether others come in its place that mean the same, as credentials for an hour do: what it is part of stays the
    /// same then.
    pub renewed: bool,
    /// Whether it is no secret: the platform's names and addresses.
    pub open: bool,
}

impl Found {
    /// A value that stays good.
    pub fn lasting(value: Value) -> Found {
        Found { value: Secret::new(value), expires: None, renewed: false, open: false }
    }
}

/// What a source says about some paths.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// One for each path, in their order.
    pub values: Vec<Option<Found>>,
    /// How many requests it took.
    pub calls: u32,
}

/// Why a source gave no answer. Texts never hold a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It cannot be reached, or is not itself: worth another try.
    #[error("{source_name} does not answer: {why}")]
    Down {
        /// Which.
        source_name: String,
        /// What it said.
        why: String,
    },
    /// It answers, but not to this.
    #[error("{source_name} refuses: {why}")]
    Refused {
        /// Which.
        source_name: String,
        /// What it said, and what to do.
        why: String,
    },
}

/// A credential manager. Any number of calls may run at once and each is safe to repeat.
#[async_trait]
pub trait Source: Send + Sync {
    /// For people: `AWS SSM`, `Vault`.
    fn name(&self) -> &str;

    /// The values at these paths, in few requests.
    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError>;

    /// Where values can be written, if they can.
    fn writer(&self) -> Option<&dyn Writer> {
        None
    }

    /// What an administrator should know of it, without secrets (`GET /api/v1/info/creds`).
    fn about(&self) -> Value;

    /// Whether it answers.
    async fn health(&self) -> Result<(), SourceError>;
}

/// A source that can be written.
#[async_trait]
pub trait Writer: Send + Sync {
    /// Sets a value.
    async fn put(&self, path: &Path, value: &Secret<String>, who: &str) -> Result<(), SourceError>;

    /// Removes one; false if there was none.
    async fn delete(&self, path: &Path) -> Result<bool, SourceError>;

    /// What is below a prefix, without values. `prefix.name` is empty.
    async fn list(&self, prefix: &Path) -> Result<Vec<Listed>, SourceError>;
}

/// A secret in a list: never its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    /// The pipeline it is for; empty for the whole team.
    #[serde(default)]
    pub pipeline: String,
    /// Its name.
    pub name: String,
    /// When it was last written, in unix seconds; 0 where the source does not say.
    #[serde(default)]
    pub changed_at: i64,
    /// Who wrote it.
    #[serde(default)]
    pub changed_by: String,
    /// When a build or check last used it, in unix seconds; 0 if never.
    #[serde(default)]
    pub last_used: i64,
}

/// How long values are kept where nobody says otherwise (Concourse: 1 m, not found 10 s; here absent ones as long).
pub const CACHED_FOR: Duration = Duration::from_secs(60);
