//! HashiCorp Vault: key-value engines of version 1 and 2, by token or AppRole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, OnceCell};

use super::{Answer, Found, Path, Source, SourceError, Template, TemplateError};
use crate::base::clock::{Clock, Time};
use crate::base::outgoing::{self, Outgoing};
use crate::base::secret::Secret;
use crate::base::trust::{self, Remedies, Trust};

/// Where values stand below the prefix, unless set otherwise.
pub const TEMPLATES: [&str; 2] = ["/{{.Team}}/{{.Pipeline}}/{{.Secret}}", "/{{.Team}}/{{.Secret}}"];
/// Requests under way at once for one look-up.
const TOGETHER: usize = 4;
/// Longest answer that is read.
const LONGEST: usize = 4 * 1024 * 1024;

/// How this server shows who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A token.
    Token(Secret<String>),
    /// A file with a token, read again when it is refused.
    TokenFile(std::path::PathBuf),
    /// A login: the backend (`approle`) and its parameters.
    Login {
        /// Where it is mounted.
        backend: String,
        /// `role_id` and `secret_id` for AppRole.
        params: HashMap<String, Secret<String>>,
    },
}

/// How to reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its address.
    pub url: String,
    /// What stands before every path (Concourse: `/concourse`).
    pub prefix: String,
    /// Below it.
    pub templates: Vec<String>,
    /// A path below it whose values all teams see.
    pub shared_path: Option<String>,
    /// Whether names may be paths from the prefix on (`var_sources`).
    pub root_paths: bool,
    /// Enterprise namespace.
    pub namespace: Option<String>,
    /// Certificates of the authority that it is to be believed by, PEM.
    pub ca_cert: Option<String>,
    /// Believe any certificate.
    pub insecure: bool,
    /// See [`Auth`].
    pub auth: Auth,
    /// Where it may be reached; anywhere where the operator has set it.
    pub rules: Outgoing,
}

impl Settings {
    /// The paths at which it is asked, in order.
    pub fn paths(&self) -> Result<Vec<Template>, TemplateError> {
        let prefix = format!("/{}", self.prefix.trim_matches('/'));
        let mut all = Vec::new();
        for template in &self.templates {
            all.push(format!("{prefix}/{}", template.trim_start_matches('/')).parse()?);
        }
        if let Some(shared) = &self.shared_path {
            all.push(format!("{prefix}/{}/{{{{.Secret}}}}", shared.trim_matches('/')).parse()?);
        }
        if self.root_paths {
            all.push(format!("{prefix}/{{{{.Secret}}}}").parse()?);
        }
        Ok(all)
    }
}

/// A token and until when it is used without asking for another.
#[derive(Clone)]
struct Token {
    text: Secret<String>,
    until: Option<Time>,
}

/// See the module's doc.
pub struct Vault {
    settings: Settings,
    clock: Arc<dyn Clock>,
    client: OnceCell<outgoing::Client>,
    token: Mutex<Option<Token>>,
    /// Mounts that were asked about, and whether they keep versions.
    mounts: Mutex<HashMap<String, bool>>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    auth: Option<Login>,
}

#[derive(Deserialize)]
struct Login {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
}

