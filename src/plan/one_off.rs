//! A plan as Concourse's client sends it for a one-off build (`atc/plan.go`), read into a plan of ours.
//!
//! The client may only name its team's uploads, images and tasks: a resource of a pipeline that it names is ignored, so
//! nothing a one-off build does is written into a pipeline's history.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Action, ArtifactInputPlan, ArtifactOutputPlan, CheckPlan, GetPlan, HookPlan, Inputs, ParallelPlan, Plan, PlanId,
    PutPlan, TaskPlan, TimeoutPlan, TryPlan, TypeImage,
};
use crate::base::id::ArtifactId;
use crate::pipeline::PutInputs;

/// Why a plan is refused: where in it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed plan: {place}: {problem}")]
pub struct Error {
    /// Such as `plan.do[1].task`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

type Result<T> = std::result::Result<T, Error>;

/// Steps of which a one-off build may have this many.
const MOST: usize = 5000;

/// Reads the plan; nodes without an id get one.
pub fn read(value: Value) -> Result<Plan> {
    let mut reader = Reader::default();
    let plan = reader.node(value, "plan")?;
    let (mut free, mut next) = (reader.ids, 0u64);
    Ok(named(plan, &mut || loop {
        next += 1;
        let id = format!("{next:x}");
        if free.insert(id.clone()) {
            return PlanId(id);
        }
    }))
}

/// Every upload that the plan asks for, with the name it gets.
pub fn uploads(plan: &Plan) -> Vec<(ArtifactId, String)> {
    let mut found = Vec::new();
    plan.each(&mut |p| {
        if let Action::ArtifactInput(input) = &p.action {
            found.push((input.artifact_id, input.name.clone()));
        }
    });
    found
}

#[derive(Default)]
struct Reader {
    ids: BTreeSet<String>,
    nodes: usize,
}

/// What a node can be, in the order in which Concourse looks.
const KINDS: [&str; 16] = [
    "get",
    "put",
    "task",
    "check",
    "artifact_input",
    "artifact_output",
    "do",
    "in_parallel",
    "try",
    "retry",
    "timeout",
    "on_success",
    "on_failure",
    "on_error",
    "on_abort",
    "ensure",
];

impl Reader {
    fn node(&mut self, value: Value, place: &str) -> Result<Plan> {
        self.nodes += 1;
        if self.nodes > MOST {
            return Err(wrong(place, format!("more than {MOST} steps")));
        }
        let mut object = object(value, place)?;
        let id = match object.remove("id") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(id)) => id,
            Some(_) => return Err(wrong(place, "id is not a string")),
        };
        self.take_id(&id, place)?;
        let kind = KINDS.iter().find(|k| object.get(**k).is_some_and(|v| !v.is_null()));
        let Some(kind) = kind else {
            let found: Vec<&str> = object.keys().map(String::as_str).collect();
            let problem = format!("no step of a one-off build: found {found:?}, expected one of {}", KINDS.join(", "));
            return Err(wrong(place, problem));
        };
        let body = object.remove(*kind).unwrap_or_default();
        let action = self.action(kind, body, &format!("{place}.{kind}"))?;
        Ok(Plan { id: PlanId(id), action })
    }

    /// An id becomes part of the names of containers and volumes.
    fn take_id(&mut self, id: &str, place: &str) -> Result<()> {
        if id.is_empty() {
            return Ok(());
        }
        let mut own = id;
        while let Some(rest) = own.strip_suffix("/image-get").or_else(|| own.strip_suffix("/image-check")) {
            own = rest;
        }
        let plain = own.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if own.is_empty() || !plain || id.len() > 200 {
            return Err(wrong(place, format!("id {id:?} is not made of lower-case letters and digits")));
        }
        if !self.ids.insert(id.to_owned()) {
            return Err(wrong(place, format!("id {id:?} is there twice; every step needs its own")));
        }
        Ok(())
    }

    fn action(&mut self, kind: &str, body: Value, place: &str) -> Result<Action> {
        Ok(match kind {
            "get" => {
                let (body, image) = self.typed(body, place)?;
                Action::Get(Box::new(GetPlan { image, resource: None, ..decode(body, place)? }))
            }
            "put" => {
                let (mut body, image) = self.typed(body, place)?;
                let inputs = body.as_object_mut().and_then(|m| m.remove("inputs"));
                let inputs = inputs.map(|i| decode::<PutInputs>(i, place)).transpose()?;
                let inputs = match inputs {
                    Some(PutInputs::All) => Inputs::All,
                    Some(PutInputs::Specified(names)) => Inputs::Listed(names),
                    _ => Inputs::Detect,
                };
                Action::Put(Box::new(PutPlan { image, inputs, resource: String::new(), ..decode(body, place)? }))
            }
            "check" => {
                let (mut body, image) = self.typed(body, place)?;
                let from = body.as_object_mut().and_then(|m| m.remove("from_version"));
                let from = from.map(|v| decode(v, place)).transpose()?;
                let check = CheckPlan { image, from, resource: None, resource_type: None, ..decode(body, place)? };
                Action::Check(Box::new(check))
            }
            "task" => {
                let mut task: TaskPlan = decode(Value::Object(object(body, place)?), place)?;
                task.timeout = task.timeout.filter(|t| !t.is_empty());
                task.image = task.image.filter(|i| !i.is_empty());
                task.config_path = task.config_path.filter(|p| !p.is_empty());
                Action::Task(Box::new(task))
            }
            "artifact_input" => Action::ArtifactInput(decode::<ArtifactInputPlan>(body, place)?),
            "artifact_output" => Action::ArtifactOutput(decode::<ArtifactOutputPlan>(body, place)?),
            "do" => Action::Do(self.nodes(body, place)?),
            "retry" => Action::Retry(self.nodes(body, place)?),
            "in_parallel" => {
                let mut body = object(body, place)?;
                let steps = body.remove("steps").unwrap_or_else(|| Value::Array(Vec::new()));
                let steps = self.nodes(steps, &format!("{place}.steps"))?;
                let Parallel { limit, fail_fast } = decode(Value::Object(body), place)?;
                Action::InParallel(ParallelPlan { steps, limit, fail_fast })
            }
            "try" => {
                let step = self.member(&mut object(body, place)?, "step", place)?;
                Action::Try(Box::new(TryPlan { step }))
            }
            "timeout" => {
                let mut body = object(body, place)?;
                let step = self.member(&mut body, "step", place)?;
                let Bound { duration } = decode(Value::Object(body), place)?;
                Action::Timeout(Box::new(TimeoutPlan { step, duration }))
            }
            hook => self.hook(hook, body, place)?,
        })
    }

    fn hook(&mut self, kind: &str, body: Value, place: &str) -> Result<Action> {
        let mut body = object(body, place)?;
        let step = self.member(&mut body, "step", place)?;
        let hook = Box::new(HookPlan { step, hook: self.member(&mut body, kind, place)? });
        Ok(match kind {
            "on_success" => Action::OnSuccess(hook),
            "on_failure" => Action::OnFailure(hook),
            "on_error" => Action::OnError(hook),
            "on_abort" => Action::OnAbort(hook),
            _ => Action::Ensure(hook),
        })
    }

    fn member(&mut self, body: &mut Map<String, Value>, name: &str, place: &str) -> Result<Plan> {
        let value = body.remove(name).ok_or_else(|| wrong(place, format!("{name} is missing")))?;
        self.node(value, &format!("{place}.{name}"))
    }

    fn nodes(&mut self, value: Value, place: &str) -> Result<Vec<Plan>> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Array(steps) => {
                let steps = steps.into_iter().enumerate();
                steps.map(|(n, step)| self.node(step, &format!("{place}[{n}]"))).collect()
            }
            _ => Err(wrong(place, "not a list of steps")),
        }
    }

    /// What get, put and check have in common: where the scripts of their type come from. An empty timeout is none.
    fn typed(&mut self, body: Value, place: &str) -> Result<(Value, TypeImage)> {
        let mut body = object(body, place)?;
        for ignored in ["resource", "resource_type", "prototype"] {
            body.remove(ignored);
        }
        for empty in ["timeout", "interval"] {
            if body.get(empty).is_some_and(|v| v == "") {
                body.remove(empty);
            }
        }
        let image = match body.remove("image") {
            None | Some(Value::Null) => Map::new(),
            Some(image) => object(image, &format!("{place}.image"))?,
        };
        let image = self.image(image, &format!("{place}.image"))?;
        Ok((Value::Object(body), image))
    }

    fn image(&mut self, mut image: Map<String, Value>, place: &str) -> Result<TypeImage> {
        let mut nested = |name: &str| match image.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.node(value, &format!("{place}.{name}")).map(|p| Some(Box::new(p))),
        };
        let (check, get) = (nested("check_plan")?, nested("get_plan")?);
        let Base { base_type, privileged } = decode(Value::Object(image), place)?;
        Ok(TypeImage { base_type, check, get, privileged })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parallel {
    limit: usize,
    fail_fast: bool,
}

