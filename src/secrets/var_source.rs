//! A pipeline's own sources (`var_sources`): opened from their filled-in configuration, kept for a while, so that builds
//! of one pipeline share connections and caches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::cache::{CacheSettings, Cached};
use super::dummy::{self, Dummy};
use super::idtoken;
use super::ssm::{self, Ssm};
use super::vault::{self, Vault};
use super::{Manager, Retry, Source, Template};
use crate::base::clock::{Clock, Time};
use crate::base::outgoing::Outgoing;
use crate::base::secret::Secret;
use crate::base::version::{canonical_json, digest};

/// One that was not used for so long is let go (Concourse: `--var-source-recycle-period`).
const KEPT_FOR: Duration = Duration::from_secs(300);

/// An opened source.
#[derive(Clone)]
pub enum Opened {
    /// One that is asked at paths.
    Manager(Arc<Manager>),
    /// One that makes tokens.
    IdToken(idtoken::Settings),
}

/// What the installation lends to a pipeline's source.
pub struct Lent {
    /// How the installation reaches SSM, if it does.
    pub ssm: Option<ssm::Settings>,
    /// How long answers are remembered.
    pub cache: CacheSettings,
    /// How often a source that is down is asked.
    pub retry: Retry,
    /// Where requests may go that a pipeline makes this server send.
    pub rules: Outgoing,
}

/// See the module's doc.
pub struct Pool {
    lent: Lent,
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<String, (Opened, Time)>>,
}

impl Pool {
    /// None open yet.
    pub fn new(lent: Lent, clock: Arc<dyn Clock>) -> Pool {
        Pool { lent, clock, open: Mutex::default() }
    }

    /// The source of this kind and configuration. Teams never share one: what it remembers is theirs.
    pub fn open(&self, team: &str, kind: &str, config: &Value) -> Result<Opened, String> {
        let key = digest(format!("{team}\n{kind}\n{}", canonical_json(config)).as_bytes());
        let now = self.clock.now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, used)| now.since(*used) < KEPT_FOR);
        if let Some((opened, used)) = open.get_mut(&key) {
            *used = now;
            return Ok(opened.clone());
        }
        let opened = self.make(kind, config)?;
        open.insert(key, (opened.clone(), now));
        Ok(opened)
    }

    fn make(&self, kind: &str, config: &Value) -> Result<Opened, String> {
        match kind {
            "dummy" => {
                let templates = dummy::TEMPLATES.iter().map(|t| (*t).to_owned()).collect();
                self.manager(Arc::new(Dummy::new(config.clone())?), templates)
            }
            "ssm" => {
                let (settings, templates) = self.ssm(config)?;
                self.manager(Arc::new(Ssm::new(settings)), templates)
            }
            "vault" => {
                let settings = vault_settings(config, &self.lent.rules)?;
                let templates = settings.paths().map_err(|e| e.to_string())?;
                let source = Arc::new(Vault::new(settings, self.clock.clone()));
                Ok(self.managed(source, templates))
            }
            "idtoken" => Ok(Opened::IdToken(idtoken::Settings::read(config)?)),
            other => Err(format!(
                "sources of type {other} are not known to this server; there are ssm, vault, dummy and idtoken"
            )),
        }
    }

    fn manager(&self, source: Arc<dyn Source>, templates: Vec<String>) -> Result<Opened, String> {
        let templates: Result<Vec<Template>, _> = templates.iter().map(|t| t.parse()).collect();
        Ok(self.managed(source, templates.map_err(|e| e.to_string())?))
    }

    fn managed(&self, source: Arc<dyn Source>, templates: Vec<Template>) -> Opened {
        let cached = Cached::new(source, self.clock.clone(), self.lent.cache);
        Opened::Manager(Arc::new(Manager::new(cached, templates, self.lent.retry)))
    }

    /// Without keys of its own a pipeline asks with the server's rights, and so only at the paths that the operator has
    /// set: anything else would let one team read another's.
    fn ssm(&self, config: &Value) -> Result<(ssm::Settings, Vec<String>), String> {
        let known = [
            "access_key",
            "secret_key",
            "session_token",
            "region",
            "pipeline_secret_template",
            "team_secret_template",
            "shared_path",
            "endpoint_url",
        ];
        let config = Config::read(config, &known)?;
        let region = config.text("region")?.unwrap_or_default();
        let (access, secret) = (config.text("access_key")?, config.text("secret_key")?);
        let keys = match (access, secret) {
            (Some(id), Some(key)) => Some((id, Secret::new(key))),
            (None, None) if config.text("session_token")?.is_none() => None,
            (None, _) => return Err("must provide aws access key id".to_owned()),
            (_, None) => return Err("must provide aws secret access key".to_owned()),
        };
        let own_paths = known[4..].iter().any(|k| config.0.contains_key(*k));
        if keys.is_none() {
            let mut lent = self.lent.ssm.clone().ok_or(
                "access_key and secret_key are missing, and this server itself has no SSM configured to lend its rights",
            )?;
            if own_paths {
                return Err(
                    "paths of its own need access_key and secret_key of its own: with the server's rights only the \
                            server's paths are asked"
                        .to_owned(),
                );
            }
            if !region.is_empty() {
                lent.region = region;
            }
            let templates = lent.templates.clone();
            return Ok((lent, templates));
        }
        let mut templates = vec![
            config.text("pipeline_secret_template")?.unwrap_or_else(|| PIPELINE_TEMPLATE.to_owned()),
            config.text("team_secret_template")?.unwrap_or_else(|| TEAM_TEMPLATE.to_owned()),
        ];
        if let Some(shared) = config.text("shared_path")? {
            templates.push(format!("{}/{{{{.Secret}}}}", shared.trim_end_matches('/')));
        }
        let settings = ssm::Settings {
            region,
            keys,
            session_token: config.text("session_token")?.map(Secret::new),
            endpoint: config.text("endpoint_url")?,
            kms_key: None,
            templates: templates.clone(),
            rules: Some(self.lent.rules.clone()),
        };
        Ok((settings, templates))
    }
}