impl Vault {
    /// Does not reach out yet.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Vault {
        Vault { settings, clock, client: OnceCell::new(), token: Mutex::default(), mounts: Mutex::default() }
    }

    fn down(&self, why: impl ToString) -> SourceError {
        SourceError::Down { source_name: self.name().to_owned(), why: why.to_string() }
    }

    fn refused(&self, why: impl ToString) -> SourceError {
        SourceError::Refused { source_name: self.name().to_owned(), why: why.to_string() }
    }

    async fn client(&self) -> Result<&outgoing::Client, SourceError> {
        let make = || async {
            let mut trust = Trust::default().unchecked(self.settings.insecure);
            if let Some(pem) = self.settings.ca_cert.as_deref().filter(|pem| !pem.trim().is_empty()) {
                trust = trust.and(pem.as_bytes()).map_err(|e| self.refused(format!("ca_cert: {e}")))?;
            }
            let adapt = |builder: reqwest::ClientBuilder| {
                builder.timeout(Duration::from_secs(60)).connect_timeout(Duration::from_secs(10))
            };
            self.settings.rules.client(&trust, adapt).map_err(|e| self.refused(e))
        };
        self.client.get_or_try_init(make).await
    }

    /// A token that should be good; `worn` is one that was just refused.
    async fn token(&self, worn: Option<&Secret<String>>) -> Result<Secret<String>, SourceError> {
        let mut token = self.token.lock().await;
        let now = self.clock.now();
        let good = |t: &&Token| Some(&t.text) != worn && t.until.is_none_or(|until| now < until);
        if let Some(kept) = token.as_ref().filter(good) {
            return Ok(kept.text.clone());
        }
        let new = match &self.settings.auth {
            Auth::Token(text) if worn == Some(text) => {
                return Err(
                    self.refused("permission denied; has the token expired, or does its policy not allow this path?")
                );
            }
            Auth::Token(text) => Token { text: text.clone(), until: None },
            Auth::TokenFile(file) => {
                let text = tokio::fs::read_to_string(file).await;
                let text = text.map_err(|e| self.refused(format!("cannot read {}: {e}", file.display())))?;
                let text = Secret::new(text.trim().to_owned());
                if worn == Some(&text) {
                    return Err(self.refused(format!("permission denied with the token of {}", file.display())));
                }
                Token { text, until: None }
            }
            Auth::Login { backend, params } => {
                metrics::counter!("whistlestop_secret_calls_total", "source" => "vault", "call" => "login")
                    .increment(1);
                let body: Map<String, Value> =
                    params.iter().map(|(k, v)| (k.clone(), v.expose().clone().into())).collect();
                let sent = self
                    .request(reqwest::Method::PUT, &format!("auth/{backend}/login"))
                    .await?
                    .json(&body)
                    .send()
                    .await;
                let answer = sent.map_err(|e| self.down(cause(&e)))?;
                if !answer.status().is_success() {
                    return Err(self.judged(answer.status(), &format!("the login by {backend}")));
                }
                let body = self.body(answer).await?;
                let auth = body.auth.ok_or_else(|| self.down("a login without a token"))?;
                // Renewed at half its life, as long as something else still holds.
                let half = Duration::from_secs(auth.lease_duration / 2);
                let until = (auth.lease_duration > 0).then(|| now.plus(half));
                Token { text: Secret::new(auth.client_token), until }
            }
        };
        Ok(token.insert(new).text.clone())
    }

    async fn request(&self, method: reqwest::Method, path: &str) -> Result<reqwest::RequestBuilder, SourceError> {
        let url = format!("{}/v1/{}", self.settings.url.trim_end_matches('/'), path.trim_start_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|e| self.refused(format!("its address is none: {e}")))?;
        let request = self.client().await?.request(method, url).map_err(|denied| self.refused(denied))?;
        let mut request = request.header("X-Vault-Request", "true");
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        Ok(request)
    }

    async fn body(&self, answer: reqwest::Response) -> Result<Body, SourceError> {
        let bytes = outgoing::read(answer, LONGEST).await.map_err(|e| self.down(e))?;
        // What is no JSON is not shown: whoever answered here may not be a Vault at all.
        serde_json::from_slice(&bytes).map_err(|_| self.refused("its answer is none of Vault's; is this its address?"))
    }

    fn judged(&self, status: StatusCode, what: &str) -> SourceError {
        match status {
            s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => {
                self.down(format!("{what} is answered by {s}"))
            }
            s => self.refused(format!("{what} is answered by {s}; does the token's policy allow it?")),
        }
    }

    /// Reads a path; none where there is nothing.
    async fn read(&self, path: &str) -> Result<Option<Body>, SourceError> {
        let mut worn: Option<Secret<String>> = None;
        loop {
            let token = self.token(worn.as_ref()).await?;
            metrics::counter!("whistlestop_secret_calls_total", "source" => "vault", "call" => "read").increment(1);
            let request = self.request(reqwest::Method::GET, path).await?.header("X-Vault-Token", token.expose());
            let answer = request.send().await.map_err(|e| self.down(cause(&e)))?;
            match answer.status() {
                StatusCode::NOT_FOUND => return Ok(None),
                // Another token may do.
                StatusCode::FORBIDDEN if worn.is_none() && !matches!(self.settings.auth, Auth::Token(_)) => {
                    worn = Some(token);
                }
                s if s.is_success() => return self.body(answer).await.map(Some),
                s => return Err(self.judged(s, path)),
            }
        }
    }

    /// The mount of a path, and whether it keeps versions.
    async fn mount(&self, path: &str) -> Result<(String, bool), SourceError> {
        let mounts = self.mounts.lock().await;
        if let Some((mount, versions)) = mounts.iter().find(|(m, _)| path.starts_with(m.as_str())) {
            return Ok((mount.clone(), *versions));
        }
        drop(mounts);
        let about = match self.read(&format!("sys/internal/ui/mounts/{path}")).await {
            // Older than this question, or not allowed to ask it: version 1, as Vault's own client has it.
            Err(SourceError::Refused { .. }) | Ok(None) => return Ok((String::new(), false)),
            other => other?.and_then(|b| b.data).unwrap_or_default(),
        };
        let mount = about["path"].as_str().unwrap_or_default().to_owned();
        let versions = about["options"]["version"].as_str() == Some("2");
        if !mount.is_empty() {
            self.mounts.lock().await.insert(mount.clone(), versions);
        }
        Ok((mount, versions))
    }

    async fn secret(&self, path: &str) -> Result<(Option<Found>, u32), SourceError> {
        let path = path.trim_start_matches('/');
        let known = self.mounts.lock().await.keys().any(|m| path.starts_with(m.as_str()));
        let calls = if known { 1 } else { 2 };
        let (mount, versions) = self.mount(path).await?;
        let place = match versions {
            true => format!("{mount}data/{}", &path[mount.len().min(path.len())..]),
            false => path.to_owned(),
        };
        let Some(body) = self.read(&place).await? else { return Ok((None, calls)) };
        let data = if versions { body.data.map(|mut d| d["data"].take()) } else { body.data };
        let Some(Value::Object(mut data)) = data else { return Ok((None, calls)) };
        let value = data.remove("value").unwrap_or(Value::Object(data));
        // A lease is used for half its time.
        let half = Duration::from_secs(body.lease_duration / 2);
        let expires = (!versions && body.lease_duration > 0).then(|| self.clock.now().plus(half));
        // What has the name of a lease was made for us and is made again; a value that lies there has a duration only.
        let renewed = !body.lease_id.is_empty();
        Ok((Some(Found { expires, renewed, ..Found::lasting(value) }), calls))
    }
}