#[derive(Deserialize)]
struct Bound {
    duration: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Base {
    base_type: String,
    privileged: bool,
}

/// Gives nodes without an id one, from the inside out.
fn named(plan: Plan, next: &mut dyn FnMut() -> PlanId) -> Plan {
    let Plan { id, action } = plan;
    let mut all = |steps: Vec<Plan>| steps.into_iter().map(|s| named(s, next)).collect();
    let action = match action {
        Action::Do(steps) => Action::Do(all(steps)),
        Action::Retry(steps) => Action::Retry(all(steps)),
        Action::InParallel(p) => Action::InParallel(ParallelPlan { steps: all(p.steps), ..p }),
        Action::Try(t) => Action::Try(Box::new(TryPlan { step: named(t.step, next) })),
        Action::Timeout(t) => {
            Action::Timeout(Box::new(TimeoutPlan { step: named(t.step, next), duration: t.duration }))
        }
        Action::OnSuccess(h) => Action::OnSuccess(hook_named(*h, next)),
        Action::OnFailure(h) => Action::OnFailure(hook_named(*h, next)),
        Action::OnError(h) => Action::OnError(hook_named(*h, next)),
        Action::OnAbort(h) => Action::OnAbort(hook_named(*h, next)),
        Action::Ensure(h) => Action::Ensure(hook_named(*h, next)),
        leaf => leaf,
    };
    Plan { id: if id.0.is_empty() { next() } else { id }, action }
}

fn hook_named(hook: HookPlan, next: &mut dyn FnMut() -> PlanId) -> Box<HookPlan> {
    Box::new(HookPlan { step: named(hook.step, next), hook: named(hook.hook, next) })
}

/// An object without its null members, which Go writes for what is empty.
fn object(value: Value, place: &str) -> Result<Map<String, Value>> {
    match value {
        Value::Object(mut object) => {
            object.retain(|_, v| !v.is_null());
            Ok(object)
        }
        _ => Err(wrong(place, "not an object")),
    }
}

fn decode<T: DeserializeOwned>(value: Value, place: &str) -> Result<T> {
    serde_json::from_value(value).map_err(|e| wrong(place, e.to_string()))
}

fn wrong(place: &str, problem: impl Into<String>) -> Error {
    Error { place: place.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shown;

    fn plan(text: &str) -> Result<Plan> {
        read(serde_json::from_str(text).unwrap())
    }

    /// As the client of Concourse 8.2.5 sends it.
    const EXECUTE: &str = r#"{"id":"6b7","ensure":{"step":{"id":"6b5","do":[{"id":"6b4","in_parallel":{"steps":[
        {"id":"6b1","artifact_input":{"artifact_id":33,"name":"here"}}]}},{"id":"6b3","task":{"name":"one-off",
        "privileged":false,"hermetic":false,"config":{"platform":"linux","image_resource":{"name":"","type":"mock",
        "source":{"mirror_self":true}},"params":{"A":"b"},"run":{"path":"sh","args":["-c","ls"]},
        "inputs":[{"name":"here"}],"outputs":[{"name":"out"}]}}}]},
        "ensure":{"id":"6b6","in_parallel":{"steps":[{"id":"6b2","artifact_output":{"name":"out"}}]}}}}"#;

    #[test]
    fn the_client_s_plan_is_shown_as_it_came() {
        let plan = plan(EXECUTE).unwrap();
        let shown = shown(&plan);
        let steps = &shown["ensure"]["step"]["do"];
        let input = &steps[0]["in_parallel"]["steps"][0];
        assert_eq!(input["artifact_input"], serde_json::json!({"artifact_id": 33, "name": "here"}));
        assert_eq!(steps[1]["task"]["name"], "one-off");
        assert_eq!(shown["ensure"]["ensure"]["id"], "6b6");
        assert_eq!(uploads(&plan), [(ArtifactId(33), "here".to_owned())]);
        let stored = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
    }

    #[test]
    fn a_get_brings_its_type_s_image_and_leaves_the_pipeline_alone() {
        let text = r#"{"id":"a","get":{"name":"code","type":"t","source":null,"resource":"code","version":{"v":"1"},
            "tags":null,"timeout":"","image":{"base_type":"mock","privileged":true,
            "check_plan":{"id":"a/image-check","check":{"name":"t","type":"mock","source":{},"resource_type":"t",
              "interval":"1m0s","image":{"base_type":"mock"}}},
            "get_plan":{"id":"a/image-get","get":{"name":"t","type":"mock","source":{},"image":{"base_type":"mock"},
              "version_from":"a/image-check"}}}}}"#;
        let Action::Get(get) = plan(text).unwrap().action else { panic!("a get") };
        assert_eq!((get.resource, get.timeout, get.image.privileged), (None, None, true));
        assert!(get.image.check.is_some() && get.image.get.is_some());
    }

    #[test]
    fn missing_ids_are_given() {
        let plan = plan(r#"{"do":[{"id":"1","artifact_output":{"name":"x"}},{"task":{"name":"t"}}]}"#).unwrap();
        let ids: Vec<_> = plan.children().iter().map(|p| p.id.0.clone()).collect();
        assert_eq!((plan.id.0.as_str(), ids), ("3", vec!["1".to_owned(), "2".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, place, words) in [
            ("3", "plan", "not an object"),
            ("{}", "plan", "no step"),
            (r#"{"id":3,"do":[]}"#, "plan", "not a string"),
            (r#"{"set_pipeline":{"name":"x"}}"#, "plan", "set_pipeline"),
            (r#"{"do":[{"task":{"name":3}}]}"#, "plan.do[0].task", "expected a string"),
            (r#"{"id":"../x","do":[]}"#, "plan", "lower-case"),
            (r#"{"id":"1","do":[{"id":"1","do":[]}]}"#, "plan.do[0]", "twice"),
            (r#"{"ensure":{"step":{"do":[]}}}"#, "plan.ensure", "ensure is missing"),
            (r#"{"in_parallel":{"steps":3}}"#, "plan.in_parallel.steps", "list"),
        ] {
            let error = plan(text).unwrap_err();
            assert_eq!(error.place, place, "{text}");
            assert!(error.problem.contains(words), "{text}: {error}");
        }
    }
}
