//! The steps that hold other steps.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use super::outcome::Stop;
use super::{Outcome, Scope, run};
use crate::base::duration;
use crate::plan::{HookPlan, ParallelPlan, Plan, TimeoutPlan};

/// `do`: one after the other, until one does not succeed.
pub async fn sequence(steps: &[Plan], scope: &Scope) -> Outcome {
    for step in steps {
        if let Some(stopped) = not_to_begin(step, scope).await {
            return stopped;
        }
        let outcome = run(step, scope).await;
        if !outcome.is_success() {
            return outcome;
        }
    }
    Outcome::Succeeded
}

/// What becomes of a step that is not begun any more because it is to stop. One that has begun, before a restart, is
/// run: a stop must not hide what was done already, and what still goes on has to be found to be stopped.
pub async fn not_to_begin(step: &Plan, scope: &Scope) -> Option<Outcome> {
    let stopped = scope.stopped()?;
    if begun(step, scope).await { None } else { Some(stopped) }
}

/// Whether anything of a step has begun, before a restart. Where that cannot be told it is looked for.
pub async fn begun(step: &Plan, scope: &Scope) -> bool {
    let mut ids = Vec::new();
    step.each(&mut |p| ids.push(p.id.clone()));
    scope.world.begun(&ids).await.unwrap_or(true)
}

/// `in_parallel`: at once, at most `limit` at a time.
pub async fn in_parallel(plan: &ParallelPlan, scope: &Scope) -> Outcome {
    let limit = if plan.limit == 0 { plan.steps.len() } else { plan.limit };
    let bounds = Bounds { count: plan.steps.len(), limit, fail_fast: plan.fail_fast };
    parallel(&bounds, scope, |i, inner| async move {
        if let Some(stopped) = not_to_begin(&plan.steps[i], &inner).await {
            return stopped;
        }
        run(&plan.steps[i], &inner).await
    })
    .await
}

/// How steps are run side by side.
pub struct Bounds {
    /// How many there are.
    pub count: usize,
    /// How many run at a time.
    pub limit: usize,
    /// Whether the first that does not succeed stops the others.
    pub fail_fast: bool,
}

/// Runs `step` for each number below `count`, in order as places come free, in a scope that a failing sibling may stop.
pub async fn parallel<F>(bounds: &Bounds, scope: &Scope, step: impl Fn(usize, Scope) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    let places = Arc::new(Semaphore::new(bounds.limit.max(1)));
    let halt = scope.stop.inner();
    let inner = scope.stopped_by(halt.clone());
    let mut running: FuturesUnordered<_> = (0..bounds.count)
        .map(|i| {
            let (places, inner, step) = (&places, &inner, &step);
            async move {
                let _place = places.acquire().await;
                step(i, inner.clone()).await
            }
        })
        .collect();
    let mut all = Vec::new();
    while let Some(outcome) = running.next().await {
        if bounds.fail_fast && !outcome.is_success() {
            halt.cancel();
        }
        all.push(outcome);
    }
    scope.stopped().unwrap_or_else(|| joined(&all))
}

/// What steps that ran at once amount to: errors beat failures; those that were stopped because another failed first
/// count as failures.
fn joined(outcomes: &[Outcome]) -> Outcome {
    let errors: Vec<&str> = outcomes.iter().filter_map(Outcome::error).collect();
    if !errors.is_empty() {
        return Outcome::Errored(errors.join("\n"));
    }
    if outcomes.iter().all(Outcome::is_success) { Outcome::Succeeded } else { Outcome::Failed }
}

/// `try`: failure and error are swallowed, an abort is not.
pub fn swallow(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Aborted => Outcome::Aborted,
        _ => Outcome::Succeeded,
    }
}

/// `attempts`: until one succeeds; an abort ends it.
pub async fn retry(tries: &[Plan], scope: &Scope) -> Outcome {
    let mut last = Outcome::Succeeded;
    for (i, step) in tries.iter().enumerate() {
        if i > 0
            && let Some(stopped) = not_to_begin(step, scope).await
        {
            return stopped;
        }
        last = run(step, &scope.in_attempt(i + 1)).await;
        if last.is_success() {
            break;
        }
    }
    scope.stopped().unwrap_or(last)
}

