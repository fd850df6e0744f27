//! A task's description, in a step or in a file.

use serde_json::{Number, Value};

use super::config::version;
use super::{Decoder, Fault, Taken, View};
use crate::base::duration::nanos;
use crate::pipeline::limits::parse_memory;
use crate::pipeline::{ImageResource, Limits, TaskCache, TaskConfig, TaskInput, TaskOutput, TaskRun};

/// The keys of a task.
pub const TASK: [&str; 9] =
    ["platform", "rootfs_uri", "image_resource", "container_limits", "params", "run", "inputs", "outputs", "caches"];

/// Takes a task; keys nobody knows are kept aside.
pub fn task(value: &Value) -> Result<TaskConfig, Fault> {
    let mut decoder = Decoder::new(false, false);
    decoder.custom(false, |d| take_task(d, value))
}

pub(super) fn take_task<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<TaskConfig> {
    let mut t = TaskConfig::default();
    match v {
        Value::Null | Value::Object(_) => {}
        other => {
            d.mismatch(other, "map[string]*json.RawMessage");
            return Ok(t);
        }
    }
    d.structure(v, ("taskConfigAlias", "atc.taskConfigAlias"), &TASK, &mut |d, field, v| match field {
        "platform" => d.string(v, &mut t.platform),
        "rootfs_uri" => d.string(v, &mut t.rootfs_uri),
        "image_resource" => image(d, v).map(|image| t.image_resource = image),
        "container_limits" => limits(d, v).map(|limits| t.container_limits = limits),
        "params" => d.environment(v).map(|params| t.params = params),
        "run" => run(d, v).map(|run| t.run = run),
        "inputs" => d.list(v, "[]atc.TaskInputConfig", input).map(|list| t.inputs = list.unwrap_or_default()),
        "outputs" => d.list(v, "[]atc.TaskOutputConfig", output).map(|list| t.outputs = list.unwrap_or_default()),
        _ => d.list(v, "[]atc.TaskCacheConfig", cache).map(|list| t.caches = list.unwrap_or_default()),
    })?;
    if let Value::Object(map) = v {
        t.unknown = View::of(map).rest(&TASK);
    }
    Ok(t)
}

fn image<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Option<ImageResource>> {
    if v.is_null() {
        return Ok(None);
    }
    let mut image = ImageResource::default();
    let known = ["name", "type", "source", "version", "params", "tags"];
    d.structure(v, ("ImageResource", "atc.ImageResource"), &known, &mut |d, field, v| match field {
        "name" => d.string(v, &mut image.name),
        "type" => d.string(v, &mut image.kind),
        "source" => d.object(v, "atc.Source", &mut image.source),
        "version" => version(d, v).map(|version| image.version = version),
        "params" => d.object(v, "atc.Params", &mut image.params),
        _ => d.tags(v, &mut image.tags),
    })?;
    Ok(Some(image))
}

/// Limits of a container.
pub(super) fn limits<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Option<Limits>> {
    if v.is_null() {
        return Ok(None);
    }
    let mut limits = Limits::default();
    let names = ("ContainerLimits", "atc.ContainerLimits");
    d.structure(v, names, &["cpu", "memory"], &mut |d, field, v| match (field, v) {
        (_, Value::Null) => Ok(()),
        ("cpu", Value::Number(n)) => {
            limits.cpu = whole(n);
            Ok(())
        }
        ("cpu", _) => d.other("cpu limit must be an integer"),
        (_, Value::Number(n)) => {
            limits.memory = whole(n);
            Ok(())
        }
        (_, Value::String(text)) => match parse_memory(text) {
            Ok(bytes) => {
                limits.memory = Some(bytes);
                Ok(())
            }
            Err(error) => d.other(error.to_string()),
        },
        _ => {
            limits.memory = Some(0);
            Ok(())
        }
    })?;
    Ok(Some(limits))
}

/// A number as Go makes it one without a sign: what is below zero comes out at the top, what is too large in the middle.
fn whole(n: &Number) -> Option<u64> {
    const SIZE: f64 = 18_446_744_073_709_551_616.0;
    let float = |f: f64| match f {
        f if f < 0.0 => (f as i64).cast_unsigned(),
        f if f >= SIZE => 1 << 63,
        f => f as u64,
    };
    n.as_f64().map(float)
}

fn run<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<TaskRun> {
    let mut run = TaskRun::default();
    let known = ["path", "args", "dir", "user"];
    d.structure(v, ("TaskRunConfig", "atc.TaskRunConfig"), &known, &mut |d, field, v| match field {
        "path" => d.string(v, &mut run.path),
        "args" => d.strings(v, &mut run.args),
        "dir" => d.string(v, &mut run.dir),
        _ => d.string(v, &mut run.user),
    })?;
    Ok(run)
}

fn input<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<TaskInput> {
    let mut input = TaskInput::default();
    let known = ["name", "path", "optional"];
    d.structure(v, ("TaskInputConfig", "atc.TaskInputConfig"), &known, &mut |d, field, v| match field {
        "name" => d.string(v, &mut input.name),
        "path" => d.string(v, &mut input.path),
        _ => d.boolean(v, &mut input.optional),
    })?;
    Ok(input)
}

fn output<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<TaskOutput> {
    let mut output = TaskOutput::default();
    let names = ("TaskOutputConfig", "atc.TaskOutputConfig");
    d.structure(v, names, &["name", "path"], &mut |d, field, v| match field {
        "name" => d.string(v, &mut output.name),
        _ => d.string(v, &mut output.path),
    })?;
    Ok(output)
}

fn cache<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<TaskCache> {
    d.custom(false, |d| {
        let mut cache = TaskCache::default();
        d.structure(v, ("alias", "atc.alias"), &["path", "ttl"], &mut |d, field, v| match field {
            "path" => d.string(v, &mut cache.path),
            _ => d.string(v, &mut cache.ttl),
        })?;
        if d.saved.is_some() || cache.ttl.is_empty() {
            return Ok(cache);
        }
        match nanos(&cache.ttl) {
            Err(error) => d.other(format!("invalid cache ttl '{}': {error}", cache.ttl)),
            Ok(n) if n < 1_000_000_000 => d.other(format!("cache ttl must be at least 1s, got '{}'", cache.ttl)),
            Ok(_) => Ok(cache),
        }
    })
}
