//! A state directory, the passes over it, and what happens to the pipelines in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::pipeline::{Chance, config};
use super::rules::Rules;
use crate::base::clock::{Clock, Manual, Time};
use crate::base::hold::Hold;
use crate::base::id::{BuildId, PipelineId};
use crate::base::outgoing::Outgoing;
use crate::base::version::Version;
use crate::engine::{Feed, Parts, Pass, Settings, Shared, Wakes, disk, gc, retention, schedule, track};
use crate::exec::NativeHost;
use crate::pipeline::Config;
use crate::resource::base_type::BaseTypes;
use crate::resource::registry::Registries;
use crate::runtime::fake::Fake;
use crate::runtime::room::Watermark;
use crate::runtime::{self, Attached, ContainerHandle, ContainerSpec, Runtime};
use crate::secrets::idtoken::Issuer;
use crate::secrets::local::Local;
use crate::secrets::platform::{self, Platform};
use crate::secrets::{self, CacheSettings, Cached, Keyring, Lent, Manager, Pool, Retry, Secrets};
use crate::store::build::{Abort, Build, Status};
use crate::store::config::{SaveConfig, SavedConfig};
use crate::store::job::Job;
use crate::store::page::PageRequest;
use crate::store::pipeline::PipelineRef;
use crate::store::resource::Resource;
use crate::store::{ReadTx, Result, Store, WriteTx};

/// Native children are processes of the fake runtime too.
struct Natives(Arc<Fake>);

#[async_trait]
impl NativeHost for Natives {
    async fn start(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        _changes: &[PathBuf],
    ) -> runtime::Result<Attached> {
        self.0.start(container, spec).await
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.0.clone()
    }

    fn program(&self) -> String {
        "whistlestop".to_owned()
    }
}

/// See the module's doc.
pub struct World {
    pub seed: u64,
    directory: tempfile::TempDir,
    pub clock: Arc<Manual>,
    pub runtime: Arc<Fake>,
    pub shared: Arc<Shared>,
    track: track::Track,
    pipelines: Vec<PipelineId>,
    commits: usize,
    rules: Rules,
    /// What happened, a line each.
    pub trace: Vec<String>,
}

