//! `check`: looks for new versions and adds them to the history of what is checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::composite::left;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::script::{Call, LogPump, Scripts};
use super::source::{filled_for_key, scope_key};
use super::world::{CheckScope, Checked};
use super::{image, placement, registry};
use crate::base::duration;
use crate::base::stream::Stream;
use crate::base::version::Version;
use crate::event::{Event, Origin};
use crate::plan::{CheckPlan, Plan};
use crate::resource::contained::parse_check;
use crate::resource::{Env, Mirror, Native, Request, Script};

/// Where nothing else is said a check may take this long (`--global-resource-check-timeout`).
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs the step.
pub async fn run(plan: &Plan, check: &CheckPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.id.0));
    world.emit(&origin, Event::InitializeCheck { name: check.name.clone() }).await?;
    let (source, lasting) = filled_for_key(&check.source, scope).await.map_err(|stop| match stop {
        Stop::Error(text) => Stop::Error(format!("resource config creds evaluation: {text}")),
        other => other,
    })?;
    let served = registry::kind(&check.kind, &check.image, scope).await?;
    let scripts = match served {
        Some(_) => None,
        None => Some(image::of_type(&plan.id, &check.image, scope).await?),
    };
    let kind = scripts.as_ref().map_or(check.kind.as_str(), |(_, kind)| kind.as_str());
    let build = world.build();
    let owner = match &check.resource {
        Some(name) if !world.shares_history(kind) => Some(world.resource_row(name).await?),
        _ => None,
    };
    let key = scope_key(build.team_id, owner, kind, &lasting);

    let asked = world.now();
    let _guard = scope.lock(&format!("check {key}")).await?;
    let of = match (&check.resource, &check.resource_type) {
        (Some(name), _) => Checked::Resource(name),
        (None, Some(name)) => Checked::Type(name),
        (None, None) => Checked::Image,
    };
    let history = world.open_scope(&key, of).await?;
    if fresh(check, &history, asked, scope)? {
        world.emit(&origin, Event::Finish { succeeded: true }).await?;
        return Ok(found(history.latest));
    }
    let from = check.from.clone().or_else(|| history.from.clone());
    let request = Request { source, params: None, version: from };
    world.begin_check(history.id).await?;
    let left = left(&plan.id, check.timeout.as_deref(), scope).await?.unwrap_or(TIMEOUT);
    let question = Question { plan, name: &check.name, request, key: &key, left };
    let answer = match (placement::allowed("linux", &check.tags, &world.worker_tags()), served) {
        (Err(stop), _) => Err(stop),
        (Ok(()), Some(kind)) => registry::check(kind, &question.request, plan, left, scope).await,
        (Ok(()), None) => ask(question, scripts.map(|(s, _)| s), scope).await,
    };
    match answer {
        Ok(Ok(versions)) => {
            world.end_check(history.id, Ok(versions)).await?;
            let latest = world.open_scope(&key, of).await?.latest;
            world.emit(&origin, Event::Finish { succeeded: true }).await?;
            Ok(found(latest))
        }
        Ok(Err(text)) => {
            world.end_check(history.id, Err(text)).await?;
            world.emit(&origin, Event::Finish { succeeded: false }).await?;
            Ok(LeafResult::of(Outcome::Failed))
        }
        Err(stop) => {
            world.end_check(history.id, Err(scope.redactor.redact(&stop.text()))).await?;
            Err(stop)
        }
    }
}

fn found(version: Option<Version>) -> LeafResult {
    LeafResult { version, ..LeafResult::of(Outcome::Succeeded) }
}

/// Whether the last answer is good enough (concourse: `atc/engine/check_delegate.go`). `asked` is when this step came
/// here, before it waited for its turn.
fn fresh(
    check: &CheckPlan,
    history: &CheckScope,
    asked: crate::base::clock::Time,
    scope: &Scope,
) -> Result<bool, Stop> {
    if check.from.is_some() {
        return Ok(false);
    }
    if check.skip_interval {
        // Somebody else has asked since this was wanted.
        return Ok(history.succeeded && history.started >= asked);
    }
    let interval = match &check.interval {
        Some(text) => duration::parse(text).map_err(|e| Stop::Error(format!("check_every: {e}")))?,
        None => scope.world.default_interval(check.resource.is_some()),
    };
    if check.resource.is_none() && history.succeeded && history.ended >= asked {
        return Ok(true);
    }
    Ok(history.ended.0 > 0 && scope.world.now() < history.ended.plus(interval) && history.succeeded)
}

