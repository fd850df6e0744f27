//! A pipeline's own sources of variables.

use serde_json::{Map, Value};

use super::manager::{self, Shape, text};
use super::{Entry, Findings, secret_path, url};
use crate::base::duration::nanos;
use crate::pipeline::problem::{Problem, Section};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, VarSource};
use crate::vars;

const MANAGERS: &str = "use one of: vault, dummy, ssm, secretsmanager, idtoken";

pub(super) fn var_sources(config: &Config, findings: &mut Findings) {
    let section = Section::VarSources;
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (index, source) in config.var_sources.iter().enumerate() {
        let entry = Entry { section, key: "var_sources", index, name: &source.name };
        findings.name(&entry);
        let at = entry.at_key("type");
        match source.kind.as_str() {
            "vault" | "dummy" | "ssm" | "secretsmanager" | "idtoken" => {}
            "conjur" | "credhub" | "kubernetes" => {
                let message = format!("credential manager type {} is not supported in pipeline yet", source.kind);
                findings.refuse(Problem::new(section, &at, message).remedy(MANAGERS));
            }
            other => {
                let message = format!("unknown credential manager type: {other}");
                findings.refuse(Problem::new(section, &at, message).remedy(MANAGERS));
                continue;
            }
        }
        if let Some((_, other)) = seen.iter().find(|(name, _)| *name == source.name) {
            let message = format!("{other} and {} have the same name ('{}')", entry.location(), source.name);
            findings.refuse(Problem::new(section, &entry.at_key("name"), message));
        }
        seen.retain(|(name, _)| *name != source.name);
        seen.push((&source.name, entry.location()));
        let name = &source.name;
        let message = match check(source) {
            Ok(()) => continue,
            Err(Refusal::Config(why)) => format!("failed to create credential manager {name}: {why}"),
            Err(Refusal::Meaning(why)) => format!("credential manager {name} is invalid: {why}"),
        };
        findings.refuse(Problem::new(section, &entry.at_key("config"), message));
    }
    let stuck = interdependent(&config.var_sources);
    if !stuck.is_empty() {
        let names = stuck.join(", ");
        let message = format!("failed to order by dependency: could not resolve inter-dependent var sources: {names}");
        findings.refuse(Problem::new(section, &[Segment::Key("var_sources".into())], message));
    }
}

/// Sources whose configuration needs, directly or not, a source that is not there or needs them.
fn interdependent(sources: &[VarSource]) -> Vec<&str> {
    let mut pending: Vec<_> = sources.iter().map(|source| (source.name.as_str(), needs(&source.config))).collect();
    let mut added: Vec<&str> = Vec::new();
    loop {
        let (ready, left): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|(_, needs)| needs.iter().all(|need| added.contains(&need.as_str())));
        added.extend(ready.iter().map(|(name, _)| *name));
        if ready.is_empty() {
            return left.into_iter().map(|(name, _)| name).collect();
        }
        pending = left;
    }
}

fn needs(config: &Value) -> Vec<String> {
    let text = config.to_string().replace("\\\"", "\"");
    vars::names(&text).iter().filter_map(|name| name.split_once(':')).map(|(source, _)| source.to_owned()).collect()
}

/// Why a source cannot be used.
enum Refusal {
    /// Its configuration has the wrong shape.
    Config(String),
    /// Its configuration lacks or contradicts something.
    Meaning(String),
}

fn shape<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Config(why.into()))
}

fn meaning<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Meaning(why.into()))
}

/// The name of a value's type in Go.
pub(super) fn go_type(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "<nil>",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(_)) => "float64",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "[]interface {}",
        Some(Value::Object(_)) => "map[string]interface {}",
    }
}

fn check(source: &VarSource) -> Result<(), Refusal> {
    let map = source.config.as_object();
    match (source.kind.as_str(), map) {
        ("dummy", Some(map)) if map.get("vars").is_some_and(Value::is_object) => Ok(()),
        ("dummy", Some(map)) => shape(format!("invalid vars config: {}", go_type(map.get("vars")))),
        ("dummy", None) => shape(format!("invalid dummy credential manager config: {}", go_type(Some(&source.config)))),
        ("vault", None) => shape("invalid vault config format"),
        ("vault", Some(map)) => vault(map),
        ("idtoken", None) => shape(format!("invalid idtoken provider config: {}", go_type(Some(&source.config)))),
        ("idtoken", Some(map)) => id_token(map),
        ("ssm", Some(map)) => aws(map, &manager::SSM, &AWS_TEMPLATES[..2]),
        ("secretsmanager", Some(map)) => aws(map, &manager::SECRETS_MANAGER, &AWS_TEMPLATES),
        ("ssm" | "secretsmanager", None) if source.config.is_null() => Ok(()),
        ("ssm" | "secretsmanager", None) => {
            shape(format!("'' expected a map or struct, got {:?}", manager::go_kind(&source.config)))
        }
        // These are refused anyway; what Concourse adds is what their zero values lack.
        ("conjur", _) => meaning("secret template should not be empty"),
        ("credhub", _) => meaning("invalid URL (must be http or https)"),
        _ => meaning(
            "invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable",
        ),
    }
}

