//! The steps that hold other steps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Scope, run};
use crate::base::duration;
use crate::plan::{HookPlan, ParallelPlan, Plan, TimeoutPlan};

/// `do`: one after the other, until one does not succeed.
pub async fn sequence(steps: &[Plan], scope: &Scope) -> Outcome {
    for step in steps {
        if scope.stop.is_cancelled() && !recorded(step, scope).await {
            return Outcome::Aborted;
        }
        let outcome = run(step, scope).await;
        if !outcome.is_success() {
            return outcome;
        }
    }
    Outcome::Succeeded
}

/// Whether a leaf has finished before; a stop must not hide what was done already.
async fn recorded(step: &Plan, scope: &Scope) -> bool {
    let mut first = None;
    step.each(&mut |p| {
        if first.is_none() && p.children().is_empty() {
            first = Some(p.id.clone());
        }
    });
    match first {
        Some(id) => matches!(scope.world.result(&id).await, Ok(Some(_))),
        None => false,
    }
}

/// `in_parallel`: at once, at most `limit` at a time.
pub async fn in_parallel(plan: &ParallelPlan, scope: &Scope) -> Outcome {
    let places = Arc::new(Semaphore::new(if plan.limit == 0 { plan.steps.len().max(1) } else { plan.limit }));
    let stop = scope.stop.child_token();
    let inner = scope.stopped_by(stop.clone());
    let mut running: FuturesUnordered<_> = plan
        .steps
        .iter()
        .map(|step| {
            let (places, inner) = (&places, &inner);
            async move {
                let _place = places.acquire().await;
                if inner.stop.is_cancelled() && !recorded(step, inner).await {
                    return Outcome::Aborted;
                }
                run(step, inner).await
            }
        })
        .collect();
    let mut all = Vec::new();
    while let Some(outcome) = running.next().await {
        if plan.fail_fast && !outcome.is_success() {
            stop.cancel();
        }
        all.push(outcome);
    }
    joined(all, scope.stop.is_cancelled())
}

/// What steps that ran at once amount to: an abort from outside beats errors, errors beat failures; those that were
/// stopped because another failed first count as nothing.
fn joined(outcomes: Vec<Outcome>, stopped: bool) -> Outcome {
    if stopped && outcomes.contains(&Outcome::Aborted) {
        return Outcome::Aborted;
    }
    let errors: Vec<&str> = outcomes
        .iter()
        .filter_map(|o| match o {
            Outcome::Errored(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    if !errors.is_empty() {
        return Outcome::Errored(errors.join("\n"));
    }
    if outcomes.contains(&Outcome::Failed) {
        return Outcome::Failed;
    }
    if outcomes.contains(&Outcome::Aborted) { Outcome::Aborted } else { Outcome::Succeeded }
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
        last = run(step, &scope.in_attempt(i + 1)).await;
        if matches!(last, Outcome::Succeeded | Outcome::Aborted) {
            break;
        }
    }
    last
}

/// `timeout` around a composite: what takes too long fails.
pub async fn timeout(plan: &Plan, bound: &TimeoutPlan, scope: &Scope) -> Outcome {
    let left = match left(&plan.id, &bound.duration, scope).await {
        Ok(left) => left,
        Err(text) => {
            scope.tell_error(&plan.id, &text).await;
            return Outcome::Errored(text);
        }
    };
    let stop = scope.stop.child_token();
    let inner = scope.stopped_by(stop.clone());
    let step = run(&bound.step, &inner);
    tokio::pin!(step);
    tokio::select! {
        outcome = &mut step => return outcome,
        () = tokio::time::sleep(left) => stop.cancel(),
    }
    match step.await {
        Outcome::Aborted if !scope.stop.is_cancelled() => {
            scope.tell_error(&plan.id, "timeout exceeded").await;
            Outcome::Failed
        }
        outcome => outcome,
    }
}

/// What is left of `text`, a Go duration, since the node first began.
pub async fn left(plan: &crate::plan::PlanId, text: &str, scope: &Scope) -> Result<Duration, String> {
    let whole = duration::parse(text).map_err(|e| format!("parse timeout: {e}"))?;
    let began = scope.world.began(plan).await.map_err(|e| e.to_string())?;
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

/// `on_error`: stays errored; what the hook says is added.
pub async fn on_error(plan: &HookPlan, scope: &Scope) -> Outcome {
    match run(&plan.step, scope).await {
        Outcome::Errored(text) => match run(&plan.hook, &afresh(scope, true).in_hook(Some("errored"))).await {
            Outcome::Errored(more) => Outcome::Errored(format!("{text}\n{more}")),
            _ => Outcome::Errored(text),
        },
        other => other,
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
    match (outcome, hook) {
        (Outcome::Errored(a), Outcome::Errored(b)) => Outcome::Errored(format!("{a}\n{b}")),
        (Outcome::Succeeded, hook) => hook,
        (Outcome::Failed, Outcome::Errored(text)) => Outcome::Errored(text),
        (outcome, _) => outcome,
    }
}

/// The scope of a hook that must run although the build is stopped: with a token of its own, either always or only if
/// the present one has been cancelled.
fn afresh(scope: &Scope, always: bool) -> Scope {
    if always || scope.stop.is_cancelled() { scope.stopped_by(CancellationToken::new()) } else { scope.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_steps_join() {
        use Outcome::{Aborted, Errored, Failed, Succeeded};
        let error = || Errored("x".into());
        for (outcomes, stopped, expected) in [
            (vec![], false, Succeeded),
            (vec![Succeeded, Failed], false, Failed),
            (vec![Failed, error()], false, error()),
            (vec![error(), error()], false, Errored("x\nx".into())),
            (vec![Failed, Aborted], false, Failed),
            (vec![Failed, Aborted], true, Aborted),
            (vec![Succeeded, Aborted], false, Aborted),
        ] {
            assert_eq!(joined(outcomes.clone(), stopped), expected, "{outcomes:?} {stopped}");
        }
    }
}
