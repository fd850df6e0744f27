//! How pipelines, jobs, resources and versions are named on the command line.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pipeline::{self, instance};
use crate::vars::{self, Reference};

/// Why a name cannot be read; the text is fly's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A pipeline that has no name.
    #[error("pipeline: identifier cannot be an empty string")]
    Nameless,
    /// A job or resource without its pipeline.
    #[error("argument format should be <pipeline>/<{0}>")]
    Whole(&'static str),
    /// Instance vars that are not pairs.
    #[error("instance vars should be formatted as <key1:value1>(,<key2:value2>)")]
    InstanceVars,
    /// A value of an instance var that is not YAML.
    #[error("invalid value for key '{0}': {1}")]
    Value(String, String),
    /// A variable whose name cannot be read.
    #[error(transparent)]
    Var(#[from] vars::Error),
    /// A variable without a value.
    #[error("invalid variable pair '{0}' (must be name=value)")]
    Pair(String),
    /// A YAML value that is not YAML.
    #[error("{0}")]
    Yaml(String),
}

/// A variable, and the value given for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Its name.
    pub reference: Reference,
    /// What it is set to.
    pub value: Value,
}

/// A pipeline, or one of its instances.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PipelineRef {
    /// The pipeline's name.
    pub name: String,
    /// The instance's vars, if it is one.
    #[serde(rename = "instance_vars")]
    pub vars: Option<Map<String, Value>>,
}

impl PipelineRef {
    /// Refuses one without a name, as commands do that act on a pipeline itself.
    pub fn named(&self) -> Result<(), ReferenceError> {
        if self.name.is_empty() { Err(ReferenceError::Nameless) } else { Ok(()) }
    }

    /// Its vars as query parameters, sorted.
    pub fn query(&self) -> Vec<(String, String)> {
        self.vars
            .as_ref()
            .map(instance::flatten)
            .unwrap_or_default()
            .into_iter()
            .map(|(path, value)| (format!("vars.{path}"), value.to_string()))
            .collect()
    }
}

impl fmt::Display for PipelineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.vars {
            Some(vars) => write!(f, "/{}", InstanceVars(vars.clone())),
            None => Ok(()),
        }
    }
}

impl FromStr for PipelineRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None => Ok(PipelineRef { name: text.to_owned(), vars: None }),
            Some((name, vars)) => {
                Ok(PipelineRef { name: name.to_owned(), vars: Some(vars.parse::<InstanceVars>()?.0) })
            }
        }
    }
}

/// The vars of an instance on their own.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceVars(pub Map<String, Value>);

impl fmt::Display for InstanceVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&instance::text(&self.0))
    }
}

impl FromStr for InstanceVars {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        let mut vars = Map::new();
        while let Some(colon) = find_unquoted(rest, "\"", |c, _| c == ':') {
            let key = &rest[..colon];
            rest = &rest[colon + 1..];
            let comma = find_unquoted(rest, "\"'", |c, depth| c == ',' && depth == 0);
            let raw = &rest[..comma.unwrap_or(rest.len())];
            let value = yaml_value(raw).map_err(|e| ReferenceError::Value(key.to_owned(), e))?;
            assign(&mut vars, &Reference::parse(key)?, value);
            match comma {
                Some(comma) => rest = &rest[comma + 1..],
                None => break,
            }
        }
        if vars.is_empty() { Err(ReferenceError::InstanceVars) } else { Ok(InstanceVars(vars)) }
    }
}

/// A job of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRef {
    /// Its pipeline.
    pub pipeline: PipelineRef,
    /// Its name.
    pub name: String,
}

impl FromStr for JobRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pipeline, name) = split_last(text, "job")?;
        Ok(JobRef { pipeline, name })
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.name)
    }
}

/// A resource, or a resource type, of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceRef {
    /// Its pipeline.
    pub pipeline: PipelineRef,
    /// Its name.
    pub name: String,
}

impl FromStr for ResourceRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pipeline, name) = split_last(text, "resource")?;
        Ok(ResourceRef { pipeline, name })
    }
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.name)
    }
}

/// One field of a version; what follows the first colon is its value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VersionField(pub String, pub String);

impl FromStr for VersionField {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once(':').unwrap_or((text, ""));
        Ok(VersionField(key.to_owned(), value.to_owned()))
    }
}

/// The fields as a version, sorted as Go prints maps.
pub fn version(fields: &[VersionField]) -> Map<String, Value> {
    let sorted: std::collections::BTreeMap<_, _> = fields.iter().map(|f| (f.0.clone(), f.1.clone())).collect();
    sorted.into_iter().map(|(k, v)| (k, Value::from(v))).collect()
}

/// Reads `name=text` of `-v`.
pub fn string_assignment(text: &str) -> Result<Assignment, ReferenceError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ReferenceError::Pair(text.to_owned()))?;
    Ok(Assignment { reference: Reference::parse(name)?, value: Value::from(value) })
}

/// Reads `name=yaml` of `-y` and `-i`.
pub fn yaml_assignment(text: &str) -> Result<Assignment, ReferenceError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ReferenceError::Pair(text.to_owned()))?;
    Ok(Assignment { reference: Reference::parse(name)?, value: yaml_value(value).map_err(ReferenceError::Yaml)? })
}

