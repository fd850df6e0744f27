//! Runs one plan. A step is "run, return an outcome"; composites are small wrappers; leaves record what they leave
//! behind by plan id, so running the plan again from the top is how a build goes on after a restart.

mod abort;
mod across;
mod artifact;
mod check;
mod composite;
mod environment;
mod get;
mod halt;
mod image;
mod lines;
mod load_var;
mod local;
mod message;
mod outcome;
mod placement;
mod put;
mod registry;
mod scope;
mod script;
mod set_pipeline;
mod source;
mod task;
mod task_config;
mod upload;
mod world;

pub use artifact::Artifact;
pub use environment::BuildEnv;
pub use outcome::{LeafResult, Outcome};
pub use scope::Scope;
pub use source::scope_key;
pub use world::{
    Bundle, CachedFetch, CheckScope, Checked, ContainerNote, KeptCache, NativeHost, Target, VolumeNote, World,
    WorldError,
};

use futures_util::future::BoxFuture;

use crate::plan::{Action, Plan};

/// Runs `plan` in `scope`. Safe to repeat: what has finished answers from its record.
pub fn run<'a>(plan: &'a Plan, scope: &'a Scope) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        match &plan.action {
            Action::Get(get) => leaf(plan, scope, get::run(plan, get, scope)).await,
            Action::Put(put) => leaf(plan, scope, put::run(plan, put, scope)).await,
            Action::Task(task) => leaf(plan, scope, task::run(plan, task, scope)).await,
            Action::Run(message) => leaf(plan, scope, message::run(&plan.id, message, scope)).await,
            Action::LoadVar(load) => leaf(plan, scope, load_var::run(&plan.id, load, scope)).await,
            Action::SetPipeline(set) => leaf(plan, scope, set_pipeline::run(&plan.id, set, scope)).await,
            Action::Across(across) => across::run(plan, across, scope).await,
            Action::Check(check) => leaf(plan, scope, check::run(plan, check, scope)).await,
            Action::ArtifactInput(input) => leaf(plan, scope, upload::input(input, scope)).await,
            Action::ArtifactOutput(output) => leaf(plan, scope, upload::output(output, scope)).await,
            Action::Do(steps) => composite::sequence(steps, scope).await,
            Action::InParallel(parallel) => composite::in_parallel(parallel, scope).await,
            Action::Try(t) => composite::swallow(run(&t.step, scope).await),
            Action::Retry(tries) => composite::retry(tries, scope).await,
            Action::Timeout(t) => composite::timeout(plan, t, scope).await,
            Action::OnSuccess(h) => composite::on_success(h, scope).await,
            Action::OnFailure(h) => composite::on_failure(h, scope).await,
            Action::OnError(h) => composite::on_error(h, scope).await,
            Action::OnAbort(h) => composite::on_abort(h, scope).await,
            Action::Ensure(h) => composite::ensure(h, scope).await,
        }
    })
}

/// Runs a leaf unless its result is recorded; records it; tells an error in the log.
async fn leaf(plan: &Plan, scope: &Scope, step: impl Future<Output = Result<LeafResult, outcome::Stop>>) -> Outcome {
    match scope.world.result(&plan.id).await {
        Ok(Some(result)) => {
            scope.restore(plan, &result);
            if let Action::LoadVar(load) = &plan.action
                && result.outcome.is_success()
                && let Err(stop) = load_var::again(load, scope).await
            {
                return Outcome::Errored(scope.redactor.redact(&stop.text()));
            }
            return result.outcome;
        }
        Ok(None) => {}
        Err(error) => return Outcome::Errored(error.to_string()),
    }
    let result = match step.await {
        Ok(result) => result,
        Err(stop) => {
            let text = scope.redactor.redact(&stop.text());
            scope.tell_error(&plan.id, &text).await;
            LeafResult::of(stop.outcome(text))
        }
    };
    scope.restore(plan, &result);
    match scope.world.record(&plan.id, &result).await {
        Ok(()) => result.outcome,
        Err(error) => Outcome::Errored(error.to_string()),
    }
}
