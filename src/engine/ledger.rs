//! The world of one build, over the store: what [`crate::exec`] asks for while it runs a plan.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use super::feed::Log;
use super::said::{keep_end, with_said};
use super::{Shared, Timeouts, tally};
use crate::base::clock::Time;
use crate::base::id::{ArtifactId, BuildId, JobId, PipelineId, ResourceId, ScopeId, TeamId};
use crate::base::secret::Redactor;
use crate::base::version::{MetadataField, Version, digest};
use crate::event::{Event, Origin};
use crate::exec::{
    BuildEnv, Bundle, CachedFetch, CheckScope, Checked, ContainerNote, KeptCache, LeafResult, NativeHost, Outcome,
    RunningPlace, VolumeNote,
};
use crate::exec::{Target, World, WorldError};
use crate::pipeline::{Config, Object};
use crate::plan::PlanId;
use crate::resource::base_type::BaseType;
use crate::resource::registry::Registries;
use crate::resource::{Native, native};
use crate::runtime::{ContainerHandle, EngineImage, Runtime, VolumeHandle};
use crate::secrets::{Asker, Session};
use crate::store::artifact::NewArtifact;
use crate::store::build::Build;
use crate::store::cache::{ResourceCache, TaskCache};
use crate::store::config::{SaveConfig, SavedConfig};
use crate::store::container::Container;
use crate::store::finish::Made;
use crate::store::volume::Volume;
use crate::vars::{Reference, Values};

type Result<T> = std::result::Result<T, WorldError>;

/// See the module's doc.
pub struct Ledger {
    shared: Arc<Shared>,
    env: BuildEnv,
    /// The build's row and log; checks that nobody asked for have neither.
    row: Option<(BuildId, Log)>,
    /// Results of a build without a row.
    loose: Mutex<HashMap<PlanId, LeafResult>>,
    /// Containers of a build without a row.
    containers: Mutex<Vec<(ContainerHandle, &'static str)>>,
    /// Its volumes, which the collector takes once it is over.
    volumes: Mutex<Vec<String>>,
    /// What such a build checks.
    resource: Option<ResourceId>,
    /// The end of what a check without a row has said: nobody can read it elsewhere.
    said: Mutex<String>,
    session: Session,
    /// What must not leave this build or check.
    redactor: Redactor,
}

impl Ledger {
    /// For a build with a row; `redactor` learns what must not leave it.
    pub fn of_build(shared: Arc<Shared>, build: &Build, log: Log, redactor: Redactor) -> Ledger {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let env = BuildEnv {
            owner: format!("b{}", build.id.0),
            build_id: build.id.0,
            build_name: build.name.clone(),
            team_id: build.team_id.0,
            team: build.team_name.clone(),
            pipeline_id: build.pipeline_id.map_or(0, |p| p.0),
            pipeline: text(&build.pipeline_name),
            instance_vars: build.pipeline_instance_vars.as_ref().map_or_else(String::new, |v| {
                crate::base::version::canonical_json(&serde_json::Value::Object(v.clone()))
            }),
            job_id: build.job_id.map_or(0, |j| j.0),
            job: text(&build.job_name),
            created_by: text(&build.created_by),
            started: build.started_at,
            external_url: shared.settings.external_url.clone(),
            proxies: shared.settings.proxies.clone(),
        };
        Ledger { row: Some((build.id, log)), redactor, ..Ledger::loose(shared, env) }
    }

    /// For a check of a resource without a row.
    pub fn of_check(shared: Arc<Shared>, env: BuildEnv, resource: ResourceId) -> Ledger {
        Ledger { resource: Some(resource), ..Ledger::loose(shared, env) }
    }

    fn loose(shared: Arc<Shared>, env: BuildEnv) -> Ledger {
        let pipeline = (env.pipeline_id != 0).then(|| (PipelineId(env.pipeline_id), env.pipeline.clone()));
        let session = Session::new(Asker {
            team: TeamId(env.team_id),
            team_name: env.team.clone(),
            pipeline,
            instance_vars: env.instance_vars.clone(),
            job: env.job.clone(),
            build: (env.build_id != 0).then_some(BuildId(env.build_id)),
        });
        let (loose, containers, redactor) = (Mutex::default(), Mutex::default(), Redactor::new());
        let (volumes, said) = (Mutex::default(), Mutex::default());
        Ledger { shared, env, row: None, loose, containers, volumes, resource: None, said, session, redactor }
    }