/// `timeout` around a composite: what takes too long fails.
pub async fn timeout(plan: &Plan, bound: &TimeoutPlan, scope: &Scope) -> Outcome {
    let left = match left(&plan.id, &bound.duration, scope).await {
        Ok(left) => left,
        Err(stop) => {
            let text = stop.text();
            scope.tell_error(&plan.id, &text).await;
            return stop.outcome(text);
        }
    };
    let halt = scope.stop.inner();
    let inner = scope.stopped_by(halt.clone());
    if left.is_zero() {
        // While no server was there.
        halt.expire();
    }
    let step = run(&bound.step, &inner);
    tokio::pin!(step);
    let outcome = tokio::select! {
        outcome = &mut step => outcome,
        () = tokio::time::sleep(left) => {
            halt.expire();
            step.await
        }
    };
    match outcome {
        Outcome::TimedOut => Outcome::Failed,
        outcome => outcome,
    }
}

/// What is left to a step of that kind since this was first asked for its node: of `bound`, a Go duration, or of what is
/// usual.
pub async fn left_of(
    kind: &str,
    plan: &crate::plan::PlanId,
    bound: Option<&str>,
    scope: &Scope,
) -> Result<Option<Duration>, Stop> {
    match (bound, scope.world.usual_timeout(kind)) {
        (Some(bound), _) => left(plan, bound, scope).await.map(Some),
        (None, Some(usual)) => left_until(plan, usual, scope).await.map(Some),
        (None, None) => Ok(None),
    }
}

/// What is left of `bound`, a Go duration, since this was first asked for the node.
pub async fn left(plan: &crate::plan::PlanId, bound: &str, scope: &Scope) -> Result<Duration, Stop> {
    let whole = duration::parse(bound).map_err(|e| Stop::Error(format!("parse timeout: {e}")))?;
    left_until(plan, whole, scope).await
}

async fn left_until(plan: &crate::plan::PlanId, whole: Duration, scope: &Scope) -> Result<Duration, Stop> {
    let began = scope.world.began(plan).await?;
    Ok(whole.saturating_sub(scope.world.now().since(began)))
}

/// `on_success`: the outcome is the hook's.
pub async fn on_success(plan: &HookPlan, scope: &Scope) -> Outcome {
    match run(&plan.step, scope).await {
        Outcome::Succeeded => run(&plan.hook, &scope.in_hook(Some("succeeded"))).await,
        other => other,
    }
}

/// `on_failure`: stays failed, unless the hook errors or is aborted.
pub async fn on_failure(plan: &HookPlan, scope: &Scope) -> Outcome {
    match run(&plan.step, scope).await {
        Outcome::Failed => match run(&plan.hook, &scope.in_hook(Some("failed"))).await {
            Outcome::Succeeded | Outcome::Failed => Outcome::Failed,
            other => other,
        },
        other => other,
    }
}

/// `on_error`: stays errored; what the hook says is added. A step whose time was over when it could not yet say so
/// itself has errored too.
pub async fn on_error(plan: &HookPlan, scope: &Scope) -> Outcome {
    let outcome = run(&plan.step, scope).await;
    if outcome.error().is_none() {
        return outcome;
    }
    let hook = run(&plan.hook, &afresh(scope, true).in_hook(Some("errored"))).await;
    match (&outcome, hook) {
        (Outcome::Errored(text), Outcome::Errored(more)) => Outcome::Errored(format!("{text}\n{more}")),
        _ => outcome,
    }
}

/// `on_abort`: stays aborted.
pub async fn on_abort(plan: &HookPlan, scope: &Scope) -> Outcome {
    let outcome = run(&plan.step, scope).await;
    if outcome == Outcome::Aborted {
        run(&plan.hook, &afresh(scope, true).in_hook(Some("aborted"))).await;
    }
    outcome
}

/// `ensure`: succeeds only if both do.
pub async fn ensure(plan: &HookPlan, scope: &Scope) -> Outcome {
    let outcome = run(&plan.step, scope).await;
    let hook = run(&plan.hook, &afresh(scope, false)).await;
    scope.stopped().unwrap_or_else(|| joined(&[outcome, hook]))
}

/// The scope of a hook that must run although the build is stopped: with a halt of its own, either always or only if
/// the present one has been asked for.
fn afresh(scope: &Scope, always: bool) -> Scope {
    if always || scope.stop.why().is_some() {
        scope.stopped_by(Halt::new(CancellationToken::new()))
    } else {
        scope.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_steps_join() {
        use Outcome::{Aborted, Errored, Failed, Succeeded};
        let error = || Errored("x".into());
        for (outcomes, expected) in [
            (vec![], Succeeded),
            (vec![Succeeded, Failed], Failed),
            (vec![Failed, error()], error()),
            (vec![error(), error()], Errored("x\nx".into())),
            (vec![Failed, Aborted], Failed),
            (vec![Succeeded, Aborted], Failed),
            (vec![Aborted, error()], error()),
        ] {
            assert_eq!(joined(&outcomes), expected, "{outcomes:?}");
        }
    }
}
