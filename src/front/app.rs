//! The application: all that handlers reach.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use super::origin::Networks;
use super::pages::Pages;
use crate::audit::Audit;
use crate::auth::policy::Rbac;
use crate::base::clock::{Clock, Time};
use crate::base::hold::Hold;
use crate::base::shutdown::Shutdown;
use crate::engine::Wakes;
use crate::engine::feed::Feed;
use crate::login::Login;
use crate::runtime::Runtime;
use crate::schedule::due::Intervals;
use crate::secrets::Secrets;
use crate::store::Store;

/// What the operator has set and answers depend on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where people reach this server, without a slash at the end.
    pub external_url: String,
    /// Shown on pages and in `fly status`.
    pub cluster_name: String,
    /// Cookies only over TLS.
    pub cookie_secure: bool,
    /// What browsers are told about never coming without TLS again.
    pub hsts: Option<String>,
    /// Who may call, and whose word is taken for who calls.
    pub networks: Networks,
    /// Name of the worker in this process.
    pub worker_name: String,
    /// Its tags.
    pub worker_tags: Vec<String>,
    /// The built-in resource types.
    pub resource_types: Vec<BuiltIn>,
    /// How long a container stays after somebody was in it.
    pub hijack_grace: std::time::Duration,
    /// When a session in a container ends because nothing is typed; zero for never.
    pub hijack_idle: std::time::Duration,
    /// Who may show pages in a frame.
    pub frames: Frames,
    /// Resources of equal type and source share one history within a team.
    pub global_resources: bool,
    /// When this process started.
    pub started: Time,
    /// Roles that were moved.
    pub rbac: Rbac,
    /// How often resources are checked.
    pub intervals: Intervals,
    /// The Concourse that is spoken: clients of another minor version refuse to talk.
    pub concourse_version: String,
    /// Flags by which a team's name decides what the team gets; to take a name is to take that.
    pub named_teams: Vec<&'static str>,
    /// Archives of the client for other platforms.
    pub cli_artifacts_dir: Option<std::path::PathBuf>,
}

/// Who may show our pages in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frames {
    /// Nobody.
    #[default]
    None,
    /// This server's own pages.
    Own,
    /// Everybody.
    All,
}

/// A resource type that pipelines can use without naming an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name in pipelines.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// Its containers are privileged.
    pub privileged: bool,
    /// Its versions are not shared between resources of equal configuration.
    pub unique_version_history: bool,
}

/// See [`App`].
pub struct AppParts {
    /// The truth.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Build logs.
    pub feed: Feed,
    /// The bells of the passes: rung after each change.
    pub wakes: Wakes,
    /// Where steps run.
    pub runtime: Arc<dyn Runtime>,
    /// Where native types run; the same where steps run in containers of our own making.
    pub natives: Arc<dyn Runtime>,
    /// Who may sign in, and how.
    pub login: Login,
    /// Who did what.
    pub audit: Audit,
    /// Values of variables, and where they are written.
    pub secrets: Secrets,
    /// Draws the pages of signing in.
    pub pages: Box<dyn Pages>,
    /// What is logged, which an administrator can change.
    pub log_level: LogLevel,
    /// Asked to stop; long answers end then.
    pub shutdown: Shutdown,
    /// What is less than it could be about where steps run, in one line; known some time after the start.
    pub isolation: Arc<std::sync::Mutex<String>>,
    /// Why no build may start, if anything keeps it.
    pub hold: Hold,
    /// What the operator has set.
    pub settings: Settings,
}

/// The application; clones share it.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

impl App {
    /// Over its parts.
    pub fn new(parts: AppParts) -> App {
        App(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = AppParts;
    fn deref(&self) -> &AppParts {
        &self.0
    }
}

type Change = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The level of the process's own log.
pub struct LogLevel {
    current: Mutex<String>,
    change: Box<Change>,
}

impl LogLevel {
    /// At `level`; `change` sets another.
    pub fn new(level: &str, change: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> LogLevel {
        LogLevel { current: Mutex::new(level.to_owned()), change: Box::new(change) }
    }

    /// The level.
    pub fn get(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets it; the error says why it cannot be.
    pub fn set(&self, level: &str) -> Result<(), String> {
        (self.change)(level)?;
        level.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
