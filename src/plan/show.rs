//! What the API shows of a plan: names and shape, nothing that could hold a secret.

use serde_json::{Map, Value, json};

use serde::Serialize;

use super::{
    AcrossPlan, Action, CheckPlan, HookPlan, LoadVarPlan, ParallelPlan, Plan, PutPlan, RunPlan, SetPipelinePlan,
    TaskPlan, TypeImage,
};
use crate::base::version::Version;

/// A public plan as JSON, in the member order of Concourse's answers.
pub type Shown = Value;

/// The public form of `plan`.
///
/// Steps nest as deeply as a file may, so what is on the stack for each of them is kept small: every kind has a function
/// of its own.
pub fn shown(plan: &Plan) -> Shown {
    let (name, body) = match &plan.action {
        Action::Get(get) => ("get", get_shown(get)),
        Action::Put(put) => ("put", put_shown(put)),
        Action::Check(check) => ("check", check_shown(check)),
        Action::Task(task) => ("task", task_shown(task)),
        Action::ArtifactInput(input) => ("artifact_input", plain(input)),
        Action::ArtifactOutput(output) => ("artifact_output", plain(output)),
        Action::Run(run) => ("run", run_shown(run)),
        Action::SetPipeline(set) => ("set_pipeline", set_shown(set)),
        Action::LoadVar(load) => ("load_var", load_shown(load)),
        Action::Across(across) => ("across", across_shown(across)),
        Action::Do(steps) => ("do", list(steps)),
        Action::Retry(steps) => ("retry", list(steps)),
        Action::InParallel(p) => ("in_parallel", parallel(p)),
        Action::Try(t) => ("try", around(&t.step, None)),
        Action::Timeout(t) => ("timeout", around(&t.step, Some(&t.duration))),
        Action::OnSuccess(h) => ("on_success", hook("on_success", h)),
        Action::OnFailure(h) => ("on_failure", hook("on_failure", h)),
        Action::OnError(h) => ("on_error", hook("on_error", h)),
        Action::OnAbort(h) => ("on_abort", hook("on_abort", h)),
        Action::Ensure(h) => ("ensure", hook("ensure", h)),
    };
    named(plan, name, body)
}

fn named(plan: &Plan, name: &str, body: Value) -> Shown {
    json!({"id": plan.id, name: body})
}

fn plain(step: &impl Serialize) -> Value {
    json!(step)
}

fn put_shown(put: &PutPlan) -> Value {
    let mut m = typed(&put.name, &put.kind);
    m.insert("resource".into(), json!(put.resource));
    images(&mut m, &put.image);
    Value::Object(m)
}

fn check_shown(check: &CheckPlan) -> Value {
    let mut m = typed(&check.name, &check.kind);
    images(&mut m, &check.image);
    Value::Object(m)
}

fn task_shown(task: &TaskPlan) -> Value {
    json!({"name": task.name, "privileged": task.privileged, "hermetic": task.hermetic})
}

fn run_shown(run: &RunPlan) -> Value {
    json!({"message": run.message, "type": run.kind, "privileged": run.privileged})
}

fn set_shown(set: &SetPipelinePlan) -> Value {
    json!({"name": set.name, "team": set.team, "instance_vars": set.instance_vars})
}

fn load_shown(load: &LoadVarPlan) -> Value {
    json!({"name": load.name})
}

fn across_shown(across: &AcrossPlan) -> Value {
    let vars: Vec<_> = across.vars.iter().map(|v| json!({"name": v.var})).collect();
    let mut m = Map::new();
    m.insert("vars".into(), json!(vars));
    if across.fail_fast {
        m.insert("fail_fast".into(), json!(true));
    }
    Value::Object(m)
}

fn parallel(p: &ParallelPlan) -> Value {
    let mut m = Map::new();
    m.insert("steps".into(), list(&p.steps));
    if p.limit > 0 {
        m.insert("limit".into(), json!(p.limit));
    }
    if p.fail_fast {
        m.insert("fail_fast".into(), json!(true));
    }
    Value::Object(m)
}

fn around(step: &Plan, duration: Option<&str>) -> Value {
    let mut m = Map::new();
    m.insert("step".into(), shown(step));
    if let Some(duration) = duration {
        m.insert("duration".into(), json!(duration));
    }
    Value::Object(m)
}

fn get_shown(get: &super::GetPlan) -> Value {
    let mut m = typed(&get.name, &get.kind);
    if let Some(resource) = &get.resource {
        m.insert("resource".into(), json!(resource));
    }
    if let Some(Version(version)) = &get.version {
        m.insert("version".into(), json!(version));
    }
    images(&mut m, &get.image);
    Value::Object(m)
}

fn typed(name: &str, kind: &str) -> Map<String, Value> {
    let mut m = Map::new();
    m.insert("name".into(), json!(name));
    m.insert("type".into(), json!(kind));
    m
}

fn images(m: &mut Map<String, Value>, image: &TypeImage) {
    if let Some(get) = &image.get {
        m.insert("image_get_plan".into(), shown(get));
    }
    if let Some(check) = &image.check {
        m.insert("image_check_plan".into(), shown(check));
    }
}

fn list(steps: &[Plan]) -> Value {
    Value::Array(steps.iter().map(shown).collect())
}

fn hook(name: &str, h: &HookPlan) -> Value {
    let mut m = Map::new();
    m.insert("step".into(), shown(&h.step));
    m.insert(name.into(), shown(&h.hook));
    Value::Object(m)
}
