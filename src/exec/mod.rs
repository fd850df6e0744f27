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
pub mod placement;
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

pub use abort::GRACE;
pub use artifact::Artifact;
pub use environment::BuildEnv;
pub use outcome::{LeafResult, Outcome};
pub use scope::Scope;
pub use source::scope_key;
pub use world::{
    Bundle, CachedFetch, CheckScope, Checked, ContainerNote, KeptCache, NativeHost, RunningPlace, Target, VolumeNote,
    World, WorldError,
};

use futures_util::future::BoxFuture;

use crate::plan::{Action, Plan};

/// Runs `plan` in `scope`. Safe to repeat: what has finished answers from its record.
///
/// Each kind of step is a future in a box of its own: steps hold steps as deeply as a file may nest, and what is polled
/// for one of them must not have room on the stack for every other kind as well.
pub fn run<'a>(plan: &'a Plan, scope: &'a Scope) -> BoxFuture<'a, Outcome> {
    match &plan.action {
        Action::Get(get) => Box::pin(leaf(plan, scope, get::run(plan, get, scope))),
        Action::Put(put) => Box::pin(leaf(plan, scope, put::run(plan, put, scope))),
        Action::Task(task) => Box::pin(leaf(plan, scope, task::run(plan, task, scope))),
        Action::Run(message) => Box::pin(leaf(plan, scope, message::run(&plan.id, message, scope))),
        Action::LoadVar(load) => Box::pin(leaf(plan, scope, load_var::run(&plan.id, load, scope))),
        Action::SetPipeline(set) => Box::pin(leaf(plan, scope, set_pipeline::run(&plan.id, set, scope))),
        Action::Across(across) => Box::pin(across::run(plan, across, scope)),
        Action::Check(check) => Box::pin(leaf(plan, scope, check::run(plan, check, scope))),
        Action::ArtifactInput(input) => Box::pin(leaf(plan, scope, upload::input(input, scope))),
        Action::ArtifactOutput(output) => Box::pin(leaf(plan, scope, upload::output(output, scope))),
        Action::Do(steps) => Box::pin(composite::sequence(steps, scope)),
        Action::InParallel(parallel) => Box::pin(composite::in_parallel(parallel, scope)),
        Action::Try(t) => Box::pin(async move { composite::swallow(run(&t.step, scope).await) }),
        Action::Retry(tries) => Box::pin(composite::retry(tries, scope)),
        Action::Timeout(t) => Box::pin(composite::timeout(plan, t, scope)),
        Action::OnSuccess(h) => Box::pin(composite::on_success(h, scope)),
        Action::OnFailure(h) => Box::pin(composite::on_failure(h, scope)),
        Action::OnError(h) => Box::pin(composite::on_error(h, scope)),
        Action::OnAbort(h) => Box::pin(composite::on_abort(h, scope)),
        Action::Ensure(h) => Box::pin(composite::ensure(h, scope)),
    }
}

/// Runs a leaf unless its result is recorded, or it is to stop before it has begun; records its result; tells an error
/// in the log.
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
    let ended = match scope.stop.why() {
        Some(why) if !composite::begun(plan, scope).await => Err(why),
        _ => step.await,
    };
    let result = match ended {
        Ok(result) => result,
        Err(stop) => {
            abort::leave_nothing(plan, scope).await;
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
