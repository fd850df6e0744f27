//! The configuration of a credential manager as Go's mapstructure takes it: each key of its type, none unknown.

use serde_json::{Map, Value};

use crate::base::duration::nanos;

/// What a key may hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    Duration,
    Texts,
    TextMap,
    /// Something only the server's own flags can fill.
    Inner,
}

/// A credential manager's name in Go, and its keys in Go's order.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) keys: &'static [(&'static str, Kind)],
}

/// AWS Systems Manager.
pub(super) const SSM: Shape = Shape {
    name: "ssm.SsmManager",
    keys: &[
        ("access_key", Kind::Text),
        ("secret_key", Kind::Text),
        ("session_token", Kind::Text),
        ("region", Kind::Text),
        ("pipeline_secret_template", Kind::Text),
        ("team_secret_template", Kind::Text),
        ("shared_path", Kind::Text),
        ("Ssm", Kind::Inner),
    ],
};

/// AWS Secrets Manager.
pub(super) const SECRETS_MANAGER: Shape = Shape {
    name: "secretsmanager.Manager",
    keys: &[
        ("access_key", Kind::Text),
        ("secret_key", Kind::Text),
        ("session_token", Kind::Text),
        ("region", Kind::Text),
        ("pipeline_secret_template", Kind::Text),
        ("team_secret_template", Kind::Text),
        ("shared_secret_template", Kind::Text),
        ("SecretManager", Kind::Inner),
    ],
};

/// Vault.
pub(super) const VAULT: Shape = Shape {
    name: "vault.VaultManager",
    keys: &[
        ("url", Kind::Text),
        ("path_prefix", Kind::Text),
        ("lookup_templates", Kind::Texts),
        ("shared_path", Kind::Text),
        ("namespace", Kind::Text),
        ("login_timeout", Kind::Duration),
        ("query_timeout", Kind::Duration),
        ("enable_kv_mount_cache", Kind::Flag),
        ("Client", Kind::Inner),
        ("ReAuther", Kind::Inner),
        ("SecretFactory", Kind::Inner),
        ("disable_srv_lookup", Kind::Flag),
        ("ca_cert", Kind::Text),
        ("CACertFile", Kind::Text),
        ("CAPath", Kind::Text),
        ("client_cert", Kind::Text),
        ("ClientCertFile", Kind::Text),
        ("client_key", Kind::Text),
        ("ClientKeyFile", Kind::Text),
        ("server_name", Kind::Text),
        ("insecure_skip_verify", Kind::Flag),
        ("client_token", Kind::Text),
        ("client_token_path", Kind::Text),
        ("auth_backend", Kind::Text),
        ("auth_backend_max_ttl", Kind::Duration),
        ("auth_retry_max", Kind::Duration),
        ("auth_retry_initial", Kind::Duration),
        ("auth_params", Kind::TextMap),
    ],
};

impl Shape {
    /// Everything that is wrong with a configuration of this shape, in Go's words.
    pub(super) fn problem(&self, config: &Map<String, Value>) -> Option<String> {
        let mut wrong = Vec::new();
        let mut unused: Vec<&str> = config.keys().map(String::as_str).collect();
        for (key, kind) in self.keys {
            let Some((written, value)) = entry(config, key) else { continue };
            unused.retain(|name| *name != written);
            check(key, *kind, value, &mut wrong);
        }
        if !unused.is_empty() {
            unused.sort_unstable();
            wrong.push(format!("'{}' has invalid keys: {}", self.name, unused.join(", ")));
        }
        let list = wrong.join("\n");
        (!wrong.is_empty()).then(|| format!("decoding failed due to the following error(s):\n\n{list}"))
    }
}

/// The text of a key; none where it is not there or null.
pub(super) fn text<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m str> {
    entry(map, key).and_then(|(_, value)| value.as_str())
}

/// A key and its value; the case of its letters matters only where both are there.
pub(super) fn entry<'m>(map: &'m Map<String, Value>, key: &str) -> Option<(&'m str, &'m Value)> {
    let found = map.get_key_value(key).or_else(|| map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)));
    found.map(|(name, value)| (name.as_str(), value))
}

fn check(key: &str, kind: Kind, value: &Value, wrong: &mut Vec<String>) {
    let unconvertible = |wanted: &str| {
        let got = super::credentials::go_type(Some(value));
        format!("'{key}' expected type '{wanted}', got unconvertible type '{got}'")
    };
    match (kind, value) {
        (_, Value::Null)
        | (Kind::Text, Value::String(_))
        | (Kind::Flag, Value::Bool(_))
        | (Kind::Duration, Value::Number(_)) => {}
        (Kind::Text, _) => wrong.push(unconvertible("string")),
        (Kind::Flag, _) => wrong.push(unconvertible("bool")),
        (Kind::Duration, Value::String(text)) => {
            if let Err(error) = nanos(text) {
                let told = error.to_string();
                wrong.push(format!("'{key}' {}", told.split(" \"").next().unwrap_or(&told)));
            }
        }
        (Kind::Duration, _) => wrong.push(unconvertible("time.Duration")),
        (Kind::Texts, Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                check(&format!("{key}[{i}]"), Kind::Text, item, wrong);
            }
        }
        (Kind::Texts, _) => {
            let got = go_kind(value);
            wrong.push(format!("'{key}' source data must be an array or slice, got {got}"));
        }
        (Kind::TextMap, Value::Object(map)) => {
            for (name, item) in map {
                check(&format!("{key}[{name}]"), Kind::Text, item, wrong);
            }
        }
        (Kind::TextMap, _) => wrong.push(unconvertible("map[string]string")),
        (Kind::Inner, Value::Object(map)) => {
            if !map.is_empty() {
                let keys: Vec<_> = map.keys().map(String::as_str).collect();
                wrong.push(format!("'{key}' has invalid keys: {}", keys.join(", ")));
            }
        }
        (Kind::Inner, _) => wrong.push(format!("'{key}' expected a map or struct, got {:?}", go_kind(value))),
    }
}

/// The kind of a value in Go.
pub(super) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}
