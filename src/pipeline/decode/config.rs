//! The top of a pipeline: everything but steps.

use serde_json::{Map, Value};

use super::step::take_step;
use super::{Decoder, Fault, Taken, View, field};
use crate::base::version::Version;
use crate::pipeline::{Config, Display, Group, Job, Listing, LogRetention, Resource, ResourceType, Step, VarSource};

pub(in crate::pipeline) const TOP: [&str; 8] =
    ["groups", "var_sources", "resources", "resource_types", "prototypes", "jobs", "display", "user_data"];

pub(in crate::pipeline) const RESOURCE: [&str; 12] = [
    "name",
    "old_name",
    "public",
    "webhook_token",
    "type",
    "source",
    "check_every",
    "check_timeout",
    "tags",
    "version",
    "icon",
    "expose_build_created_by",
];

pub(in crate::pipeline) const RESOURCE_TYPE: [&str; 8] =
    ["name", "type", "source", "defaults", "privileged", "check_every", "tags", "params"];

pub(in crate::pipeline) const JOB: [&str; 18] = [
    "name",
    "old_name",
    "public",
    "disable_manual_trigger",
    "disable_reruns",
    "serial",
    "interruptible",
    "serial_groups",
    "max_in_flight",
    "tags",
    "build_logs_to_retain",
    "build_log_retention",
    "on_success",
    "on_failure",
    "on_abort",
    "on_error",
    "ensure",
    "plan",
];

/// Who reads a pipeline decides which keys it may hold. Steps know all their keys, whoever reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The server: keys nobody knows are dropped at the top and refused below.
    Server,
    /// The client: keys nobody knows are dropped everywhere.
    Client,
    /// The client when asked to be strict: keys nobody knows are refused everywhere.
    Strict,
}

/// Takes a pipeline.
pub fn config<'v>(value: &'v Value, reading: Reading) -> Result<Config, Fault> {
    let mut decoder = Decoder::new(reading != Reading::Client, true);
    let mut config = Config::default();
    let names = ("Config", "atc.Config");
    let mut visit = |d: &mut Decoder<'v>, field: &'static str, v: &'v Value| take_top(d, field, v, &mut config);
    let result = match (reading, value) {
        (Reading::Server, Value::Object(map)) => decoder.entries(known_entries(map), names.0, &TOP, &mut visit),
        (Reading::Server, Value::Null) => Ok(()),
        (Reading::Server, other) => {
            decoder.mismatch(other, "atc.skeletonConfig");
            Ok(())
        }
        _ => decoder.structure(value, names, &TOP, &mut visit),
    };
    decoder.finish(result)?;
    Ok(config)
}

/// The keys that mean something at the top; of several that mean the same, the last one.
fn known_entries(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut last: Vec<(&'static str, (&String, &Value))> = Vec::new();
    for entry in View::of(map).entries() {
        if let Some(meant) = field(entry.0, &TOP) {
            last.retain(|(other, _)| *other != meant);
            last.push((meant, entry));
        }
    }
    last.sort_by_key(|(meant, _)| *meant);
    last.into_iter().map(|(_, entry)| entry).collect()
}

fn take_top<'v>(d: &mut Decoder<'v>, field: &str, v: &'v Value, config: &mut Config) -> Taken {
    match field {
        "groups" => config.groups = d.list(v, "atc.GroupConfigs", group)?.unwrap_or_default(),
        "var_sources" => config.var_sources = d.list(v, "atc.VarSourceConfigs", var_source)?.unwrap_or_default(),
        "resources" => config.resources = d.list(v, "atc.ResourceConfigs", resource)?.unwrap_or_default(),
        "resource_types" => {
            let names = ("ResourceType", "atc.ResourceType");
            let types = d.list(v, "atc.ResourceTypes", |d, v| resource_type(d, v, names))?;
            config.resource_types = types.unwrap_or_default();
        }
        "prototypes" => {
            let names = ("Prototype", "atc.Prototype");
            config.prototypes = d.list(v, "atc.Prototypes", |d, v| resource_type(d, v, names))?.unwrap_or_default();
        }
        "jobs" => config.jobs = d.list(v, "atc.JobConfigs", job)?.unwrap_or_default(),
        "display" => config.display = display(d, v)?,
        _ => config.user_data = v.clone(),
    }
    Ok(())
}

fn group<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Group> {
    let mut group = Group::default();
    let known = ["name", "jobs", "resources"];
    d.structure(v, ("GroupConfig", "atc.GroupConfig"), &known, &mut |d, field, v| match field {
        "name" => d.string(v, &mut group.name),
        "jobs" => d.strings(v, &mut group.jobs),
        _ => d.strings(v, &mut group.resources),
    })?;
    Ok(group)
}

fn var_source<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<VarSource> {
    let mut source = VarSource::default();
    let known = ["name", "type", "config"];
    d.structure(v, ("VarSourceConfig", "atc.VarSourceConfig"), &known, &mut |d, field, v| match field {
        "name" => d.string(v, &mut source.name),
        "type" => d.string(v, &mut source.kind),
        _ => {
            source.config = v.clone();
            Ok(())
        }
    })?;
    Ok(source)
}

