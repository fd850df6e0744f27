//! `get`: fetches one version of a resource, or finds it fetched already.

use super::artifact::Artifact;
use super::composite::left_of;
use super::environment::BuildEnv;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::script::{Call, Scripts, make_volume};
use super::source::{cache_key, filled_for_key, with_base};
use super::world::{CachedFetch, VolumeNote};
use super::{image, placement, registry};
use crate::base::stream::Stream;
use crate::base::version::Version;
use crate::event::{Event, Origin};
use crate::plan::{GetPlan, Plan, PlanId};
use crate::resource::contained::{directory, parse_response};
use crate::resource::{Request, Script};
use crate::runtime::{Mount, VolumeHandle};

/// Runs the step.
pub async fn run(plan: &Plan, get: &GetPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.id.0));
    world.emit(&origin, Event::InitializeGet).await?;
    let version = wanted(get, scope).await?;
    let (source, lasting) = filled_for_key(&with_base(&get.source, &get.kind, &get.image, scope), scope).await?;
    let (params, lasting_params) = match &get.params {
        Some(params) => {
            let (params, lasting) = filled_for_key(params, scope).await?;
            (Some(params), Some(lasting))
        }
        None => (None, None),
    };
    let served = registry::kind(&get.kind, &get.image, scope).await?;
    let served = served.filter(|kind| registry::serves(*kind, params.as_ref()));
    let scripts = match served {
        Some(_) => None,
        None => Some(image::of_type(&plan.id, &get.image, scope).await?),
    };
    let kind = scripts.as_ref().map_or(get.kind.as_str(), |(_, kind)| kind.as_str());
    let key = cache_key(world.build().team_id, kind, &lasting, &version, lasting_params.as_ref());

    world.emit(&origin, Event::StartGet).await?;
    placement::allowed("linux", &get.tags, &world.worker_tags())?;
    let guard = scope.lock(&format!("fetch {key}")).await?;
    if let Some(mut found) = kept(&key, plan, scope).await? {
        drop(guard);
        found.response.version = version;
        let log = Origin { source: Some(Stream::Stderr), ..origin.clone() };
        world.emit(&log, Event::Log("\u{1b}[1;36mINFO: found existing resource cache\u{1b}[0m\n".to_owned())).await?;
        if whose_version_is_news(get, world.build()) {
            let text = scope.redactor.redact(&found.response.version.to_string());
            world.emit(&log, Event::Log(format!("\u{1b}[1;36mINFO: it holds version {text}\u{1b}[0m\n"))).await?;
        }
        world.emit(&log, Event::Log("\n".to_owned())).await?;
        return finished(plan, get, found, scope).await;
    }
    let request = Request { source, params, version: Some(version) };
    let fetched = match (served, scripts) {
        (Some(kind), _) => {
            let left = left_of("get", &plan.id, get.timeout.as_deref(), scope).await?;
            world.emit(&origin, Event::SelectedWorker(world.worker())).await?;
            Ok(registry::get(kind, plan, &get.name, &request, left, scope).await?)
        }
        (None, Some((scripts, _))) => fetch(plan, get, &scripts, request, scope).await?,
        (None, None) => return Err(Stop::Error(format!("nothing fetches a {}", get.kind))),
    };
    match fetched {
        Ok(fetch) => {
            world.keep_cache(&key, &get.image.base_type, &fetch).await?;
            drop(guard);
            finished(plan, get, fetch, scope).await
        }
        Err(exit_status) => {
            world.emit(&origin, Event::FinishGet { exit_status, version: None, metadata: Vec::new() }).await?;
            let why = format!("the get of {} (type {}) ended with exit status {exit_status}", get.name, get.kind);
            Ok(LeafResult { why: Some(why), ..LeafResult::of(Outcome::Failed) })
        }
    }
}

/// An earlier fetch with this key, unless its files are gone: others may remove what an engine keeps.
async fn kept(key: &str, plan: &Plan, scope: &Scope) -> Result<Option<CachedFetch>, Stop> {
    let world = &scope.world;
    let Some(found) = world.find_cache(key).await? else { return Ok(None) };
    let runtime = world.runtime();
    let image = match (&found.image, runtime.engine_images()) {
        (Some(image), Some(engine)) => engine.holds(&image.id).await?,
        _ => true,
    };
    if image && runtime.holds(&found.volume).await? {
        return Ok(Some(found));
    }
    tracing::info!(volume = %found.volume, "a fetched version is gone from the worker and is fetched anew");
    let log = Origin { source: Some(Stream::Stderr), ..Origin::step(&plan.id.0) };
    let text = "\u{1b}[1;36mINFO: what was fetched before is gone from the worker: fetching it again\u{1b}[0m\n";
    world.emit(&log, Event::Log(text.to_owned())).await?;
    world.lose_cache(key).await?;
    Ok(None)
}

