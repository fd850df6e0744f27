//! Steps: modifiers are peeled off one by one until a core is found.

use serde_json::{Map, Value};

use super::config::steps;
use super::task::{limits, take_task};
use super::{Decoder, Fault, Taken, shown, without};
use crate::base::version::Version;
use crate::pipeline::{
    Across, AcrossVar, Core, Get, InParallel, Listing, LoadVar, MaxInFlight, Put, PutInputs, Run, SetPipeline, Step,
    TaskStep, VersionConfig,
};

const GET: [&str; 8] = ["get", "resource", "version", "params", "passed", "trigger", "tags", "timeout"];
const PUT: [&str; 8] = ["put", "resource", "params", "inputs", "tags", "get_params", "timeout", "no_get"];
const TASK: [&str; 13] = [
    "task",
    "privileged",
    "hermetic",
    "file",
    "container_limits",
    "config",
    "params",
    "vars",
    "tags",
    "input_mapping",
    "output_mapping",
    "image",
    "timeout",
];
const RUN: [&str; 7] = ["run", "type", "params", "privileged", "tags", "container_limits", "timeout"];
const SET_PIPELINE: [&str; 6] = ["set_pipeline", "file", "team", "vars", "var_files", "instance_vars"];
const LOAD_VAR: [&str; 4] = ["load_var", "file", "format", "reveal"];

/// The keys that make a step, in the order in which they are looked for.
const ORDER: [&str; 17] = [
    "ensure",
    "on_error",
    "on_abort",
    "on_failure",
    "on_success",
    "across",
    "attempts",
    "run",
    "task",
    "put",
    "get",
    "timeout",
    "set_pipeline",
    "load_var",
    "try",
    "do",
    "in_parallel",
];

/// Takes one step.
pub fn step(value: &Value) -> Result<Step, Fault> {
    Decoder::new(false, false).custom(false, |d| take_step(d, value))
}

pub(super) fn take_step(d: &mut Decoder, value: &Value) -> Taken<Step> {
    let mut rest = match value {
        Value::Null => Map::new(),
        Value::Object(map) => map.clone(),
        other => {
            d.mismatch(other, "map[string]*json.RawMessage");
            return Ok(Step::from(Core::Do { steps: Listing(None), tags: Vec::new() }));
        }
    };
    let mut step = Step::from(Core::Do { steps: Listing(None), tags: Vec::new() });
    let mut modified = false;
    for key in ORDER {
        if !rest.contains_key(key) {
            continue;
        }
        let whole = Value::Object(rest.clone());
        let malformed = |fault: Fault| fault.wrapped(|f| format!("malformed {key} step: {f}"));
        if let Some(core) = core(d, key, &whole).map_err(malformed)? {
            step.core = core;
            step.unknown = without(&rest, known(key));
            return Ok(step);
        }
        modifier(d, key, &whole, &mut step).map_err(malformed)?;
        rest = without(&rest, known(key)).into_iter().collect();
        modified = true;
    }
    match modified {
        true => d.other("no core step type declared (e.g. get, put, task, etc.)"),
        false => d.other("no step configured"),
    }
}

/// The keys a core or a modifier takes.
fn known(key: &str) -> &'static [&'static str] {
    match key {
        "run" => &RUN,
        "task" => &TASK,
        "put" => &PUT,
        "get" => &GET,
        "set_pipeline" => &SET_PIPELINE,
        "load_var" => &LOAD_VAR,
        "do" => &["do", "tags"],
        "in_parallel" => &["in_parallel", "tags"],
        "across" => &["across", "fail_fast"],
        "try" => &["try"],
        "ensure" => &["ensure"],
        "on_error" => &["on_error"],
        "on_abort" => &["on_abort"],
        "on_failure" => &["on_failure"],
        "on_success" => &["on_success"],
        "attempts" => &["attempts"],
        _ => &["timeout"],
    }
}

