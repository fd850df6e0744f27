//! What a running plan needs from around it. The ledger of the engine implements it over the store; tests over a Vec.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use super::environment::BuildEnv;
use super::outcome::LeafResult;
use crate::base::clock::Time;
use crate::base::id::{ArtifactId, ScopeId, TeamId};
use crate::base::version::{MetadataField, Version};
use crate::event::{Event, Origin};
use crate::pipeline::{Config, Object};
use crate::plan::PlanId;
use crate::resource::base_type::BaseType;
use crate::resource::registry::Registries;
use crate::resource::{Native, Response};
use crate::runtime::{self, Attached, ContainerHandle, ContainerSpec, EngineImage, Runtime, VolumeHandle};
use crate::store::config::SavedConfig;
use crate::store::pipeline::PipelineRef;
use crate::vars::{Reference, Values};

/// The world could not do what was asked, such as write to a full disk.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct WorldError(pub String);

impl From<crate::store::Error> for WorldError {
    fn from(e: crate::store::Error) -> Self {
        WorldError(e.to_string())
    }
}

/// Result of the world's methods.
pub type Result<T> = std::result::Result<T, WorldError>;

/// What a version history is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked<'a> {
    /// A resource of the build's pipeline.
    Resource(&'a str),
    /// A resource type of the build's pipeline.
    Type(&'a str),
    /// A task's image.
    Image,
}

/// A version history as a check finds it.
#[derive(Debug, Clone)]
pub struct CheckScope {
    /// Its row.
    pub id: ScopeId,
    /// The newest version known.
    pub latest: Option<Version>,
    /// When the last check began and ended; zero if never.
    pub started: Time,
    /// See `started`.
    pub ended: Time,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// The version from which the next check goes on: the pinned one, or else the newest.
    pub from: Option<Version>,
}

/// A fetch that was done before.
#[derive(Debug, Clone)]
pub struct CachedFetch {
    /// Its files.
    pub volume: VolumeHandle,
    /// What the fetch answered.
    pub response: Response,
    /// The engine's image where the fetch was a pull.
    pub image: Option<EngineImage>,
}

/// Where native gets and puts run: supervised children of this binary on the host's own files, confined; or containers
/// of nothing but this binary.
#[async_trait]
pub trait NativeHost: Send + Sync {
    /// Finds or starts the child; like [`Runtime::start`] with the host's files as root and this binary in reach. Of
    /// the host it changes what lies in the directories `changes`.
    async fn start(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        changes: &[PathBuf],
    ) -> runtime::Result<Attached>;

    /// For its volumes and for stopping and removing the child.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Where images are unpacked that no engine pulls itself.
    fn images(&self) -> Arc<dyn Runtime> {
        self.runtime()
    }

    /// Whether they have the host's own programs.
    fn has_host(&self) -> bool {
        true
    }

    /// Path of this binary in the child.
    fn program(&self) -> String;
}

/// What a leaf asks for. All of it is safe to repeat.
#[async_trait]
pub trait World: Send + Sync {
    /// Who and what the build is.
    fn build(&self) -> &BuildEnv;

    /// The present moment.
    fn now(&self) -> Time;

    /// Appends to the build's log; an event that happens once per step is not repeated after a restart.
    async fn emit(&self, origin: &Origin, event: Event) -> Result<()>;

    /// Appends output that ends at byte `end` of the step's whole output.
    async fn output(&self, origin: &Origin, text: String, end: u64) -> Result<()>;

    /// Up to where the step's output is in the log already.
    fn output_end(&self, plan: &PlanId) -> u64;

    /// What a finished leaf has recorded.
    async fn result(&self, plan: &PlanId) -> Result<Option<LeafResult>>;

    /// Records what a leaf leaves behind, after its log is stored.
    async fn record(&self, plan: &PlanId, result: &LeafResult) -> Result<()>;

    /// Whether anything was begun of one of these nodes or of what they have made: a container was written down, or a
    /// result is recorded.
    async fn begun(&self, plans: &[PlanId]) -> Result<bool>;

    /// When this node first began, now if this is the first time; for timeouts that outlast a restart.
    async fn began(&self, plan: &PlanId) -> Result<Time>;

    /// Why the server has ended a step's container before its time, if it has.
    fn ended_because(&self, _container: &ContainerHandle) -> Option<String> {
        None
    }

    /// Where containers run.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Where natives run.
    fn natives(&self) -> Arc<dyn NativeHost>;

    /// A native type of that name.
    fn native(&self, kind: &str) -> Option<&'static dyn Native>;

    /// Root file system of a type that the operator brought along.
    async fn bundle(&self, kind: &str) -> Result<Option<Bundle>>;

    /// A root file system of such a type that has a shell, for a native type that gives itself away as an image.
    async fn shell(&self) -> Result<Option<std::path::PathBuf>>;

    /// Where requests to registries may go.
    fn registries(&self) -> &Registries;

    /// The image of a type that nobody has declared, and whether its containers are privileged.
    fn base_type(&self, kind: &str) -> Option<BaseType>;

    /// What natives may do here.
    fn allow_local(&self) -> bool;

    /// Whether the host's own files may be a root file system.
    fn allow_host_rootfs(&self) -> bool;

    /// A directory for a native check's clones, private to `key`.
    fn check_cache(&self, key: &str) -> std::path::PathBuf;

    /// Name of the worker, for the log.
    fn worker(&self) -> String;

    /// Tags of the worker: what steps may ask for.
    fn worker_tags(&self) -> Vec<String>;

    /// Leave to start one more container; teams that wait are served in turn. Given back when it has started.
    async fn place(&self) -> Box<dyn Send + Sync>;

    /// Leave for a task to run in this container, given back when it has ended.
    async fn running_place(&self, _container: &ContainerHandle) -> Result<RunningPlace> {
        Ok(RunningPlace::Now(Box::new(())))
    }

    /// Writes a container down before it is made.
    async fn note_container(&self, note: ContainerNote) -> Result<()>;

    /// Writes a volume down before it is made.
    async fn note_volume(&self, note: VolumeNote) -> Result<()>;

    /// The one lock of this name in the installation.
    async fn lock(&self, name: &str) -> OwnedMutexGuard<()>;

    /// The history with this key, made if absent; the resource, or the resource type, now uses it.
    async fn open_scope(&self, key: &str, of: Checked<'_>) -> Result<CheckScope>;

    /// A check of the scope begins.
    async fn begin_check(&self, scope: ScopeId) -> Result<()>;

    /// It ended with these versions, oldest first, or with an error's text.
    async fn end_check(&self, scope: ScopeId, answer: std::result::Result<Vec<Version>, String>) -> Result<()>;

    /// The row of the pipeline's resource of that name.
    async fn resource_row(&self, name: &str) -> Result<i64>;

    /// Whether resources of that type with equal sources share one version history within their team.
    fn shares_history(&self, _kind: &str) -> bool {
        false
    }

    /// How long a step (`check`, `get`, `put`, `task`) may take that does not say it itself.
    fn usual_timeout(&self, _kind: &str) -> Option<std::time::Duration> {
        None
    }

    /// What the sources of a base type hold beneath what a resource says.
    fn base_defaults(&self, _kind: &str) -> Option<&Object> {
        None
    }

    /// How long a check is trusted where nothing else is said.
    fn default_interval(&self, resource: bool) -> std::time::Duration;

    /// A put of the build made this version.
    async fn save_put(&self, step: &str, resource: &str, version: &Version, metadata: &[MetadataField]) -> Result<()>;

    /// A get fetched a version of a resource into this volume, and learnt this about it.
    async fn save_fetched(
        &self,
        resource: &str,
        version: &Version,
        metadata: &[MetadataField],
        volume: &VolumeHandle,
    ) -> Result<()>;

    /// An earlier fetch with this key.
    async fn find_cache(&self, key: &str) -> Result<Option<CachedFetch>>;

    /// Forgets the fetch with this key: its files are gone.
    async fn lose_cache(&self, key: &str) -> Result<()>;

    /// Keeps a fetch, by a type that ends at this base type, for others.
    async fn keep_cache(&self, key: &str, base_type: &str, fetch: &CachedFetch) -> Result<()>;

    /// The cache of a task's path, from an earlier build of the job.
    async fn task_cache(&self, step: &str, path: &str) -> Result<Option<VolumeHandle>>;

    /// Makes this volume the cache of a task's path. `false` where the build has no job, so that nothing is kept.
    async fn keep_task_cache(&self, step: &str, cache: &KeptCache<'_>) -> Result<bool>;

    /// The team of that name whose pipelines the build may set; empty is the build's own.
    async fn team_to_set(&self, name: &str) -> Result<TeamId>;

    /// The configuration of a pipeline and its version, to be replaced; `None` if there is no such pipeline.
    async fn pipeline_config(&self, target: &Target) -> Result<Option<(Config, i64)>>;

    /// Saves a pipeline in the name of the build, unpaused if it is new.
    async fn save_pipeline(&self, target: &Target, config: &Config, from: i64) -> Result<SavedConfig>;

    /// The build stands by a pipeline that is as it would set it; `false` where a newer build has set it.
    async fn adopt_pipeline(&self, target: &Target) -> Result<bool>;

    /// The volume of an upload of the build's team, unless it is gone.
    async fn uploaded(&self, artifact: ArtifactId) -> Result<Option<VolumeHandle>>;

    /// Keeps an artifact of the build for download under this name.
    async fn keep_output(&self, name: &str, volume: &VolumeHandle) -> Result<()>;

    /// Values of variables that are not the build's own. Those that nobody knows are left out; a source that is not
    /// there or cannot answer is an error.
    async fn values(&self, wanted: &[Reference]) -> Result<Values>;
}

/// Leave for a task to run.
pub enum RunningPlace {
    /// It may.
    Now(Box<dyn Send + Sync>),
    /// It waits for others to end.
    Later(futures_util::future::BoxFuture<'static, Box<dyn Send + Sync>>),
}

/// A directory that a task keeps for its next run.
#[derive(Debug, Clone)]
pub struct KeptCache<'a> {
    /// The directory, as the task names it.
    pub path: &'a str,
    /// Its files.
    pub volume: &'a VolumeHandle,
    /// How long it is kept after its last use; zero is for ever.
    pub ttl: std::time::Duration,
}

/// A pipeline that a step sets.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose it is.
    pub team: TeamId,
    /// Its name and instance.
    pub pipeline: PipelineRef,
}

/// A type's root file system on this host.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory.
    pub rootfs: std::path::PathBuf,
    /// Its containers get more rights.
    pub privileged: bool,
    /// Its version, part of cache keys.
    pub version: String,
}

/// A container to be.
#[derive(Debug, Clone)]
pub struct ContainerNote {
    /// Its name.
    pub handle: ContainerHandle,
    /// The node it is of.
    pub plan: PlanId,
    /// `task`, `get`, `put`, `check`.
    pub kind: &'static str,
    /// Name of the step.
    pub step: String,
    /// Which attempt, dotted.
    pub attempt: String,
    /// User of its process.
    pub user: String,
    /// Its working directory.
    pub directory: String,
}

/// A volume to be.
#[derive(Debug, Clone)]
pub struct VolumeNote {
    /// Its name.
    pub handle: VolumeHandle,
    /// `artifact`, `input`, `cache`, `resource`.
    pub kind: &'static str,
    /// What it is a copy of.
    pub parent: Option<VolumeHandle>,
    /// The container it is for.
    pub container: Option<ContainerHandle>,
    /// Artifact's name or mount's path.
    pub path: String,
}