/// How it is made to be believed.
const REMEDIES: Remedies = Remedies {
    authority: "ca_cert (--vault-ca-cert)",
    unchecked: Some("insecure_skip_verify (--vault-insecure-skip-verify)"),
};

/// The innermost reason of a failed request: the outer ones repeat the address.
fn cause(error: &reqwest::Error) -> String {
    if let Some(fault) = trust::fault(error, &REMEDIES) {
        return fault;
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[async_trait]
impl Source for Vault {
    fn name(&self) -> &str {
        "Vault"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let asked = futures_util::stream::iter(paths.to_vec()).map(|p| async move { self.secret(&p.text).await });
        let answers: Vec<(Option<Found>, u32)> = asked.buffered(TOGETHER).try_collect().await?;
        let calls = answers.iter().map(|(_, calls)| calls).sum();
        Ok(Answer { values: answers.into_iter().map(|(found, _)| found).collect(), calls })
    }

    fn about(&self) -> Value {
        json!({"vault": {
            "url": self.settings.url,
            "path_prefix": self.settings.prefix,
            "lookup_templates": self.settings.templates,
            "shared_path": self.settings.shared_path.clone().unwrap_or_default(),
            "namespace": self.settings.namespace.clone().unwrap_or_default(),
        }})
    }

    async fn health(&self) -> Result<(), SourceError> {
        let answer = self.request(reqwest::Method::GET, "sys/health").await?.send().await;
        let status = answer.map_err(|e| self.down(cause(&e)))?.status();
        // 429 and 473 are standbys that answer.
        if status.is_success() || matches!(status.as_u16(), 429 | 473) {
            Ok(())
        } else {
            Err(self.judged(status, "sys/health"))
        }
    }
}
