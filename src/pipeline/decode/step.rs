//! Steps: modifiers are peeled off one by one until a core is found.

use serde_json::Value;

use super::config::steps;
use super::task::{limits, take_task};
use super::{Decoder, Fault, Taken, View, shown};
use crate::base::version::Version;
use crate::pipeline::quote::quoted;
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
    Decoder::new(false, false).alone(false, |d| take_step(d, value))
}

/// How deep steps may be nested, so that neither decoding them nor running them exhausts a stack.
const DEEPEST: usize = 40;

pub(super) fn take_step<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<Step> {
    if d.steps == DEEPEST {
        return d.other(format!("steps are nested more than {DEEPEST} deep"));
    }
    d.steps += 1;
    let step = take_step_within(d, value);
    d.steps -= 1;
    step
}

fn take_step_within<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<Step> {
    let mut step = Step::from(Core::Do { steps: Listing(None), tags: Vec::new() });
    let mut rest = match value {
        Value::Null => return d.other("no step configured"),
        Value::Object(map) => View::of(map),
        other => {
            d.mismatch(other, "map[string]*json.RawMessage");
            return Ok(step);
        }
    };
    for key in ORDER {
        if !rest.has(key) {
            continue;
        }
        let malformed = |fault: Fault| fault.wrapped(|f| format!("malformed {key} step: {f}"));
        if let Some(core) = core(d, key, &rest).map_err(malformed)? {
            step.core = core;
            step.unknown = rest.rest(known(key));
            return Ok(step);
        }
        modifier(d, key, &rest, &mut step).map_err(malformed)?;
        rest.taken.extend(known(key));
    }
    match rest.taken.is_empty() {
        true => d.other("no step configured"),
        false => d.other("no core step type declared (e.g. get, put, task, etc.)"),
    }
}