/// Decodes one struct of Go's in a run of its own.
fn part(
    d: &Decoder,
    value: &Value,
    names: (&'static str, &'static str),
    known: &[&'static str],
    visit: &mut dyn FnMut(&mut Decoder, &'static str, &Value) -> Taken,
) -> Taken {
    alone(d, |inner| inner.structure(value, names, known, visit))
}

/// A run of its own whose errors do not learn where the outer one stands.
fn alone<T>(d: &Decoder, decode: impl FnOnce(&mut Decoder) -> Taken<T>) -> Taken<T> {
    let mut inner = Decoder { path: d.path.clone(), ..Decoder::new(false, false) };
    let result = decode(&mut inner);
    inner.finish(result)
}

fn modifier(d: &Decoder, key: &str, value: &Value, step: &mut Step) -> Taken {
    match key {
        "across" => {
            let mut across = Across::default();
            part(d, value, ("AcrossStep", "atc.AcrossStep"), known(key), &mut |d, field, v| match field {
                "across" => d.list(v, "[]atc.AcrossVarConfig", across_var).map(|list| across.vars = Listing(list)),
                _ => d.boolean(v, &mut across.fail_fast),
            })?;
            step.across = Some(across);
        }
        "attempts" => {
            let mut attempts = 0;
            part(d, value, ("RetryStep", "atc.RetryStep"), known(key), &mut |d, _, v| d.integer(v, &mut attempts))?;
            step.attempts = Some(attempts);
        }
        "timeout" => {
            let mut text = String::new();
            part(d, value, ("TimeoutStep", "atc.TimeoutStep"), known(key), &mut |d, _, v| d.string(v, &mut text))?;
            step.timeout = Some(text);
        }
        _ => {
            let (names, slot) = match key {
                "ensure" => (("EnsureStep", "atc.EnsureStep"), &mut step.ensure),
                "on_error" => (("OnErrorStep", "atc.OnErrorStep"), &mut step.on_error),
                "on_abort" => (("OnAbortStep", "atc.OnAbortStep"), &mut step.on_abort),
                "on_failure" => (("OnFailureStep", "atc.OnFailureStep"), &mut step.on_failure),
                _ => (("OnSuccessStep", "atc.OnSuccessStep"), &mut step.on_success),
            };
            part(d, value, names, known(key), &mut |d, _, v| {
                *slot = Some(Box::new(d.custom(false, |d| take_step(d, v))?));
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn core(d: &Decoder, key: &str, value: &Value) -> Taken<Option<Core>> {
    let core = match key {
        "get" => Core::Get(get(d, value)?),
        "put" => Core::Put(put(d, value)?),
        "task" => Core::Task(Box::new(task(d, value)?)),
        "run" => Core::Run(run(d, value)?),
        "set_pipeline" => Core::SetPipeline(set_pipeline(d, value)?),
        "load_var" => Core::LoadVar(load_var(d, value)?),
        "try" => {
            let mut tried = None;
            part(d, value, ("TryStep", "atc.TryStep"), known(key), &mut |d, _, v| {
                tried = Some(d.custom(false, |d| take_step(d, v))?);
                Ok(())
            })?;
            match tried {
                Some(step) => Core::Try(Box::new(step)),
                None => return d.other("no step configured"),
            }
        }
        "do" => {
            let (mut inner, mut tags) = (Listing(None), Vec::new());
            part(d, value, ("DoStep", "atc.DoStep"), known(key), &mut |d, field, v| match field {
                "do" => steps(d, v).map(|list| inner = list),
                _ => d.tags(v, &mut tags),
            })?;
            Core::Do { steps: inner, tags }
        }
        "in_parallel" => {
            let (mut parallel, mut tags) = (InParallel::default(), Vec::new());
            part(d, value, ("InParallelStep", "atc.InParallelStep"), known(key), &mut |d, field, v| match field {
                "in_parallel" => in_parallel(d, v).map(|p| parallel = p),
                _ => d.tags(v, &mut tags),
            })?;
            Core::InParallel(InParallel { tags, ..parallel })
        }
        _ => return Ok(None),
    };
    Ok(Some(core))
}

fn get(d: &Decoder, value: &Value) -> Taken<Get> {
    let mut s = Get::default();
    part(d, value, ("GetStep", "atc.GetStep"), &GET, &mut |d, field, v| match field {
        "get" => d.string(v, &mut s.name),
        "resource" => d.string(v, &mut s.resource),
        "version" => version_config(d, v).map(|version| s.version = version),
        "params" => d.object(v, "atc.Params", &mut s.params),
        "passed" => d.strings(v, &mut s.passed),
        "trigger" => d.boolean(v, &mut s.trigger),
        "tags" => d.tags(v, &mut s.tags),
        _ => d.string(v, &mut s.timeout),
    })?;
    Ok(s)
}

fn put(d: &Decoder, value: &Value) -> Taken<Put> {
    let mut s = Put::default();
    part(d, value, ("PutStep", "atc.PutStep"), &PUT, &mut |d, field, v| match field {
        "put" => d.string(v, &mut s.name),
        "resource" => d.string(v, &mut s.resource),
        "params" => d.object(v, "atc.Params", &mut s.params),
        "inputs" => put_inputs(d, v).map(|inputs| s.inputs = inputs),
        "tags" => d.tags(v, &mut s.tags),
        "get_params" => d.object(v, "atc.Params", &mut s.get_params),
        "timeout" => d.string(v, &mut s.timeout),
        _ => d.boolean(v, &mut s.no_get),
    })?;
    Ok(s)
}

fn task(d: &Decoder, value: &Value) -> Taken<TaskStep> {
    let mut s = TaskStep::default();
    part(d, value, ("TaskStep", "atc.TaskStep"), &TASK, &mut |d, field, v| match field {
        "task" => d.string(v, &mut s.name),
        "privileged" => d.boolean(v, &mut s.privileged),
        "hermetic" => d.boolean(v, &mut s.hermetic),
        "file" => d.string(v, &mut s.file),
        "container_limits" => limits(d, v).map(|limits| s.container_limits = limits),
        "config" if v.is_null() => Ok(()),
        "config" => d.custom(false, |d| take_task(d, v)).map(|config| s.config = Some(config)),
        "params" => d.environment(v).map(|params| s.params = params),
        "vars" => d.object(v, "atc.Params", &mut s.vars),
        "tags" => d.tags(v, &mut s.tags),
        "input_mapping" => d.text_map(v, "map[string]string").map(|map| s.input_mapping = map),
        "output_mapping" => d.text_map(v, "map[string]string").map(|map| s.output_mapping = map),
        "image" => d.string(v, &mut s.image),
        _ => d.string(v, &mut s.timeout),
    })?;
    Ok(s)
}

fn run(d: &Decoder, value: &Value) -> Taken<Run> {
    let mut s = Run::default();
    part(d, value, ("RunStep", "atc.RunStep"), &RUN, &mut |d, field, v| match field {
        "run" => d.string(v, &mut s.message),
        "type" => d.string(v, &mut s.kind),
        "params" => d.object(v, "atc.Params", &mut s.params),
        "privileged" => d.boolean(v, &mut s.privileged),
        "tags" => d.tags(v, &mut s.tags),
        "container_limits" => limits(d, v).map(|limits| s.container_limits = limits),
        _ => d.string(v, &mut s.timeout),
    })?;
    Ok(s)
}

fn set_pipeline(d: &Decoder, value: &Value) -> Taken<SetPipeline> {
    let mut s = SetPipeline::default();
    part(d, value, ("SetPipelineStep", "atc.SetPipelineStep"), &SET_PIPELINE, &mut |d, field, v| match field {
        "set_pipeline" => d.string(v, &mut s.name),
        "file" => d.string(v, &mut s.file),
        "team" => d.string(v, &mut s.team),
        "vars" => d.object(v, "atc.Params", &mut s.vars),
        "var_files" => d.strings(v, &mut s.var_files),
        _ => d.object(v, "atc.InstanceVars", &mut s.instance_vars),
    })?;
    Ok(s)
}

fn load_var(d: &Decoder, value: &Value) -> Taken<LoadVar> {
    let mut s = LoadVar::default();
    part(d, value, ("LoadVarStep", "atc.LoadVarStep"), &LOAD_VAR, &mut |d, field, v| match field {
        "load_var" => d.string(v, &mut s.name),
        "file" => d.string(v, &mut s.file),
        "format" => d.string(v, &mut s.format),
        _ => d.boolean(v, &mut s.reveal),
    })?;
    Ok(s)
}

fn in_parallel(d: &mut Decoder, value: &Value) -> Taken<InParallel> {
    let mut parallel = InParallel::default();
    match value {
        Value::Array(_) => {
            parallel.steps = alone(d, |d| steps(d, value))
                .map_err(|fault| fault.wrapped(|f| format!("failed to unmarshal parallel steps: {f}")))?
                .0
                .unwrap_or_default();
        }
        Value::Object(_) => {
            part(
                d,
                value,
                ("target", "atc.target"),
                &["steps", "limit", "fail_fast"],
                &mut |d, field, v| match field {
                    "steps" => steps(d, v).map(|list| parallel.steps = list.0.unwrap_or_default()),
                    "limit" => d.integer(v, &mut parallel.limit),
                    _ => d.boolean(v, &mut parallel.fail_fast),
                },
            )
            .map_err(|fault| fault.wrapped(|f| format!("failed to unmarshal parallel config: {f}")))?;
        }
        other => return d.other(format!("wrong type for parallel config: {}", shown(other))),
    }
    Ok(parallel)
}

fn across_var(d: &mut Decoder, value: &Value) -> Taken<AcrossVar> {
    d.custom(true, |d| {
        let mut across = AcrossVar::default();
        let known = ["var", "values", "max_in_flight"];
        d.structure(value, ("target", "atc.target"), &known, &mut |d, field, v| match field {
            "var" => d.string(v, &mut across.var),
            "values" => {
                across.values = v.clone();
                Ok(())
            }
            _ => max_in_flight(d, v).map(|max| across.max_in_flight = max),
        })?;
        Ok(across)
    })
}

fn max_in_flight(d: &mut Decoder, value: &Value) -> Taken<Option<MaxInFlight>> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if s == "all" => Ok(Some(MaxInFlight::All)),
        Value::String(s) => d.other(format!("invalid max_in_flight {s:?}")),
        other => d.custom(false, |d| {
            let mut limit = 0;
            d.integer(other, &mut limit).map(|()| Some(MaxInFlight::Limit(limit)))
        }),
    }
}

fn version_config(d: &mut Decoder, value: &Value) -> Taken<Option<VersionConfig>> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if s == "every" => Ok(Some(VersionConfig::Every)),
        Value::String(s) if s == "latest" => Ok(Some(VersionConfig::Latest)),
        Value::String(_) => Ok(Some(VersionConfig::Unset)),
        Value::Object(map) => {
            let mut version = Version::default();
            for (key, value) in map {
                match value {
                    Value::String(text) => version.0.insert(key.clone(), text.clone()),
                    other => return d.other(format!("the value {} of {key} is not a string", shown(other))),
                };
            }
            Ok(Some(VersionConfig::Pinned(version)))
        }
        _ => d.other("unknown type for version"),
    }
}

fn put_inputs(d: &mut Decoder, value: &Value) -> Taken<Option<PutInputs>> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if s == "all" => Ok(Some(PutInputs::All)),
        Value::String(s) if s == "detect" => Ok(Some(PutInputs::Detect)),
        Value::String(_) => Ok(Some(PutInputs::Unset)),
        Value::Array(items) => {
            let mut names = Vec::new();
            for item in items {
                match item {
                    Value::String(s) => names.push(s.trim().to_owned()),
                    other => return d.other(format!("non-string put input: {}", shown(other))),
                }
            }
            Ok(Some(PutInputs::Specified(names)))
        }
        _ => d.other("unknown type for put inputs"),
    }
}
