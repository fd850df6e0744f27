//! `across`: runs a step once for each combination of values. The combinations are known only now, since the values may
//! come from variables of the build.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::composite::{Bounds, not_to_begin, parallel};
use super::lines::Lines;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::source::filled_value;
use crate::event::{Event, Origin};
use crate::pipeline::MaxInFlight;
use crate::plan::{AcrossPlan, Plan, combinations, expand, shown};

/// Runs the step. Its own error is told beside those of its steps, as Concourse does.
pub async fn run(plan: &Plan, across: &AcrossPlan, scope: &Scope) -> Outcome {
    match attempt(plan, across, scope).await {
        Ok(outcome @ (Outcome::Succeeded | Outcome::Failed)) => outcome,
        Ok(Outcome::Errored(text)) => tell(plan, Stop::Error(text), scope).await,
        Ok(Outcome::Aborted) => tell(plan, Stop::Aborted, scope).await,
        Ok(Outcome::TimedOut) => {
            tell(plan, Stop::TimedOut, scope).await;
            Outcome::TimedOut
        }
        Err(stop) => tell(plan, stop, scope).await,
    }
}

async fn tell(plan: &Plan, stop: Stop, scope: &Scope) -> Outcome {
    let text = scope.redactor.redact(&stop.text());
    scope.tell_error(&plan.id, &text).await;
    stop.outcome(text)
}

async fn attempt(plan: &Plan, across: &AcrossPlan, scope: &Scope) -> Result<Outcome, Stop> {
    let mut lines = Lines::of(&plan.id, scope).await?;
    lines.start().await?;
    let lists = values(across, &mut lines, scope).await?;
    let combined = combinations(&lists);
    let steps = expand(&plan.id, across, &combined).map_err(Stop::Error)?;
    let substeps = steps.iter().zip(&combined).map(|(step, values)| json!({"step": shown(step), "values": values}));
    let substeps = redacted(Value::Array(substeps.collect()), scope);
    scope.world.emit(&Origin::step(&plan.id.0), Event::AcrossSubsteps(substeps)).await?;
    // From here on a stop lets what is inside end by itself, also after a restart.
    if scope.world.result(&plan.id).await?.is_none() {
        scope.world.record(&plan.id, &LeafResult::of(Outcome::Succeeded)).await?;
    }
    let grid = Arc::new(Grid { across: across.clone(), sizes: lists.iter().map(Vec::len).collect(), combined, steps });
    let outcome = grid.run(0, 0, scope.clone()).await;
    if matches!(outcome, Outcome::Succeeded | Outcome::Failed) {
        lines.finish(outcome.is_success()).await?;
    }
    Ok(outcome)
}

/// The values of each variable.
async fn values(across: &AcrossPlan, lines: &mut Lines<'_>, scope: &Scope) -> Result<Vec<Vec<Value>>, Stop> {
    let mut lists = Vec::new();
    for var in &across.vars {
        if scope.locals.value(&var.var).is_some() {
            let text = format!("\u{1b}[1;33mWARNING: across step shadows local var '{}'\u{1b}[0m\n", var.var);
            lines.err(&text).await?;
        }
        match filled_value(&var.values, scope).await? {
            Value::Array(list) => lists.push(list),
            Value::Null => lists.push(Vec::new()),
            _ => return Err(Stop::Error(format!("the values of across var '{}' must be a list", var.var))),
        }
    }
    Ok(lists)
}

/// Every text within without the build's secrets.
fn redacted(value: Value, scope: &Scope) -> Value {
    match value {
        Value::String(text) => Value::String(scope.redactor.redact(&text)),
        Value::Array(items) => items.into_iter().map(|item| redacted(item, scope)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, item)| (key, redacted(item, scope))).collect(),
        other => other,
    }
}

/// The steps of all combinations, variable by variable.
struct Grid {
    across: AcrossPlan,
    /// How many values each variable has.
    sizes: Vec<usize>,
    combined: Vec<Vec<Value>>,
    steps: Vec<Plan>,
}

impl Grid {
    /// Runs the steps that share the values of the variables before number `var`; `first` is the first of them.
    fn run(self: Arc<Grid>, var: usize, first: usize, scope: Scope) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let Some(count) = self.sizes.get(var).copied() else { return self.step(first, &scope).await };
            let each: usize = self.sizes[var + 1..].iter().product();
            let limit = match self.across.vars[var].max_in_flight {
                None => 1,
                Some(MaxInFlight::All) => count,
                Some(MaxInFlight::Limit(limit)) => usize::try_from(limit).unwrap_or(1),
            };
            let bounds = Bounds { count, limit, fail_fast: self.across.fail_fast };
            parallel(&bounds, &scope, |i, inner| self.clone().run(var + 1, first + i * each, inner)).await
        })
    }

    /// One combination, in a scope of its own: the values are variables too, for files of tasks.
    async fn step(&self, at: usize, scope: &Scope) -> Outcome {
        if let Some(stopped) = not_to_begin(&self.steps[at], scope).await {
            return stopped;
        }
        let inner = scope.nested();
        for (var, value) in self.across.vars.iter().zip(&self.combined[at]) {
            inner.locals.set(&var.var, value.clone());
        }
        super::run(&self.steps[at], &inner).await
    }
}