/// The keys a core or a modifier takes.
pub(in crate::pipeline) fn known(key: &str) -> &'static [&'static str] {
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

/// Decodes one struct of Go's in a run of its own, whose errors do not learn where the outer one stands.
fn part<'v>(
    d: &mut Decoder<'v>,
    view: &View<'v>,
    owner: &'static str,
    known: &[&'static str],
    visit: &mut dyn FnMut(&mut Decoder<'v>, &'static str, &'v Value) -> Taken,
) -> Taken {
    d.alone(false, |inner| inner.fields(view, owner, known, visit))
}

fn modifier<'v>(d: &mut Decoder<'v>, key: &str, view: &View<'v>, step: &mut Step) -> Taken {
    match key {
        "across" => {
            let mut across = Across::default();
            part(d, view, "AcrossStep", known(key), &mut |d, field, v| match field {
                "across" => d.list(v, "[]atc.AcrossVarConfig", across_var).map(|list| across.vars = Listing(list)),
                _ => d.boolean(v, &mut across.fail_fast),
            })?;
            step.across = Some(across);
        }
        "attempts" => {
            let mut attempts = 0;
            part(d, view, "RetryStep", known(key), &mut |d, _, v| d.integer(v, &mut attempts))?;
            step.attempts = Some(attempts);
        }
        "timeout" => {
            let mut text = String::new();
            part(d, view, "TimeoutStep", known(key), &mut |d, _, v| d.string(v, &mut text))?;
            step.timeout = Some(text);
        }
        _ => {
            let (owner, slot) = match key {
                "ensure" => ("EnsureStep", &mut step.ensure),
                "on_error" => ("OnErrorStep", &mut step.on_error),
                "on_abort" => ("OnAbortStep", &mut step.on_abort),
                "on_failure" => ("OnFailureStep", &mut step.on_failure),
                _ => ("OnSuccessStep", &mut step.on_success),
            };
            part(d, view, owner, known(key), &mut |d, _, v| {
                *slot = Some(Box::new(d.custom(false, |d| take_step(d, v))?));
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn core<'v>(d: &mut Decoder<'v>, key: &str, view: &View<'v>) -> Taken<Option<Core>> {
    let core = match key {
        "get" => Core::Get(get(d, view)?),
        "put" => Core::Put(put(d, view)?),
        "task" => Core::Task(Box::new(task(d, view)?)),
        "run" => Core::Run(run(d, view)?),
        "set_pipeline" => Core::SetPipeline(set_pipeline(d, view)?),
        "load_var" => Core::LoadVar(load_var(d, view)?),
        "try" => {
            let mut tried = None;
            part(d, view, "TryStep", known(key), &mut |d, _, v| {
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
            part(d, view, "DoStep", known(key), &mut |d, field, v| match field {
                "do" => steps(d, v).map(|list| inner = list),
                _ => d.tags(v, &mut tags),
            })?;
            Core::Do { steps: inner, tags }
        }
        "in_parallel" => {
            let (mut parallel, mut tags) = (InParallel::default(), Vec::new());
            part(d, view, "InParallelStep", known(key), &mut |d, field, v| match field {
                "in_parallel" => in_parallel(d, v).map(|p| parallel = p),
                _ => d.tags(v, &mut tags),
            })?;
            Core::InParallel(InParallel { tags, ..parallel })
        }
        _ => return Ok(None),
    };
    Ok(Some(core))
}

fn get<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<Get> {
    let mut s = Get::default();
    part(d, view, "GetStep", &GET, &mut |d, field, v| match field {
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

fn put<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<Put> {
    let mut s = Put::default();
    part(d, view, "PutStep", &PUT, &mut |d, field, v| match field {
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

fn task<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<TaskStep> {
    let mut s = TaskStep::default();
    part(d, view, "TaskStep", &TASK, &mut |d, field, v| match field {
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

fn run<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<Run> {
    let mut s = Run::default();
    part(d, view, "RunStep", &RUN, &mut |d, field, v| match field {
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

fn set_pipeline<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<SetPipeline> {
    let mut s = SetPipeline::default();
    part(d, view, "SetPipelineStep", &SET_PIPELINE, &mut |d, field, v| match field {
        "set_pipeline" => d.string(v, &mut s.name),
        "file" => d.string(v, &mut s.file),
        "team" => d.string(v, &mut s.team),
        "vars" => d.object(v, "atc.Params", &mut s.vars),
        "var_files" => d.strings(v, &mut s.var_files),
        _ => d.object(v, "atc.InstanceVars", &mut s.instance_vars),
    })?;
    Ok(s)
}

fn load_var<'v>(d: &mut Decoder<'v>, view: &View<'v>) -> Taken<LoadVar> {
    let mut s = LoadVar::default();
    part(d, view, "LoadVarStep", &LOAD_VAR, &mut |d, field, v| match field {
        "load_var" => d.string(v, &mut s.name),
        "file" => d.string(v, &mut s.file),
        "format" => d.string(v, &mut s.format),
        _ => d.boolean(v, &mut s.reveal),
    })?;
    Ok(s)
}

fn in_parallel<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<InParallel> {
    let mut parallel = InParallel::default();
    match value {
        Value::Array(_) => {
            parallel.steps = d
                .alone(false, |d| steps(d, value))
                .map_err(|fault| fault.wrapped(|f| format!("failed to unmarshal parallel steps: {f}")))?
                .0
                .unwrap_or_default();
        }
        Value::Object(map) => {
            let known = ["steps", "limit", "fail_fast"];
            part(d, &View::of(map), "target", &known, &mut |d, field, v| match field {
                "steps" => steps(d, v).map(|list| parallel.steps = list.0.unwrap_or_default()),
                "limit" => d.integer(v, &mut parallel.limit),
                _ => d.boolean(v, &mut parallel.fail_fast),
            })
            .map_err(|fault| fault.wrapped(|f| format!("failed to unmarshal parallel config: {f}")))?;
        }
        other => return d.other(format!("wrong type for parallel config: {}", shown(other))),
    }
    Ok(parallel)
}

fn across_var<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<AcrossVar> {
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

fn max_in_flight<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<Option<MaxInFlight>> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if s == "all" => Ok(Some(MaxInFlight::All)),
        Value::String(s) => d.other(format!("invalid max_in_flight {}", quoted(s))),
        other => d.custom(false, |d| {
            let mut limit = 0;
            d.integer(other, &mut limit).map(|()| Some(MaxInFlight::Limit(limit)))
        }),
    }
}

fn version_config<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<Option<VersionConfig>> {
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

fn put_inputs<'v>(d: &mut Decoder<'v>, value: &'v Value) -> Taken<Option<PutInputs>> {
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
