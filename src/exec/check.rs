//! `check`: looks for new versions and adds them to the history of what is checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::composite::left_of;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::script::{Call, LogPump, Scripts};
use super::source::{filled_for_key, scope_key, with_base};
use super::world::{CheckScope, Checked};
use super::{image, placement, registry};
use crate::base::clock::Time;
use crate::base::duration::ParseError;
use crate::base::stream::Stream;
use crate::base::version::Version;
use crate::event::{Event, Origin};
use crate::pipeline::CheckEvery;
use crate::plan::{CheckPlan, Plan};
use crate::resource::contained::parse_check;
use crate::resource::{Env, Mirror, Native, Request, Script};

/// A check may take this long where the operator sets no bound.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the step.
pub async fn run(plan: &Plan, check: &CheckPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.id.0));
    world.emit(&origin, Event::InitializeCheck { name: check.name.clone() }).await?;
    let (source, lasting) = filled_for_key(&with_base(&check.source, &check.kind, &check.image, scope), scope)
        .await
        .map_err(|stop| match stop {
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
    let interval = world.default_interval(check.resource.is_some());
    let when = When { asked, begun: world.build().started, now: world.now(), interval };
    if fresh(check, &history, when).map_err(|e| Stop::Error(format!("check_every: {e}")))? {
        world.emit(&origin, Event::Finish { succeeded: true }).await?;
        return Ok(found(history.latest));
    }
    let from = check.from.clone().or_else(|| history.from.clone());
    let request = Request { source, params: None, version: from };
    world.begin_check(history.id).await?;
    let left = left_of("check", &plan.id, check.timeout.as_deref(), scope).await?.unwrap_or(FOREVER);
    let nothing = match served {
        Some(kind) => registry::no_such(kind, &request)?,
        None => format!("the check of its type {} finds none", check.kind),
    };
    let question = Question { plan, name: &check.name, request, key: &key, left };
    let answer = match (placement::allowed("linux", &check.tags, &world.worker_tags()), served) {
        (Err(stop), _) => Err(stop),
        (Ok(()), Some(kind)) => registry::check(kind, &question.request, plan, left, scope).await,
        (Ok(()), None) => ask(question, scripts.map(|(s, _)| s), scope).await,
    };
    match answer {
        Ok(Ok(versions)) => {
            // What the type says is newest now may be known for long: a tag that was moved back.
            let answered = versions.last().cloned();
            world.end_check(history.id, Ok(versions)).await?;
            let version = match answered {
                Some(version) => Some(version),
                None => world.open_scope(&key, of).await?.latest,
            };
            world.emit(&origin, Event::Finish { succeeded: true }).await?;
            let why = if version.is_none() { Some(scope.redactor.redact(&nothing)) } else { None };
            Ok(LeafResult { why, ..found(version) })
        }
        Ok(Err(text)) => {
            world.end_check(history.id, Err(text.clone())).await?;
            world.emit(&origin, Event::Finish { succeeded: false }).await?;
            Ok(LeafResult { why: Some(text), ..LeafResult::of(Outcome::Failed) })
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

/// When a check is wanted.
#[derive(Clone, Copy)]
struct When {
    /// When its step came here, before it waited for its turn.
    asked: Time,
    /// When its build started, if it has a row.
    begun: Option<Time>,
    now: Time,
    /// Where `check_every` says nothing.
    interval: Duration,
}

/// Whether the last answer is good enough (concourse: `atc/engine/check_delegate.go`).
fn fresh(check: &CheckPlan, history: &CheckScope, when: When) -> Result<bool, ParseError> {
    if check.from.is_some() {
        return Ok(false);
    }
    if check.resource.is_none() && history.succeeded {
        // Once in a build is enough, also where intervals do not count: all its steps see the same image.
        if history.ended >= when.asked || when.begun.is_some_and(|begun| history.ended > begun) {
            return Ok(true);
        }
    }
    if check.skip_interval {
        // Somebody else has asked since this was wanted.
        return Ok(history.succeeded && history.started >= when.asked);
    }
    let interval = match check.interval.as_deref().map(CheckEvery::parse).transpose()? {
        None | Some(CheckEvery::Nanos(0)) => when.interval,
        // `never` is about the checks that nobody asks for: who uses it asks.
        Some(every) => every.interval().unwrap_or_default(),
    };
    // What failed is asked again by the next who uses it; a resource waits for its turn.
    let counts = history.succeeded || check.resource.is_some();
    Ok(counts && history.ended.0 > 0 && when.now < history.ended.plus(interval))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ScopeId;

    #[test]
    fn an_answer_is_good_for_an_interval_and_for_a_build() {
        let plan = |resource: bool, every: Option<&str>, skip: bool| CheckPlan {
            resource: resource.then(|| "r".to_owned()),
            interval: every.map(str::to_owned),
            skip_interval: skip,
            ..CheckPlan::default()
        };
        let last = |ended: i64, succeeded: bool| CheckScope {
            id: ScopeId(1),
            latest: None,
            started: Time(ended - 1),
            ended: Time(ended),
            succeeded,
            from: None,
        };
        let minute = Duration::from_secs(60);
        let at = |now: i64, begun: Option<i64>| When {
            asked: Time(now),
            begun: begun.map(Time),
            now: Time(now),
            interval: minute,
        };
        for (check, last, when, good, why) in [
            (plan(true, None, false), last(1_000, true), at(60_000, None), true, "within the interval"),
            (plan(true, None, false), last(1_000, true), at(61_000, None), false, "the interval is over"),
            (plan(true, None, false), last(1_000, false), at(60_000, None), true, "a resource that failed waits"),
            (plan(true, None, true), last(1_000, true), at(2_000, Some(500)), false, "somebody wants it now"),
            (plan(true, Some("1h"), false), last(1_000, true), at(3_000_000, None), true, "its own interval"),
            (plan(false, None, false), last(1_000, false), at(2_000, None), false, "an image that failed"),
            (plan(false, None, true), last(1_000, true), at(2_000, Some(500)), true, "checked in this build"),
            (plan(false, None, true), last(1_000, true), at(2_000, Some(1_500)), false, "checked before this build"),
            (plan(false, Some("never"), false), last(1_000, true), at(2_000, None), false, "never is each time"),
            (plan(false, Some("-1m"), false), last(1_000, true), at(2_000, None), false, "so is less than nothing"),
        ] {
            assert_eq!(fresh(&check, &last, when), Ok(good), "{why}");
        }
    }
}