    /// What hides this build's secrets.
    pub fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }

    /// Removes the containers of a check without a row. That of a check that has failed stays for visitors until the
    /// collector takes it, and gives back what the check has written.
    pub async fn clear(&self, failed: bool) {
        let containers = std::mem::take(&mut *self.containers.lock().unwrap_or_else(PoisonError::into_inner));
        for (container, kind) in containers {
            let stays = failed && kind == "check";
            let done = match stays {
                true => self.shared.runtime.forget_output(&container).await,
                false => self.shared.runtime.remove_container(&container).await,
            };
            self.shared.checking().remove(&container.0);
            match done {
                Ok(()) if stays => {}
                Ok(()) => {
                    let write = self.shared.store.write(move |tx| tx.delete_container(&container.0));
                    if let Err(error) = write.await {
                        tracing::warn!(%error, "a check's container is forgotten later");
                    }
                }
                // The collector comes back to it.
                Err(error) => tracing::warn!(%error, %container, "a check's container is not removed yet"),
            }
        }
        for volume in std::mem::take(&mut *self.volumes.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.shared.checking().remove(&volume);
        }
    }

    fn team(&self) -> TeamId {
        TeamId(self.env.team_id)
    }

    fn build_id(&self) -> Option<BuildId> {
        self.row.as_ref().map(|(id, _)| *id)
    }

    fn pipeline(&self) -> Option<PipelineId> {
        (self.env.pipeline_id != 0).then_some(PipelineId(self.env.pipeline_id))
    }

    fn job(&self) -> Option<JobId> {
        (self.env.job_id != 0).then_some(JobId(self.env.job_id))
    }
}

#[async_trait]
impl World for Ledger {
    fn build(&self) -> &BuildEnv {
        &self.env
    }

    fn now(&self) -> Time {
        self.shared.clock.now()
    }

    async fn emit(&self, origin: &Origin, event: Event) -> Result<()> {
        match &self.row {
            Some((_, log)) => Ok(log.emit(origin, &event.without(&self.redactor)).await?),
            None => Ok(()),
        }
    }