fn display<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Option<Display>> {
    if v.is_null() {
        return Ok(None);
    }
    let mut display = Display::default();
    let known = ["background_image", "background_filter"];
    d.structure(v, ("DisplayConfig", "atc.DisplayConfig"), &known, &mut |d, field, v| match field {
        "background_image" => d.string(v, &mut display.background_image),
        _ => d.string(v, &mut display.background_filter),
    })?;
    Ok(Some(display))
}

/// A version in a resource or an image; a map of texts.
pub(super) fn version<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Option<Version>> {
    let texts = d.text_map(v, "atc.Version")?;
    Ok(v.is_object().then_some(Version(texts)))
}

fn resource<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Resource> {
    let mut r = Resource::default();
    let names = ("ResourceConfig", "atc.ResourceConfig");
    d.structure(v, names, &RESOURCE, &mut |d, field, v| match field {
        "name" => d.string(v, &mut r.name),
        "old_name" => d.string(v, &mut r.old_name),
        "public" => d.boolean(v, &mut r.public),
        "webhook_token" => d.string(v, &mut r.webhook_token),
        "type" => d.string(v, &mut r.kind),
        "source" => d.object(v, "atc.Source", &mut r.source),
        "check_every" => d.check_every(v).map(|every| r.check_every = every),
        "check_timeout" => d.string(v, &mut r.check_timeout),
        "tags" => d.tags(v, &mut r.tags),
        "version" => version(d, v).map(|version| r.version = version),
        "icon" => d.string(v, &mut r.icon),
        _ => d.boolean(v, &mut r.expose_build_created_by),
    })?;
    Ok(r)
}

fn resource_type<'v>(d: &mut Decoder<'v>, v: &'v Value, names: (&'static str, &'static str)) -> Taken<ResourceType> {
    let mut r = ResourceType::default();
    d.structure(v, names, &RESOURCE_TYPE, &mut |d, field, v| match field {
        "name" => d.string(v, &mut r.name),
        "type" => d.string(v, &mut r.kind),
        "source" => d.object(v, "atc.Source", &mut r.source),
        "defaults" => d.object(v, "atc.Source", &mut r.defaults),
        "privileged" => d.boolean(v, &mut r.privileged),
        "check_every" => d.check_every(v).map(|every| r.check_every = every),
        "tags" => d.tags(v, &mut r.tags),
        _ => d.object(v, "atc.Params", &mut r.params),
    })?;
    Ok(r)
}

fn hook<'v>(d: &mut Decoder<'v>, v: &'v Value, to: &mut Option<Step>) -> Taken {
    *to = if v.is_null() { None } else { Some(d.custom(false, |d| take_step(d, v))?) };
    Ok(())
}

fn job<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Job> {
    let mut j = Job::default();
    d.structure(v, ("JobConfig", "atc.JobConfig"), &JOB, &mut |d, field, v| match field {
        "name" => d.string(v, &mut j.name),
        "old_name" => d.string(v, &mut j.old_name),
        "public" => d.boolean(v, &mut j.public),
        "disable_manual_trigger" => d.boolean(v, &mut j.disable_manual_trigger),
        "disable_reruns" => d.boolean(v, &mut j.disable_reruns),
        "serial" => d.boolean(v, &mut j.serial),
        "interruptible" => d.boolean(v, &mut j.interruptible),
        "serial_groups" => d.strings(v, &mut j.serial_groups),
        "max_in_flight" => d.integer(v, &mut j.max_in_flight),
        "tags" => d.tags(v, &mut j.tags),
        "build_logs_to_retain" => d.integer(v, &mut j.build_logs_to_retain),
        "build_log_retention" => retention(d, v).map(|kept| j.build_log_retention = kept),
        "on_success" => hook(d, v, &mut j.on_success),
        "on_failure" => hook(d, v, &mut j.on_failure),
        "on_abort" => hook(d, v, &mut j.on_abort),
        "on_error" => hook(d, v, &mut j.on_error),
        "ensure" => hook(d, v, &mut j.ensure),
        _ => steps(d, v).map(|plan| j.plan = plan),
    })?;
    Ok(j)
}

/// A list of steps, or null.
pub(super) fn steps<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Listing<Step>> {
    d.list(v, "[]atc.Step", |d, v| d.custom(false, |d| take_step(d, v))).map(Listing)
}

fn retention<'v>(d: &mut Decoder<'v>, v: &'v Value) -> Taken<Option<LogRetention>> {
    if v.is_null() {
        return Ok(None);
    }
    let mut kept = LogRetention::default();
    let known = ["builds", "minimum_succeeded_builds", "days"];
    d.structure(v, ("BuildLogRetention", "atc.BuildLogRetention"), &known, &mut |d, field, v| match field {
        "builds" => d.integer(v, &mut kept.builds),
        "minimum_succeeded_builds" => d.integer(v, &mut kept.minimum_succeeded_builds),
        _ => d.integer(v, &mut kept.days),
    })?;
    Ok(Some(kept))
}