fn template(name: &str, text: &str) -> Result<(), Refusal> {
    secret_path::problem(name, text).map_or(Ok(()), meaning)
}

fn vault(map: &Map<String, Value>) -> Result<(), Refusal> {
    manager::VAULT.problem(map).map_or(Ok(()), shape)?;
    url::parse(text(map, "url").unwrap_or_default()).or_else(|why| meaning(format!("invalid URL: {why}")))?;
    let prefix = text(map, "path_prefix").unwrap_or("/concourse");
    if prefix.is_empty() {
        return meaning("path prefix must be a non-empty string");
    }
    let templates = manager::entry(map, "lookup_templates").and_then(|(_, list)| list.as_array());
    for (i, lookup) in templates.into_iter().flatten().enumerate() {
        let path = format!("{prefix}{}", lookup.as_str().unwrap_or_default());
        template(&format!("lookup-template-{i}"), &path)?;
    }
    let keys = ["client_token", "client_token_path", "auth_backend"];
    match keys.iter().any(|key| text(map, key).is_some_and(|text| !text.is_empty())) {
        true => Ok(()),
        false => meaning("must configure client token or auth backend"),
    }
}

const AWS_TEMPLATES: [(&str, &str); 3] = [
    ("pipeline_secret_template", "pipeline-secret-template"),
    ("team_secret_template", "team-secret-template"),
    ("shared_secret_template", "shared-secret-template"),
];

fn aws(map: &Map<String, Value>, keys: &Shape, templates: &[(&str, &str)]) -> Result<(), Refusal> {
    keys.problem(map).map_or(Ok(()), shape)?;
    for (key, name) in templates {
        text(map, key).map_or(Ok(()), |path| template(name, path))?;
    }
    let [id, secret, token] =
        ["access_key", "secret_key", "session_token"].map(|key| text(map, key).unwrap_or_default());
    match (id, secret, token) {
        ("", "", "") => Ok(()),
        ("", _, _) => meaning("must provide aws access key id"),
        (_, "", _) => meaning("must provide aws secret access key"),
        _ => Ok(()),
    }
}

fn id_token(map: &Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in map {
        let wrong = |why: &str| shape(format!("invalid idtoken provider config: {why}"));
        match (key.as_str(), value) {
            ("audience", Value::Array(list)) if list.iter().all(Value::is_string) => {}
            ("audience", Value::Array(_)) => return wrong("invalid audience value: %!w(<nil>)"),
            ("audience", _) => return wrong("audience must be a list of strings"),
            ("subject_scope" | "algorithm", Value::String(_)) => {}
            ("expires_in", Value::String(text)) => {
                nanos(text).map(drop).or_else(|why| wrong(&format!("invalid expires_in value: {why}")))?;
            }
            ("subject_scope" | "algorithm" | "expires_in", _) => return wrong(&format!("{key} must be a string")),
            _ => return wrong(&format!("unknown setting: {key}")),
        }
    }
    let given = |key: &str| map.get(key).and_then(Value::as_str);
    let scope = given("subject_scope").unwrap_or("pipeline");
    if !matches!(scope, "" | "team" | "pipeline" | "instance" | "job") {
        return meaning(format!("invalid subject_scope value: {scope}"));
    }
    if given("expires_in").and_then(|text| nanos(text).ok()).is_some_and(|n| n > DAY) {
        return meaning("expires_in must be <= 24h0m0s");
    }
    match given("algorithm") {
        None | Some("RS256" | "ES256") => Ok(()),
        Some(_) => meaning(format!("invalid algorithm value: {scope}. Only RS256 and ES256 are supported")),
    }
}

/// In nanoseconds.
const DAY: i64 = 86_400_000_000_000;