/// Sets what the assignments say, later ones over earlier ones.
pub fn expand<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Map<String, Value> {
    let mut out = Map::new();
    for a in assignments {
        assign(&mut out, &a.reference, a.value.clone());
    }
    out
}

fn assign(out: &mut Map<String, Value>, reference: &Reference, value: Value) {
    upsert(out, &reference.path, &reference.fields, value);
}

fn upsert(map: &mut Map<String, Value>, key: &str, fields: &[String], value: Value) {
    let Some((next, rest)) = fields.split_first() else {
        map.insert(key.to_owned(), value);
        return;
    };
    let node = map.entry(key.to_owned()).or_insert(Value::Null);
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    if let Value::Object(inner) = node {
        upsert(inner, next, rest, value);
    }
}

/// The leaves of a map as assignments.
pub fn assignments(vars: &Map<String, Value>) -> Vec<Assignment> {
    instance::leaves(vars).into_iter().map(|(reference, value)| Assignment { reference, value }).collect()
}

fn split_last(text: &str, what: &'static str) -> Result<(PipelineRef, String), ReferenceError> {
    match text.rsplit_once('/') {
        Some((pipeline, name)) if !name.is_empty() => Ok((pipeline.parse()?, name.to_owned())),
        _ => Err(ReferenceError::Whole(what)),
    }
}

fn yaml_value(text: &str) -> Result<Value, String> {
    pipeline::to_json(text.as_bytes()).map_err(|e| e.message)
}

/// The first byte outside quotes that `stop` wants, told how deep in brackets it is.
fn find_unquoted(text: &str, quotes: &str, stop: impl Fn(char, i32) -> bool) -> Option<usize> {
    let (mut quote, mut depth, mut escaped) = (None, 0, false);
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if std::mem::take(&mut escaped) => {}
            Some('"') if c == '\\' => escaped = true,
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None if stop(c, depth) => return Some(i),
            None if quotes.contains(c) => quote = Some(c),
            None => match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => {}
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn names_read_as_fly_reads_them() {
        for (text, name, vars) in [
            ("ci", "ci", Value::Null),
            ("ci/branch:main,n:2", "ci", json!({"branch": "main", "n": 2})),
            ("ci/a.b:x,a.c:[1,2]", "ci", json!({"a": {"b": "x", "c": [1, 2]}})),
            ("ci/branch:\"a/b\",\"x.y\":'1'", "ci", json!({"branch": "a/b", "x.y": "1"})),
        ] {
            let pipeline: PipelineRef = text.parse().unwrap();
            assert_eq!((pipeline.name.as_str(), json!(pipeline.vars)), (name, vars), "{text}");
        }
        assert_eq!("ci/x".parse::<PipelineRef>().unwrap_err(), ReferenceError::InstanceVars);
        assert_eq!("ci".parse::<JobRef>().unwrap_err().to_string(), "argument format should be <pipeline>/<job>");
        let job: JobRef = "ci/a:b/unit".parse().unwrap();
        assert_eq!((job.name.as_str(), job.pipeline.to_string().as_str()), ("unit", "ci/a:b"));
    }

    #[test]
    fn names_print_as_fly_prints_them() {
        for (vars, text) in [
            (json!({"branch": "a/b", "n": 1}), "p/branch:\"a/b\",n:1"),
            (json!({"s": "1", "t": "true", "u": "x"}), "p/s:\"1\",t:\"true\",u:x"),
            (json!({"b": {"a": [1, "x"]}, "a": null}), "p/a:null,b.a:[1,\"x\"]"),
        ] {
            let Value::Object(vars) = vars else { panic!("an object") };
            assert_eq!(PipelineRef { name: "p".into(), vars: Some(vars) }.to_string(), text);
        }
    }

    #[test]
    fn instances_become_query_parameters() {
        let pipeline: PipelineRef = "p/n:1,branch:\"a/b\"".parse().unwrap();
        assert_eq!(pipeline.query(), [("vars.branch".into(), "\"a/b\"".into()), ("vars.n".into(), "1".into())]);
    }

    #[test]
    fn assignments_nest_and_the_last_wins() {
        let given: Vec<_> = ["a.b=1", "c=x=y", "a.d="].iter().map(|t| string_assignment(t).unwrap()).collect();
        assert_eq!(Value::Object(expand(&given)), json!({"a": {"b": "1", "d": ""}, "c": "x=y"}));
        assert_eq!(yaml_assignment("y={z: 4}").unwrap().value, json!({"z": 4}));
        assert_eq!(string_assignment("x").unwrap_err().to_string(), "invalid variable pair 'x' (must be name=value)");
    }

    #[test]
    fn a_version_is_its_fields() {
        let fields: Vec<VersionField> = ["ref:a:b,x", "branch:y"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(Value::Object(version(&fields)).to_string(), r#"{"branch":"y","ref":"a:b,x"}"#);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(key in "[a-z]{1,4}", text in "[ -~]{0,12}", n in any::<i32>()) {
            let vars = json!({key: text, "other": n});
            let Value::Object(vars) = vars else { unreachable!("an object") };
            let pipeline = PipelineRef { name: "p".into(), vars: Some(vars) };
            prop_assert_eq!(pipeline.to_string().parse::<PipelineRef>().unwrap(), pipeline);
        }
    }
}