/// One question to a type.
struct Question<'a> {
    plan: &'a Plan,
    /// Name of what is checked.
    name: &'a str,
    request: Request,
    /// Of the history, for a native type's clones.
    key: &'a str,
    /// How long the answer may take.
    left: Duration,
}

/// Asks the type. The inner error is the text of a check that failed.
async fn ask(
    question: Question<'_>,
    scripts: Option<Scripts>,
    scope: &Scope,
) -> Result<Result<Vec<Version>, String>, Stop> {
    if !matches!(scripts, Some(Scripts::Image { .. })) {
        let (world, origin) = (&scope.world, Origin::step(&question.plan.id.0));
        world.emit(&origin, Event::SelectedWorker(world.worker())).await?;
        world.emit(&origin, Event::Start).await?;
    }
    match scripts {
        None => Err(Stop::Error("nothing answers this check".to_owned())),
        Some(Scripts::Native(native)) => in_server(native, question, scope).await,
        Some(scripts) => {
            let answer = scripts
                .run(
                    Call {
                        plan: &question.plan.id,
                        step: question.name,
                        kind: "check",
                        script: Script::Check,
                        request: question.request,
                        mounts: Vec::new(),
                        env: scope.world.build().for_resource(None, false),
                        left: Some(question.left),
                        started: Some(Event::Start),
                    },
                    scope,
                )
                .await?;
            if answer.status != 0 {
                return Ok(Err(format!("check failed: exit status {}", answer.status)));
            }
            Ok(Ok(parse_check(&answer.stdout).map_err(|e| Stop::Error(e.to_string()))?))
        }
    }
}

/// Runs a native check on a blocking thread of the server; what it tells goes to the log when it ends.
async fn in_server(
    native: &'static dyn Native,
    question: Question<'_>,
    scope: &Scope,
) -> Result<Result<Vec<Version>, String>, Stop> {
    let Question { plan, request, key, left, .. } = question;
    let world = &scope.world;
    let cancelled = Arc::new(AtomicBool::new(false));
    let build: BTreeMap<String, String> = world
        .build()
        .for_resource(None, false)
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let (cache, allow_local, now) = (world.check_cache(key), world.allow_local(), world.now());
    let (flag, registries) = (cancelled.clone(), world.registries().clone());
    let mut task = tokio::task::spawn_blocking(move || {
        let mut log = Vec::new();
        if let Err(error) = std::fs::create_dir_all(&cache) {
            return (Err(format!("cannot make {}: {error}", cache.display())), log);
        }
        let answer = native.check(
            &request,
            &mut Env {
                log: &mut log,
                cache: Some(&cache),
                allow_local,
                cancelled: &move || flag.load(Ordering::Relaxed),
                build: &build,
                now,
                privileged: false,
                mirror: Mirror::Nothing,
                registries,
            },
        );
        (answer.map_err(|failure| failure.to_string()), log)
    });
    let ended = tokio::select! {
        ended = &mut task => Ok(ended),
        why = scope.stop.asked() => Err(why),
        () = tokio::time::sleep(left) => Err(Stop::TimedOut),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(stop) => {
            cancelled.store(true, Ordering::Relaxed);
            return Err(stop);
        }
    };
    let (answer, mut log) = ended.map_err(|e| Stop::Error(format!("the check ended early: {e}")))?;
    if let Err(text) = &answer {
        log.extend_from_slice(format!("{text}\n").as_bytes());
    }
    let mut pump = LogPump::new(&plan.id, Some(Stream::Stderr), scope);
    pump.push(0, &log).await?;
    pump.finish().await?;
    Ok(answer.map_err(|text| scope.redactor.redact(&text)))
}