impl World {
    pub async fn new(seed: u64, pipelines: usize, chance: &mut Chance) -> World {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Manual::new(Time(1_000_000)));
        let runtime = Arc::new(Fake::new());
        runtime.script("whistlestop", &[r#"answer:{"version":{"version":"put"}}"#]);
        let shared = open(&directory, &clock, &runtime);
        let configs: Vec<Config> = (0..pipelines).map(|_| serde_json::from_value(config(chance)).unwrap()).collect();
        let now = clock.now();
        let pipelines = shared.store.write(move |tx| set(tx, &configs, now)).await.unwrap();
        let track = track::Track::new(shared.clone());
        let (rules, trace) = (Rules::default(), Vec::new());
        let mut world = World { seed, directory, clock, runtime, shared, track, pipelines, commits: 0, rules, trace };
        world.settle().await;
        world
    }

    /// The server dies after it was allowed to do a little more, and another starts on the same state.
    pub async fn kill(&mut self, moments: usize) {
        if moments > 0 {
            let (shared, track) = (self.shared.clone(), &mut self.track);
            let passes = async {
                schedule::Schedule(shared).once().await.unwrap();
                track.once().await.unwrap();
                std::future::pending::<()>().await;
            };
            let _ = tokio::time::timeout(Duration::from_micros(moments as u64 * 250), passes).await;
        }
        let old = std::mem::replace(&mut self.shared, open(&self.directory, &self.clock, &self.runtime));
        self.track = track::Track::new(self.shared.clone());
        drop(old);
    }

    /// Lets the passes work until nothing changes any more: every running build is at its task, or over.
    pub async fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 200, "seed {}: the passes do not come to rest", self.seed);
            let before = self.state().await;
            schedule::Schedule(self.shared.clone()).once().await.unwrap();
            let now = self.clock.now();
            self.shared.store.write(move |tx| answer_checks(tx, now)).await.unwrap();
            self.track.once().await.unwrap();
            self.quiet().await;
            let after = self.state().await;
            if before == after && after.2 == 0 {
                return;
            }
        }
    }

    /// Waits until every build that runs is held at its task.
    async fn quiet(&mut self) {
        for turn in 0.. {
            let running = self.shared.store.read(|tx| tx.started_builds()).await.unwrap();
            let held = self.runtime.held();
            let busy: Vec<_> = running
                .iter()
                .filter(|b| b.aborted.is_some() || !held.iter().any(|h| h.0.starts_with(&format!("b{}-", b.id))))
                .map(|b| b.id)
                .collect();
            if busy.is_empty() {
                return;
            }
            assert!(turn < 20_000, "seed {}: these builds do not go on: {busy:?}", self.seed);
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// What tells whether anything has changed.
    async fn state(&self) -> (i64, i64, i64) {
        self.shared
            .store
            .read(|tx| {
                Ok(tx.query_row(
                    "select (select count(*) from builds), (select count(*) from builds where status in ('started', 'pending')),
                       (select sum(schedule_requested - last_scheduled) from jobs)
                       + (select sum(check_requested > last_check_answered) from resources)",
                    [],
                    |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
                )?)
            })
            .await
            .unwrap()
    }

    /// Does one thing to each pipeline; says what.
    pub async fn round(&mut self, chance: &mut Chance) -> Vec<String> {
        self.clock.advance(Duration::from_secs(1));
        let mut told = Vec::new();
        for pipeline in self.pipelines.clone() {
            let rows = self.shared.store.read(move |tx| Rows::read(tx, pipeline)).await.unwrap();
            let (job, resource) = (chance.pick(&rows.jobs).cloned(), chance.pick(&rows.resources).cloned());
            let (Some(job), Some(resource)) = (job, resource) else { continue };
            self.commits += 1;
            let line = match chance.below(100) {
                0..30 => self.commit(&resource).await,
                30..72 => self.to_builds(&rows, chance).await,
                72..80 => self.trigger(&job).await,
                80..91 => self.pause(&job, chance.percent(60)).await,
                _ => self.to_versions(resource, chance.percent(50)).await,
            };
            told.push(format!("{pipeline}: {line}"));
        }
        told
    }

    async fn commit(&self, resource: &Resource) -> String {
        let (id, n) = (resource.id, self.commits);
        self.write(move |tx| commit(tx, id, n)).await;
        format!("commit {}", resource.name)
    }

    /// Ends one, aborts one or repeats one.
    async fn to_builds(&self, rows: &Rows, chance: &mut Chance) -> String {
        let now = self.clock.now();
        let dice = chance.below(100);
        let started = chance.pick(&rows.of(|b| b.status == Status::Started)).map(|b| (b.id, named(b)));
        let pending = chance.pick(&rows.of(|b| b.status == Status::Pending)).map(|b| (b.id, named(b)));
        let over = chance.pick(&rows.of(|b| b.status.is_over() && b.started_at.is_some())).map(|b| (b.id, named(b)));
        match (dice, started, pending, over) {
            (0..70, Some((id, name)), _, _) => {
                let exit = match chance.below(20) {
                    0..15 => 0,
                    15..19 => 1,
                    _ => -1,
                };
                self.release(id, exit);
                format!("end {name} with {exit}")
            }
            (70..82, Some((id, name)), _, _) | (82..88, _, Some((id, name)), _) => {
                self.write(move |tx| tx.abort_build(id, Abort::Graceful).map(drop)).await;
                format!("abort {name}")
            }
            (88.., _, _, Some((id, name))) => {
                self.write(move |tx| tx.create_rerun(id, "somebody", now).map(drop)).await;
                format!("rerun {name}")
            }
            _ => "nothing".to_owned(),
        }
    }

    async fn trigger(&self, job: &Job) -> String {
        let (id, now) = (job.id, self.clock.now());
        self.write(move |tx| {
            tx.create_manual_build(id, "somebody", now)?;
            tx.request_checks_of_job(id, now)
        })
        .await;
        format!("trigger {}", job.name)
    }

    async fn pause(&self, job: &Job, only_it: bool) -> String {
        let (id, pipeline, now) = (job.id, job.pipeline_id, self.clock.now());
        let (paused, all_paused) = (job.paused, job.pipeline_paused);
        self.write(move |tx| {
            match (only_it, paused, all_paused) {
                (true, true, _) => tx.unpause_job(id),
                (true, false, _) => tx.pause_job(id, "somebody", now),
                (false, _, true) => tx.unpause_pipeline(pipeline),
                (false, _, false) => tx.pause_pipeline(pipeline, "somebody", now),
            }
            .map(drop)
        })
        .await;
        format!("pause or unpause {}", if only_it { &job.name } else { "all" })
    }

    async fn to_versions(&self, resource: Resource, pins: bool) -> String {
        let n = self.commits;
        let line = format!("{} or not, {}", if pins { "pin" } else { "disable" }, resource.name);
        self.write(move |tx| if pins { pin(tx, &resource, n) } else { disable(tx, &resource, n) }).await;
        line
    }

    async fn write(&self, f: impl FnOnce(&WriteTx<'_>) -> Result<()> + Send + 'static) {
        self.shared.store.write(f).await.unwrap();
    }

    /// Lets a build's task end: with that status, or lost with its container where it is negative.
    fn release(&self, build: BuildId, status: i32) {
        let prefix = format!("b{build}-");
        for held in self.runtime.held().iter().filter(|h| h.0.starts_with(&prefix)) {
            self.runtime.release(held, status);
        }
    }

    /// The rules, and what is new for the trace.
    pub async fn check(&mut self, how: &[String]) {
        gc::Collect::new(self.shared.clone()).once().await.unwrap();
        let held: BTreeSet<String> = self.runtime.list().await.unwrap().containers.into_iter().map(|c| c.0).collect();
        let new = self.rules.check(&self.shared, held).await;
        match new {
            Ok(lines) => self.trace.extend(how.iter().cloned().chain(lines)),
            Err(broken) => panic!("seed {}: {broken}\nlast: {how:#?}", self.seed),
        }
    }

    /// Everything ends, and nothing is left.
    pub async fn finish(&mut self) {
        let now = self.clock.now();
        self.write(move |tx| {
            for build in tx.started_builds()? {
                tx.abort_build(build.id, Abort::Graceful)?;
            }
            for pipeline in tx.pipelines()? {
                tx.archive_pipeline(pipeline.id, now)?;
            }
            Ok(())
        })
        .await;
        self.settle().await;
        self.clock.advance(Duration::from_secs(30 * 24 * 3600));
        self.check(&[]).await;
        let left = self.runtime.list().await.unwrap().containers;
        assert!(left.is_empty(), "seed {}: containers outlive their builds: {left:?}", self.seed);
        let logs = self.rules.logs(&self.shared).await;
        assert_eq!(logs, Ok(()), "seed {}", self.seed);
    }
}

fn open(directory: &tempfile::TempDir, clock: &Arc<Manual>, runtime: &Arc<Fake>) -> Arc<Shared> {
    let store = Store::open(directory.path()).unwrap();
    Shared::new(Parts {
        feed: Feed::new(store.clone(), clock.clone()),
        store: store.clone(),
        clock: clock.clone(),
        wakes: Wakes::default(),
        runtime: runtime.clone(),
        natives: Arc::new(Natives(runtime.clone())),
        bundles: Vec::new(),
        hold: Hold::default(),
        secrets: secrets(directory, &store, &(clock.clone() as Arc<dyn Clock>)),
        settings: Settings {
            external_url: "http://ci".to_owned(),
            worker_name: "w".to_owned(),
            worker_tags: Vec::new(),
            allow_local_git: false,
            allow_host_rootfs: true,
            cache_dir: directory.path().join("cache"),
            proxies: Vec::new(),
            most_tasks: 0,
            checks_per_second: 0,
            timeouts: Default::default(),
            task_cache_ttl: Duration::ZERO,
            defaults: Default::default(),
            check_interval: Duration::from_secs(60),
            webhook_interval: Duration::from_secs(60),
            type_check_interval: Duration::from_secs(60),
            retention: gc::Retention::default(),
            watch: disk::Watch { places: Vec::new(), watermark: Watermark::NONE },
            starts: 64,
            share_histories: false,
            keeping: retention::Keeping::default(),
            audit_retention: Duration::from_secs(365 * 24 * 3600),
            registries: Registries::default(),
            base_types: BaseTypes::default(),
        },
    })
}

/// The store of our own, with nothing in it.
fn secrets(directory: &tempfile::TempDir, store: &Store, clock: &Arc<dyn Clock>) -> Secrets {
    let keys = Arc::new(Keyring::open(&directory.path().join("secrets.key")).unwrap());
    let local = Arc::new(Local::new(store.clone(), keys.clone(), clock.clone()));
    let cache = CacheSettings { found: Duration::ZERO, absent: Duration::ZERO };
    let retry = Retry { attempts: 1, interval: Duration::ZERO };
    Secrets::new(secrets::Parts {
        global: Manager::new(Cached::new(local.clone(), clock.clone(), cache), Vec::new(), retry),
        nearer: Vec::new(),
        platform: Platform::new(platform::Settings::default(), store.clone(), keys.clone(), clock.clone(), None),
        pool: Pool::new(Lent { ssm: None, cache, retry, rules: Outgoing::default() }, clock.clone()),
        issuer: Issuer::new(store.clone(), keys.clone(), clock.clone(), "http://ci"),
        local,
        keys,
        store: store.clone(),
        clock: clock.clone(),
        readable: false,
    })
}

fn set(tx: &WriteTx<'_>, configs: &[Config], now: Time) -> Result<Vec<PipelineId>> {
    let team = tx.ensure_main(None)?;
    let mut pipelines = Vec::new();
    for (n, config) in configs.iter().enumerate() {
        let pipeline = PipelineRef::named(&format!("p{n}"));
        let save =
            SaveConfig { team, pipeline: &pipeline, config, from_version: 0, paused_if_new: false, parent: None, now };
        let SavedConfig::Saved { pipeline, .. } = tx.save_config(&save)? else { panic!("not saved") };
        for resource in tx.resources_of_pipeline(pipeline)? {
            let scope = tx.find_or_create_scope(&format!("{pipeline}/{}", resource.name), team)?;
            tx.set_scope(resource.id, scope.id)?;
        }
        pipelines.push(pipeline);
    }
    Ok(pipelines)
}

/// Every check that was asked for finds nothing new.
fn answer_checks(tx: &WriteTx<'_>, now: Time) -> Result<()> {
    for resource in tx.resources()? {
        if let (Some(scope), true) = (resource.scope_id, resource.check_requested > resource.check_answered) {
            tx.check_started(scope, now)?;
            tx.check_ended(scope, None, now)?;
            tx.checked(resource.id, "", now, now)?;
            tx.answer_check(resource.id, resource.check_requested)?;
            tx.request_schedule_of_waiting(resource.id)?;
        }
    }
    Ok(())
}

fn commit(tx: &WriteTx<'_>, resource: crate::base::id::ResourceId, n: usize) -> Result<()> {
    let Some(scope) = tx.resource(resource)?.and_then(|r| r.scope_id) else { return Ok(()) };
    tx.save_checked(scope, &[Version::from([("n", n.to_string().as_str())])])?;
    Ok(())
}

fn pin(tx: &WriteTx<'_>, resource: &Resource, n: usize) -> Result<()> {
    if resource.api_pin.is_some() {
        return tx.unpin(resource.id).map(drop);
    }
    let versions = tx.versions(resource.id, &Version::default(), PageRequest::default())?.items;
    match versions.get(n % versions.len().max(1)) {
        Some(version) => tx.pin_version(resource.id, version.id).map(drop),
        None => Ok(()),
    }
}

fn disable(tx: &WriteTx<'_>, resource: &Resource, n: usize) -> Result<()> {
    let versions = tx.versions(resource.id, &Version::default(), PageRequest::default())?.items;
    match versions.get(n % versions.len().max(1)) {
        Some(version) => tx.set_version_enabled(resource.id, version.id, !version.enabled).map(drop),
        None => Ok(()),
    }
}

/// `job/7` in its pipeline.
pub fn named(build: &Build) -> String {
    format!("{}/{}", build.job_name.as_deref().unwrap_or_default(), build.name)
}

/// What of a pipeline something can be done to, in an order that does not depend on ids.
struct Rows {
    builds: Vec<Build>,
    jobs: Vec<Job>,
    resources: Vec<Resource>,
}

impl Rows {
    fn read(tx: &ReadTx<'_>, pipeline: PipelineId) -> Result<Rows> {
        let mut builds = tx.builds_of_pipeline(pipeline, PageRequest::newest(1000))?.items;
        builds.retain(|b| b.resource_id.is_none());
        builds.sort_by_key(named);
        Ok(Rows { builds, jobs: tx.jobs_of_pipeline(pipeline)?, resources: tx.resources_of_pipeline(pipeline)? })
    }

    fn of(&self, which: impl Fn(&Build) -> bool) -> Vec<&Build> {
        self.builds.iter().filter(|b| which(b)).collect()
    }
}

/// Builds by id.
pub type Seen = BTreeMap<BuildId, Build>;