/// Where SSM is asked unless set otherwise.
pub const PIPELINE_TEMPLATE: &str = "/concourse/{{.Team}}/{{.Pipeline}}/{{.Secret}}";
/// See [`PIPELINE_TEMPLATE`].
pub const TEAM_TEMPLATE: &str = "/concourse/{{.Team}}/{{.Secret}}";

/// A source's configuration: a map with known keys.
struct Config<'a>(&'a Map<String, Value>);

impl<'a> Config<'a> {
    fn read(config: &'a Value, known: &[&str]) -> Result<Config<'a>, String> {
        let map = config.as_object().ok_or("its config must be a map")?;
        match map.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(format!("unknown setting {key}; there are {}", known.join(", "))),
            None => Ok(Config(map)),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
            Some(_) => Err(format!("{key} must be a string")),
        }
    }
}

fn vault_settings(config: &Value, rules: &Outgoing) -> Result<vault::Settings, String> {
    let known = [
        "url",
        "path_prefix",
        "lookup_templates",
        "shared_path",
        "namespace",
        "client_token",
        "auth_backend",
        "auth_params",
        "ca_cert",
        "insecure_skip_verify",
        "login_timeout",
        "query_timeout",
        "auth_backend_max_ttl",
        "auth_retry_max",
        "auth_retry_initial",
        "enable_kv_mount_cache",
        "disable_srv_lookup",
    ];
    let config = Config::read(config, &known)?;
    let url = config.text("url")?.ok_or("url is missing")?;
    reqwest::Url::parse(&url).map_err(|e| format!("invalid URL: {e}"))?;
    let templates = match config.0.get("lookup_templates") {
        None => vault::TEMPLATES.iter().map(|t| (*t).to_owned()).collect(),
        Some(list) => serde_json::from_value(list.clone()).map_err(|_| "lookup_templates must be a list of strings")?,
    };
    let auth = match (config.text("client_token")?, config.text("auth_backend")?) {
        (Some(token), _) => vault::Auth::Token(Secret::new(token)),
        (None, Some(backend)) => {
            let params: HashMap<String, String> = match config.0.get("auth_params") {
                None => HashMap::new(),
                Some(map) => serde_json::from_value(map.clone()).map_err(|_| "auth_params must be a map of strings")?,
            };
            vault::Auth::Login { backend, params: params.into_iter().map(|(k, v)| (k, Secret::new(v))).collect() }
        }
        (None, None) => return Err("must configure client token or auth backend".to_owned()),
    };
    Ok(vault::Settings {
        url,
        prefix: config.text("path_prefix")?.unwrap_or_else(|| "/concourse".to_owned()),
        templates,
        shared_path: config.text("shared_path")?,
        root_paths: true,
        namespace: config.text("namespace")?,
        ca_cert: config.text("ca_cert")?,
        insecure: config.0.get("insecure_skip_verify").and_then(Value::as_bool).unwrap_or(false),
        auth,
        rules: rules.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::clock::Manual;

    #[test]
    fn a_pipeline_cannot_use_the_server_s_rights_at_paths_of_its_own() {
        let lent =
            |ssm| Lent { ssm, cache: CacheSettings::default(), retry: Retry::default(), rules: Outgoing::default() };
        let pool = |ssm| Pool::new(lent(ssm), Arc::new(Manual::new(Time(0))));
        let refused = |pool: &Pool, config: Value| pool.open("t", "ssm", &config).err().unwrap_or_default();
        let with = pool(Some(ssm::Settings { templates: vec![TEAM_TEMPLATE.into()], ..ssm::Settings::default() }));
        assert!(
            refused(&with, json!({"region": "r", "team_secret_template": "/concourse/other/{{.Secret}}"}))
                .contains("of its own")
        );
        assert!(refused(&with, json!({"region": "r", "shared_path": "/concourse/other"})).contains("of its own"));
        assert_eq!(refused(&with, json!({"region": "r"})), "");
        assert!(refused(&pool(None), json!({"region": "r"})).contains("has no SSM configured"));
        assert!(refused(&with, json!({"access_key": "a"})).contains("must provide aws secret access key"));
        assert!(refused(&with, json!({"session_token": "s"})).contains("must provide aws access key id"));
        assert!(refused(&with, json!({"acess_key": "a"})).contains("unknown setting acess_key"));
        assert!(
            pool(None).open("t", "vault", &json!({"url": "http://v", "client_token_path": "/etc/shadow"})).is_err()
        );
    }
}
