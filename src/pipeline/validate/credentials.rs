//! A pipeline's own sources of variables.

use serde_json::{Map, Value};

use super::{Entry, Findings};
use crate::pipeline::problem::{Problem, Section};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, VarSource};
use crate::vars;

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
                findings.refuse(Problem::new(section, &at, message));
                continue;
            }
            other => {
                findings.refuse(Problem::new(section, &at, format!("unknown credential manager type: {other}")));
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
fn go_type(value: Option<&Value>) -> &'static str {
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
        (_, Some(map)) => aws(map),
        (_, None) if source.config.is_null() => Ok(()),
        (_, None) => shape(format!("'' expected a map, got '{}'", go_type(Some(&source.config)))),
    }
}

fn text<'m>(map: &'m Map<String, Value>, key: &str) -> &'m str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The URL is not looked at: it may still be a variable.
fn vault(map: &Map<String, Value>) -> Result<(), Refusal> {
    if map.contains_key("path_prefix") && text(map, "path_prefix").is_empty() {
        return meaning("path prefix must be a non-empty string");
    }
    let keys = ["client_token", "client_token_path", "auth_backend"];
    match keys.iter().any(|key| !text(map, key).is_empty()) {
        true => Ok(()),
        false => meaning("must configure client token or auth backend"),
    }
}

fn aws(map: &Map<String, Value>) -> Result<(), Refusal> {
    let (id, secret) = (text(map, "access_key"), text(map, "secret_key"));
    match (id, secret, text(map, "session_token")) {
        ("", "", "") => Ok(()),
        ("", _, _) => meaning("must provide aws access key id"),
        (_, "", _) => meaning("must provide aws secret access key"),
        _ => Ok(()),
    }
}

fn id_token(map: &Map<String, Value>) -> Result<(), Refusal> {
    let scope = text(map, "subject_scope");
    if !matches!(scope, "" | "team" | "pipeline" | "instance" | "job") {
        return meaning(format!("invalid subject_scope value: {scope}"));
    }
    let algorithm = text(map, "algorithm");
    match algorithm {
        "" | "RS256" | "ES256" => Ok(()),
        _ => meaning(format!("invalid algorithm value: {scope}. Only RS256 and ES256 are supported")),
    }
}