    async fn output(&self, origin: &Origin, text: String, end: u64) -> Result<()> {
        match &self.row {
            Some((_, log)) => Ok(log.output(origin, text, end).await?),
            None => {
                keep_end(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner), &text);
                Ok(())
            }
        }
    }

    fn output_end(&self, plan: &PlanId) -> u64 {
        self.row.as_ref().map_or(0, |(_, log)| log.output_end(&plan.0))
    }

    async fn result(&self, plan: &PlanId) -> Result<Option<LeafResult>> {
        if let Some(found) = self.loose.lock().unwrap_or_else(PoisonError::into_inner).get(plan) {
            return Ok(Some(found.clone()));
        }
        let Some(build) = self.build_id() else { return Ok(None) };
        let id = plan.0.clone();
        let text = self.shared.store.read(move |tx| tx.plan_result(build, &id)).await?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| WorldError(e.to_string()))).transpose()
    }

    async fn record(&self, plan: &PlanId, result: &LeafResult) -> Result<()> {
        self.loose.lock().unwrap_or_else(PoisonError::into_inner).insert(plan.clone(), result.clone());
        let Some((build, log)) = &self.row else { return Ok(()) };
        // A recorded leaf is not run again, so its log must be stored before.
        log.flush().await?;
        let (build, id) = (*build, plan.0.clone());
        let mut stored = result.clone();
        stored.metadata = crate::event::without(stored.metadata, &self.redactor);
        if let Outcome::Errored(text) = &mut stored.outcome {
            *text = self.redactor.redact(text);
        }
        let text = serde_json::to_string(&stored).map_err(|e| WorldError(e.to_string()))?;
        Ok(self.shared.store.write(move |tx| tx.record_plan_result(build, &id, &text)).await?)
    }

    async fn begun(&self, plans: &[PlanId]) -> Result<bool> {
        let Some(build) = self.build_id() else { return Ok(false) };
        let known = self.shared.store.read(move |tx| tx.begun_plans(build)).await?;
        // Below a node are its image's and those that it has made at run time.
        let of = |plan: &PlanId, id: &str| match id.strip_prefix(&plan.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        Ok(known.iter().any(|id| plans.iter().any(|plan| of(plan, id))))
    }

    async fn began(&self, plan: &PlanId) -> Result<Time> {
        let now = self.now();
        let Some(build) = self.build_id() else { return Ok(now) };
        let id = format!("{plan} began");
        let began = self.shared.store.write(move |tx| match tx.plan_result(build, &id)? {
            Some(text) => Ok(serde_json::from_str(&text)?),
            None => {
                tx.record_plan_result(build, &id, &serde_json::to_string(&now)?)?;
                Ok(now)
            }
        });
        Ok(began.await?)
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.shared.runtime.clone()
    }

    fn natives(&self) -> Arc<dyn NativeHost> {
        self.shared.natives.clone()
    }

    fn native(&self, kind: &str) -> Option<&'static dyn Native> {
        self.shared.settings.base_types.native(kind)
    }

    async fn bundle(&self, kind: &str) -> Result<Option<Bundle>> {
        self.shared.bundle(kind).await.map_err(WorldError)
    }

    async fn shell(&self) -> Result<Option<PathBuf>> {
        for kind in &self.shared.bundles {
            let Some(bundle) = self.bundle(&kind.name).await? else { continue };
            if bundle.rootfs.join("bin/sh").symlink_metadata().is_ok() {
                return Ok(Some(bundle.rootfs));
            }
        }
        Ok(None)
    }

    fn registries(&self) -> &Registries {
        &self.shared.settings.registries
    }

    fn base_type(&self, kind: &str) -> Option<BaseType> {
        self.shared.settings.base_types.find(kind)
    }

    fn allow_local(&self) -> bool {
        self.shared.settings.allow_local_git
    }

    fn allow_host_rootfs(&self) -> bool {
        self.shared.settings.allow_host_rootfs
    }

    fn check_cache(&self, key: &str) -> PathBuf {
        self.shared.settings.cache_dir.join("checks").join(key)
    }

    fn worker(&self) -> String {
        self.shared.settings.worker_name.clone()
    }

    fn worker_tags(&self) -> Vec<String> {
        self.shared.settings.worker_tags.clone()
    }

    async fn place(&self) -> Box<dyn Send + Sync> {
        Box::new(self.shared.turns.take(self.team()).await)
    }

    fn ended_because(&self, container: &ContainerHandle) -> Option<String> {
        self.shared.evicted.take(&container.0)
    }

    async fn running_place(&self, container: &ContainerHandle) -> Result<RunningPlace> {
        let Some(tasks) = &self.shared.tasks else { return Ok(RunningPlace::Now(Box::new(()))) };
        let handle = container.0.clone();
        // It runs since before a restart: it is not to wait for those that do not.
        if self.shared.store.read(move |tx| tx.container(&handle)).await?.is_some() {
            return Ok(RunningPlace::Now(Box::new(tasks.join())));
        }
        if let Some(turn) = tasks.try_take() {
            return Ok(RunningPlace::Now(Box::new(turn)));
        }
        let (tasks, team) = (tasks.clone(), self.team());
        let waiting = tally::Waiting::task(&self.env, &self.shared.settings.worker_tags);
        Ok(RunningPlace::Later(Box::pin(async move {
            let turn = tasks.take(team).await;
            drop(waiting);
            Box::new(turn) as Box<dyn Send + Sync>
        })))
    }

    async fn note_container(&self, note: ContainerNote) -> Result<()> {
        if self.row.is_none() {
            self.shared.checking().insert(note.handle.0.clone());
            let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
            containers.push((note.handle.clone(), note.kind));
        }
        let container = Container {
            handle: note.handle.0,
            team_id: self.team(),
            build_id: self.build_id(),
            plan_id: note.plan.0,
            kind: note.kind.to_owned(),
            step_name: note.step,
            attempt: note.attempt,
            user: note.user,
            working_directory: note.directory,
            created_at: self.now(),
            hijacked_until: Time(0),
            resource_id: self.resource,
        };
        Ok(self.shared.store.write(move |tx| tx.insert_container(&container)).await?)
    }

    async fn note_volume(&self, note: VolumeNote) -> Result<()> {
        if self.row.is_none() {
            self.shared.checking().insert(note.handle.0.clone());
            self.volumes.lock().unwrap_or_else(PoisonError::into_inner).push(note.handle.0.clone());
        }
        let volume = Volume {
            handle: note.handle.0,
            team_id: self.team(),
            kind: note.kind.to_owned(),
            parent: note.parent.map(|p| p.0),
            container: note.container.map(|c| c.0),
            build_id: self.build_id(),
            path: note.path,
            created_at: self.now(),
        };
        Ok(self.shared.store.write(move |tx| tx.insert_volume(&volume)).await?)
    }

    async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        self.shared.locks.take(name).await
    }

    async fn open_scope(&self, key: &str, of: Checked<'_>) -> Result<CheckScope> {
        let (key, team, pipeline) = (key.to_owned(), self.team(), self.pipeline());
        let (resource, custom) = match of {
            Checked::Resource(name) => (Some(name.to_owned()), None),
            Checked::Type(name) => (None, Some(name.to_owned())),
            Checked::Image => (None, None),
        };
        let (scope, marked) = self
            .shared
            .store
            .write(move |tx| {
                let scope = tx.find_or_create_scope(&key, team)?;
                let mut marked = false;
                let mut pin = None;
                if let (Some(pipeline), Some(name)) = (pipeline, &resource)
                    && let Some(row) = tx.find_resource(pipeline, name)?
                {
                    marked = tx.set_scope(row.id, scope.id)?;
                    pin = row.pin().cloned();
                }
                if let (Some(pipeline), Some(name)) = (pipeline, &custom) {
                    tx.set_type_scope(pipeline, name, scope.id)?;
                }
                let latest = tx.latest_version(scope.id)?;
                let from = match pin {
                    Some(pin) => tx.newest_containing(scope.id, &pin)?.or(Some(pin)),
                    None => latest.clone(),
                };
                let open = CheckScope {
                    id: scope.id,
                    latest,
                    started: scope.last_check_started,
                    ended: scope.last_check_ended,
                    succeeded: scope.last_check_succeeded,
                    from,
                };
                Ok((open, marked))
            })
            .await?;
        if marked {
            self.shared.wakes.schedule.ring();
        }
        Ok(scope)
    }

    async fn begin_check(&self, scope: ScopeId) -> Result<()> {
        let (now, loose) = (self.now(), self.row.is_none());
        metrics::counter!("concourse_lidar_checks_started_total").increment(1);
        // What was said before was about the type's image.
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let write = self.shared.store.write(move |tx| {
            tx.check_started(scope, now)?;
            if loose { tx.number_check(scope) } else { Ok(()) }
        });
        Ok(write.await?)
    }

    async fn end_check(&self, scope: ScopeId, answer: std::result::Result<Vec<Version>, String>) -> Result<()> {
        let now = self.now();
        let status = if answer.is_ok() { "success" } else { "error" };
        metrics::counter!("concourse_lidar_checks_finished_total", "status" => status).increment(1);
        let said = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        let answer = answer.map_err(|text| with_said(self.redactor.redact(&text), &said));
        let saved = self
            .shared
            .store
            .write(move |tx| {
                tx.check_ended(scope, answer.as_ref().err().map(String::as_str), now)?;
                match &answer {
                    Ok(versions) => tx.save_checked(scope, versions),
                    Err(_) => Ok(Default::default()),
                }
            })
            .await?;
        if saved.marked {
            self.shared.wakes.schedule.ring();
        }
        Ok(())
    }

    async fn resource_row(&self, name: &str) -> Result<i64> {
        let (pipeline, wanted) = (self.pipeline(), name.to_owned());
        let found = self.shared.store.read(move |tx| match pipeline {
            Some(pipeline) => Ok(tx.find_resource(pipeline, &wanted)?.map(|row| row.id.0)),
            None => Ok(None),
        });
        found.await?.ok_or_else(|| WorldError(format!("the pipeline has no resource {name} any more")))
    }

    fn shares_history(&self, kind: &str) -> bool {
        let own = |b: &crate::resource::bundle::Bundle| b.name == kind && b.unique_version_history;
        let unique = native::find(kind).is_some_and(|n| n.unique_history()) || self.shared.bundles.iter().any(own);
        self.shared.settings.share_histories && !unique
    }

    fn usual_timeout(&self, kind: &str) -> Option<Duration> {
        let Timeouts { check, get, put, task } = self.shared.settings.timeouts;
        let usual = match kind {
            "check" => check,
            "get" => get,
            "put" => put,
            _ => task,
        };
        (!usual.is_zero()).then_some(usual)
    }

    fn base_defaults(&self, kind: &str) -> Option<&Object> {
        self.shared.settings.defaults.get(kind)
    }

    fn default_interval(&self, resource: bool) -> Duration {
        if resource { self.shared.settings.check_interval } else { self.shared.settings.type_check_interval }
    }

    async fn save_put(&self, step: &str, resource: &str, version: &Version, metadata: &[MetadataField]) -> Result<()> {
        let (Some(build), Some(pipeline)) = (self.build_id(), self.pipeline()) else { return Ok(()) };
        let (step, resource, version) = (step.to_owned(), resource.to_owned(), version.clone());
        let (metadata, team) = (crate::event::without(metadata.to_vec(), &self.redactor), self.team());
        let saved = self
            .shared
            .store
            .write(move |tx| {
                let Some(row) = tx.find_resource(pipeline, &resource)? else { return Ok(Default::default()) };
                let scope = match row.scope_id {
                    Some(scope) => scope,
                    // Never checked: a history of its own until the first check names the one in force.
                    None => tx.find_or_create_scope(&digest(format!("put {}", row.id).as_bytes()), team)?.id,
                };
                tx.add_output(build, &step, row.id, &Made { scope, version: &version, metadata: &metadata })
            })
            .await?;
        if saved.marked {
            self.shared.wakes.schedule.ring();
        }
        Ok(())
    }

    async fn save_fetched(
        &self,
        resource: &str,
        version: &Version,
        metadata: &[MetadataField],
        volume: &VolumeHandle,
    ) -> Result<()> {
        let Some(pipeline) = self.pipeline() else { return Ok(()) };
        let (resource, version, volume) = (resource.to_owned(), version.clone(), volume.0.clone());
        let metadata = crate::event::without(metadata.to_vec(), &self.redactor);
        let write = self.shared.store.write(move |tx| {
            let Some(row) = tx.find_resource(pipeline, &resource)? else { return Ok(()) };
            tx.use_fetched(row.id, &version, &volume)?;
            match row.scope_id {
                Some(scope) => tx.save_metadata(scope, &version, &metadata),
                None => Ok(()),
            }
        });
        Ok(write.await?)
    }

    async fn find_cache(&self, key: &str) -> Result<Option<CachedFetch>> {
        let (key, now) = (key.to_owned(), self.now());
        let row = self
            .shared
            .store
            .write(move |tx| {
                let row = tx.resource_cache(&key)?;
                if row.is_some() {
                    tx.use_resource_cache(&key, now)?;
                }
                Ok(row)
            })
            .await?;
        if row.is_some() {
            metrics::counter!("concourse_caches_get_step_cache_hits").increment(1);
        }
        let json = |e: serde_json::Error| WorldError(e.to_string());
        row.map(|row| {
            let image: Option<EngineImage> =
                row.image.as_deref().map(serde_json::from_str).transpose().map_err(json)?;
            let response = serde_json::from_str(&row.response).map_err(json)?;
            Ok(CachedFetch { volume: VolumeHandle(row.volume), response, image })
        })
        .transpose()
    }

    async fn lose_cache(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        Ok(self.shared.store.write(move |tx| tx.drop_resource_cache(&key)).await?)
    }

    async fn keep_cache(&self, key: &str, base_type: &str, fetch: &CachedFetch) -> Result<()> {
        let json = |e: serde_json::Error| WorldError(e.to_string());
        let mut response = fetch.response.clone();
        response.metadata = crate::event::without(response.metadata, &self.redactor);
        let cache = ResourceCache {
            key: key.to_owned(),
            team_id: self.team(),
            volume: fetch.volume.0.clone(),
            base_type: base_type.to_owned(),
            response: serde_json::to_string(&response).map_err(json)?,
            image: fetch.image.as_ref().map(serde_json::to_string).transpose().map_err(json)?,
            last_used: self.now(),
        };
        self.shared.store.write(move |tx| tx.keep_resource_cache(&cache)).await?;
        Ok(())
    }

    async fn task_cache(&self, step: &str, path: &str) -> Result<Option<VolumeHandle>> {
        let Some(job) = self.job() else { return Ok(None) };
        let (step, path) = (step.to_owned(), path.to_owned());
        let found = self.shared.store.read(move |tx| tx.task_cache(job, &step, &path)).await?;
        Ok(found.map(VolumeHandle))
    }

    async fn keep_task_cache(&self, step: &str, cache: &KeptCache<'_>) -> Result<bool> {
        let Some(job) = self.job() else { return Ok(false) };
        let now = self.now();
        let ttl = if cache.ttl.is_zero() { self.shared.settings.task_cache_ttl } else { cache.ttl };
        let cache = TaskCache {
            job,
            step: step.to_owned(),
            path: cache.path.to_owned(),
            volume: cache.volume.0.clone(),
            ttl: i64::try_from(ttl.as_millis()).unwrap_or(0),
        };
        self.shared.store.write(move |tx| tx.keep_task_cache(&cache, now)).await?;
        Ok(true)
    }

    async fn team_to_set(&self, name: &str) -> Result<TeamId> {
        if name.is_empty() || name == self.env.team {
            return Ok(self.team());
        }
        let (own, name) = (self.team(), name.to_owned());
        let (admin, found) = {
            let name = name.clone();
            self.shared
                .store
                .read(move |tx| Ok((tx.team(own)?.is_some_and(|team| team.admin), tx.find_team(&name)?)))
                .await?
        };
        match found {
            None => Err(WorldError(format!("team {name} not found"))),
            // It may be this one, written otherwise.
            Some(team) if admin || team.id == own => Ok(team.id),
            Some(_) => Err(WorldError("only main team can set another team's pipeline".to_owned())),
        }
    }

    async fn pipeline_config(&self, target: &Target) -> Result<Option<(Config, i64)>> {
        let target = target.clone();
        let found = self.shared.store.read(move |tx| {
            let Some(row) = tx.find_pipeline(target.team, &target.pipeline)? else { return Ok(None) };
            Ok(Some((tx.pipeline_config(row.id)?.unwrap_or_default(), row.config_version)))
        });
        Ok(found.await?)
    }

    async fn save_pipeline(&self, target: &Target, config: &Config, from: i64) -> Result<SavedConfig> {
        let parent = self.job().zip(self.build_id());
        let (target, config, now) = (target.clone(), config.clone(), self.now());
        let saved = self.shared.store.write(move |tx| {
            tx.save_config(&SaveConfig {
                team: target.team,
                pipeline: &target.pipeline,
                config: &config,
                from_version: from,
                paused_if_new: false,
                parent,
                now,
            })
        });
        let saved = saved.await?;
        self.shared.wakes.check.ring();
        self.shared.wakes.schedule.ring();
        Ok(saved)
    }

    async fn adopt_pipeline(&self, target: &Target) -> Result<bool> {
        let (target, parent) = (target.clone(), self.job().zip(self.build_id()));
        let adopted =
            self.shared.store.write(move |tx| match (tx.find_pipeline(target.team, &target.pipeline)?, parent) {
                (Some(row), Some((job, build))) => tx.set_pipeline_parent(row.id, job, build),
                _ => Ok(true),
            });
        Ok(adopted.await?)
    }

    async fn uploaded(&self, artifact: ArtifactId) -> Result<Option<VolumeHandle>> {
        let team = self.team();
        let found = self.shared.store.read(move |tx| tx.artifact(team, artifact)).await?;
        Ok(found.map(|a| VolumeHandle(a.volume)))
    }

    async fn keep_output(&self, name: &str, volume: &VolumeHandle) -> Result<()> {
        let artifact = NewArtifact {
            team: self.team(),
            name: name.to_owned(),
            volume: volume.0.clone(),
            build: self.build_id(),
            now: self.now(),
        };
        self.shared.store.write(move |tx| tx.add_artifact(&artifact)).await?;
        Ok(())
    }

    async fn values(&self, wanted: &[Reference]) -> Result<Values> {
        let secrets = &self.shared.secrets;
        if self.session.is_first()
            && let Some(build) = self.build_id()
            && let Some(plan) = self.shared.store.read(move |tx| tx.build_plan(build)).await?
            && let Ok(plan) = serde_json::from_str(&plan)
        {
            secrets.ahead(&self.session, &plan).await;
        }
        secrets.values(&self.session, wanted).await.map_err(|e| WorldError(e.to_string()))
    }
}
