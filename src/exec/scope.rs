//! What a step sees: the world, the artifacts so far, when to stop, and where in the plan it is.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::artifact::Artifacts;
use super::halt::Halt;
use super::local::Locals;
use super::outcome::{LeafResult, Outcome, Stop};
use super::world::World;
use crate::base::secret::Redactor;
use crate::event::{Event, Origin};
use crate::plan::{Action, Plan, PlanId};
use crate::runtime::{ContainerHandle, VolumeHandle};
use crate::vars::each_text;

/// See the module's doc. Clones share everything but the position.
#[derive(Clone)]
pub struct Scope {
    /// What is around the build.
    pub world: Arc<dyn World>,
    /// Named results of earlier steps.
    pub artifacts: Artifacts,
    /// Variables that earlier steps have set.
    pub locals: Locals,
    /// The build's secrets.
    pub redactor: Redactor,
    /// Asked when the step should stop.
    pub stop: Halt,
    /// Which of the attempts around it, outermost first.
    pub attempt: Vec<usize>,
    /// `succeeded`, `failed`, … inside the hook of that name.
    pub status: Option<&'static str>,
}

impl Scope {
    /// The scope of a whole build.
    pub fn new(world: Arc<dyn World>, redactor: Redactor, stop: CancellationToken) -> Scope {
        let (artifacts, locals) = (Artifacts::default(), Locals::default());
        let stop = Halt::new(stop);
        Scope { world, artifacts, locals, redactor, stop, attempt: Vec::new(), status: None }
    }

    /// The same for steps whose artifacts and variables are their own.
    #[must_use]
    pub fn nested(&self) -> Scope {
        Scope { artifacts: self.artifacts.nested(), locals: self.locals.nested(), ..self.clone() }
    }

    /// The same for attempt number `n` (from 1).
    #[must_use]
    pub fn in_attempt(&self, n: usize) -> Scope {
        let mut scope = self.clone();
        scope.attempt.push(n);
        scope
    }

    /// The same inside the hook for `status`.
    #[must_use]
    pub fn in_hook(&self, status: Option<&'static str>) -> Scope {
        Scope { status, ..self.clone() }
    }

    /// The same, stopped by `stop`.
    #[must_use]
    pub fn stopped_by(&self, stop: Halt) -> Scope {
        Scope { stop, ..self.clone() }
    }

    /// The one lock of this name in the installation, unless the step is to stop while it waits.
    pub async fn lock(&self, name: &str) -> Result<OwnedMutexGuard<()>, Stop> {
        tokio::select! {
            biased;
            // What has begun before a restart needs it to be found and stopped.
            guard = self.world.lock(name) => Ok(guard),
            why = self.stop.asked() => Err(why),
        }
    }

    /// What becomes of a composite that was to stop, whatever its steps made of it.
    pub fn stopped(&self) -> Option<Outcome> {
        self.stop.why().map(|why| match why {
            Stop::TimedOut => Outcome::TimedOut,
            _ => Outcome::Aborted,
        })
    }

    /// `1.2`, or empty outside of attempts.
    pub fn attempt_text(&self) -> String {
        self.attempt.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
    }

    /// Takes up what a finished leaf left behind.
    pub fn restore(&self, plan: &Plan, result: &LeafResult) {
        for (name, artifact) in &result.artifacts {
            self.artifacts.put(name, artifact.clone());
        }
        if let Action::Get(get) = &plan.action
            && result.outcome.is_success()
        {
            let fields = result.metadata.iter().map(|f| (f.name.clone(), Value::String(f.value.clone())));
            self.locals.set(&get.name, Value::Object(fields.collect()));
        }
    }

    /// Replaces every text within `value` in what leaves the build from now on.
    pub fn hide(&self, value: &Value) {
        each_text(value, &mut |text| self.redactor.learn(text));
    }

    /// Tells an error of a step in the log. That it cannot be written changes nothing about the error.
    pub async fn tell_error(&self, plan: &PlanId, text: &str) {
        let origin = Origin::step(&plan.0);
        if let Err(error) = self.world.emit(&origin, Event::Error(text.to_owned())).await {
            tracing::warn!(%error, "an error of a step is not in the build's stored log yet");
        }
    }

    /// The name of a step's container: found again by it after a restart.
    pub fn container(&self, plan: &PlanId) -> ContainerHandle {
        ContainerHandle(self.handle(plan, ""))
    }

    /// The name of volume number `n` of a step.
    pub fn volume(&self, plan: &PlanId, n: usize) -> VolumeHandle {
        VolumeHandle(self.handle(plan, &format!("-{n}")))
    }

    fn handle(&self, plan: &PlanId, suffix: &str) -> String {
        handle(&self.world.build().owner, plan, suffix)
    }
}

/// Letters, digits and dashes only, as runtimes want it. Ids of steps that `across` makes have dots.
fn handle(owner: &str, plan: &PlanId, suffix: &str) -> String {
    let plan = plan.0.replace("/image-check", "-ic").replace("/image-get", "-ig").replace(['/', '.'], "-");
    let name = format!("{owner}-{plan}{suffix}");
    if name.len() <= 36 {
        return name;
    }
    let digest = crate::base::version::digest(name.as_bytes());
    format!("{owner}-{}{suffix}", &digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_what_every_runtime_takes() {
        for (plan, suffix, name) in [
            ("4", "", "b1-4"),
            ("4.0.1", "", "b1-4-0-1"),
            ("4.0/image-check", "", "b1-4-0-ic"),
            ("4/image-get", "-0", "b1-4-ig-0"),
        ] {
            assert_eq!(handle("b1", &PlanId(plan.into()), suffix), name);
        }
    }
}