/// Whether the log should say what came out of the cache. Who starts a job by hand that also goes by itself reads it
/// nowhere else, since the build just before has fetched it; and which image a step runs on matters to everybody.
fn whose_version_is_news(get: &GetPlan, build: &BuildEnv) -> bool {
    let rerun = build.build_name.contains('.');
    let by_hand = !build.created_by.is_empty() && !rerun;
    !build.job.is_empty() && (get.resource.is_none() || (get.trigger && by_hand))
}

/// The version to fetch: given, or what another node has found or made.
async fn wanted(get: &GetPlan, scope: &Scope) -> Result<Version, Stop> {
    if let Some(version) = &get.version {
        return Ok(version.clone());
    }
    let result = match &get.version_from {
        Some(id) => scope.world.result(id).await?,
        None => None,
    };
    let (found, why) = result.map_or((None, None), |result| (result.version, result.why));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    found.ok_or_else(|| Stop::Error(format!("no version of {} is known{why}", get.name)))
}

/// Runs the `in` script into a fresh volume; the inner error is its exit status.
async fn fetch(
    plan: &Plan,
    get: &GetPlan,
    scripts: &Scripts,
    request: Request,
    scope: &Scope,
) -> Result<Result<CachedFetch, i32>, Stop> {
    let runtime = scripts.place(scope).runtime();
    let note = resource_volume(&plan.id, &get.name, scope);
    let volume = make_volume(scope, &*runtime, note).await?;
    let dir = directory(Script::In);
    let left = left_of("get", &plan.id, get.timeout.as_deref(), scope).await?;
    let answer = scripts
        .run(
            Call {
                plan: &plan.id,
                step: &get.name,
                kind: "get",
                script: Script::In,
                request,
                mounts: vec![Mount { volume: volume.clone(), path: dir.to_owned(), read_only: false }],
                env: scope.world.build().for_resource(scope.status, false),
                left,
                started: None,
            },
            scope,
        )
        .await?;
    if answer.status != 0 {
        return Ok(Err(answer.status));
    }
    let response = parse_response(Script::In, dir, &answer.stdout).map_err(|e| Stop::Error(e.to_string()))?;
    deliver(&volume, scripts, scope).await?;
    Ok(Ok(CachedFetch { volume, response, image: None }))
}

/// What the volume of a fetch is written down as.
pub fn resource_volume(plan: &PlanId, name: &str, scope: &Scope) -> VolumeNote {
    VolumeNote { handle: scope.volume(plan, 0), kind: "resource", parent: None, container: None, path: name.to_owned() }
}

/// Brings a native child's volume to where containers run, if that is another place.
async fn deliver(volume: &VolumeHandle, scripts: &Scripts, scope: &Scope) -> Result<(), Stop> {
    let (Scripts::Native(_), to) = (scripts, scope.world.runtime()) else { return Ok(()) };
    let from = scope.world.natives().runtime();
    if std::sync::Arc::ptr_eq(&from, &to) {
        return Ok(());
    }
    to.create_volume(volume, &scope.world.build().team, &crate::runtime::Origin::Empty).await?;
    to.stream_in(volume, "", from.stream_out(volume, "").await?).await?;
    Ok(from.remove_volume(volume).await?)
}

async fn finished(plan: &Plan, get: &GetPlan, fetch: CachedFetch, scope: &Scope) -> Result<LeafResult, Stop> {
    let CachedFetch { volume, response, image } = fetch;
    let version = response.version;
    if let Some(resource) = &get.resource {
        // The script may spell the version its own way; what is known of the requested one is refreshed.
        let asked = wanted(get, scope).await?;
        scope.world.save_fetched(resource, &asked, &response.metadata, &volume).await?;
    }
    let event =
        Event::FinishGet { exit_status: 0, version: Some(version.clone()), metadata: response.metadata.clone() };
    scope.world.emit(&Origin::step(&plan.id.0), event).await?;
    Ok(LeafResult {
        outcome: Outcome::Succeeded,
        version: Some(version),
        metadata: response.metadata,
        artifacts: vec![(get.name.clone(), Artifact { volume, image })],
        why: None,
    })
}
