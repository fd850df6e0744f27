//! What the API shows of a plan: names and shape, nothing that could hold a secret.

use serde_json::{Map, Value, json};

use super::{Action, HookPlan, Plan, TypeImage};
use crate::base::version::Version;

/// A public plan as JSON, in the member order of Concourse's answers.
pub type Shown = Value;

/// The public form of `plan`.
pub fn shown(plan: &Plan) -> Shown {
    let (name, body) = match &plan.action {
        Action::Get(get) => ("get", get_shown(get)),
        Action::Put(put) => {
            let mut m = typed(&put.name, &put.kind);
            m.insert("resource".into(), json!(put.resource));
            images(&mut m, &put.image);
            ("put", Value::Object(m))
        }
        Action::Check(check) => {
            let mut m = typed(&check.name, &check.kind);
            images(&mut m, &check.image);
            ("check", Value::Object(m))
        }
        Action::Task(task) => {
            ("task", json!({"name": task.name, "privileged": task.privileged, "hermetic": task.hermetic}))
        }
        Action::ArtifactInput(input) => ("artifact_input", json!(input)),
        Action::ArtifactOutput(output) => ("artifact_output", json!(output)),
        Action::Run(run) => ("run", json!({"message": run.message, "type": run.kind, "privileged": run.privileged})),
        Action::SetPipeline(set) => {
            ("set_pipeline", json!({"name": set.name, "team": set.team, "instance_vars": set.instance_vars}))
        }
        Action::LoadVar(load) => ("load_var", json!({"name": load.name})),
        Action::Across(across) => {
            let vars: Vec<_> = across.vars.iter().map(|v| json!({"name": v.var})).collect();
            let mut m = Map::new();
            m.insert("vars".into(), json!(vars));
            if across.fail_fast {
                m.insert("fail_fast".into(), json!(true));
            }
            ("across", Value::Object(m))
        }
        Action::Do(steps) => ("do", list(steps)),
        Action::Retry(steps) => ("retry", list(steps)),
        Action::InParallel(p) => {
            let mut m = Map::new();
            m.insert("steps".into(), list(&p.steps));
            if p.limit > 0 {
                m.insert("limit".into(), json!(p.limit));
            }
            if p.fail_fast {
                m.insert("fail_fast".into(), json!(true));
            }
            ("in_parallel", Value::Object(m))
        }
        Action::Try(t) => ("try", json!({"step": shown(&t.step)})),
        Action::Timeout(t) => ("timeout", json!({"step": shown(&t.step), "duration": t.duration})),
        Action::OnSuccess(h) => ("on_success", hook("on_success", h)),
        Action::OnFailure(h) => ("on_failure", hook("on_failure", h)),
        Action::OnError(h) => ("on_error", hook("on_error", h)),
        Action::OnAbort(h) => ("on_abort", hook("on_abort", h)),
        Action::Ensure(h) => ("ensure", hook("ensure", h)),
    };
    json!({"id": plan.id, name: body})
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
    json!({"step": shown(&h.step), name: shown(&h.hook)})
}
