//! AWS SSM Parameter Store, by the AWS SDK: parameters decrypted by KMS, ten a request, and a path as a map.
//!
//! The client is made at first use, since an installation without secrets should not pay for it. The SDK's own retries
//! are off: a throttled request waits here, for as long as the limit takes to recover, and all others of this server
//! wait with it.

mod http;
mod role;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Credentials;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::types::{ParameterTier, ParameterType};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, OnceCell};

use super::{Answer, Found, Listed, Path, Source, SourceError, Writer};
use crate::base::chance;
use crate::base::outgoing::Outgoing;
use crate::base::secret::Secret;
pub use role::{Role, own};

/// What one GetParameters may name.
const AT_ONCE: usize = 10;
/// Requests under way at once for one look-up.
const TOGETHER: usize = 4;
/// The first pause after being throttled; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A limit that has not recovered after so long never will.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How to reach it. What is not set is found as the AWS tools find it: environment, profile, web identity, container,
/// instance.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Region.
    pub region: String,
    /// Access key id and secret key, if given.
    pub keys: Option<(String, Secret<String>)>,
    /// Session token, with them.
    pub session_token: Option<Secret<String>>,
    /// Another address than AWS's.
    pub endpoint: Option<String>,
    /// The KMS key for values that are written; `{{.Team}}` in it is the team's name.
    pub kms_key: Option<String>,
    /// Shown to administrators.
    pub templates: Vec<String>,
    /// Where it may be reached; anywhere where the operator has set it.
    pub rules: Option<Outgoing>,
}

impl Settings {
    /// The SDK's configuration.
    async fn load(&self) -> Result<SdkConfig, String> {
        let carrier = http::Carrier::new(&self.rules.clone().unwrap_or_else(Outgoing::anywhere))?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(carrier).retry_config(
            RetryConfig::disabled().with_reconnect_mode(aws_smithy_types::retry::ReconnectMode::ReuseAllConnections),
        );
        if !self.region.is_empty() {
            loader = loader.region(Region::new(self.region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some((id, key)) = &self.keys {
            let token = self.session_token.as_ref().map(|t| t.expose().clone());
            loader = loader.credentials_provider(Credentials::new(id, key.expose(), token, None, "settings"));
        }
        Ok(loader.load().await)
    }

    /// The KMS key for a team's values.
    pub fn kms_key(&self, team: &str) -> Option<String> {
        self.kms_key.as_ref().map(|k| k.replace("{{.Team}}", team))
    }
}

/// See the module's doc.
pub struct Ssm {
    settings: Settings,
    client: OnceCell<Client>,
    /// Held while a pause goes on, so that nobody asks meanwhile.
    pause: Mutex<()>,
}

impl Ssm {
    /// Does not reach out yet.
    pub fn new(settings: Settings) -> Ssm {
        Ssm { settings, client: OnceCell::new(), pause: Mutex::new(()) }
    }

    async fn client(&self) -> Result<&Client, SourceError> {
        let made = self.client.get_or_try_init(|| async { Ok(Client::new(&self.settings.load().await?)) });
        made.await.map_err(|why| self.refused(why))
    }

    fn down(&self, why: String) -> SourceError {
        SourceError::Down { source_name: self.name().to_owned(), why }
    }

    fn refused(&self, why: String) -> SourceError {
        SourceError::Refused { source_name: self.name().to_owned(), why }
    }

    /// Sends until the answer is not «too many».
    async fn send<T, E, F>(
        &self,
        name: &'static str,
        calls: &AtomicU32,
        request: impl Fn() -> F,
    ) -> Result<Result<T, E>, SourceError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let began = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            drop(self.pause.lock().await);
            calls.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("whistlestop_secret_calls_total", "source" => "ssm", "call" => name).increment(1);
            let error = match request().await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            if !is_throttling(&error) {
                return self.judged(error).map(Err);
            }
            metrics::counter!("whistlestop_secret_throttled_total", "source" => "ssm").increment(1);
            if began.elapsed() > PATIENCE {
                return Err(
                    self.down("requests are throttled for an hour; raise the limit of SSM in this region".to_owned())
                );
            }
            tracing::warn!(call = name, "AWS SSM throttles; asking slower");
            let turn = self.pause.lock().await;
            let chance = u32::from(chance::bytes::<1>()[0]);
            tokio::time::sleep(pause / 2 + pause * chance / 512).await;
            drop(turn);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What an error of the SDK means: the service's own are for the caller, unless they say that it is ill.
    fn judged<E>(&self, error: SdkError<E>) -> Result<E, SourceError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(e) if e.raw().status().is_server_error() => {
                Err(self.down(format!("it answers {}", e.raw().status().as_u16())))
            }
            SdkError::ServiceError(e) => Ok(e.into_err()),
            SdkError::TimeoutError(_) => Err(self.down("it does not answer in time".to_owned())),
            SdkError::DispatchFailure(e) => {
                let mut why = "cannot be reached".to_owned();
                let mut cause: Option<&dyn std::error::Error> = e.as_connector_error().map(|c| c as _);
                while let Some(next) = cause {
                    why = next.to_string();
                    cause = next.source();
                }
                Err(self.down(why))
            }
            SdkError::ResponseError(e) => {
                Err(self.down(format!("an answer that cannot be read ({})", e.raw().status().as_u16())))
            }
            other => {
                let mut why = other.to_string();
                let mut cause = std::error::Error::source(&other);
                while let Some(next) = cause {
                    why = format!("{why}: {next}");
                    cause = next.source();
                }
                Err(self.down(format!("{why}; does this server have AWS credentials and a region?")))
            }
        }
    }

    fn told<E: ProvideErrorMetadata + std::fmt::Display>(&self, error: &E, doing: &str) -> SourceError {
        let code = error.code().unwrap_or("an unknown error");
        let message = error.message().unwrap_or_default();
        let hint = match code {
            "AccessDeniedException" => "; allow it in the policy of this server's role",
            "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException" => {
                "; this server's AWS credentials are wrong or have expired"
            }
            _ => "",
        };
        self.refused(format!("{doing}: {code}: {message}{hint}"))
    }

    /// Parameters of these names.
    async fn parameters(&self, names: &[String], calls: &AtomicU32) -> Result<HashMap<String, String>, SourceError> {
        let client = self.client().await?;
        let ask = || client.get_parameters().set_names(Some(names.to_vec())).with_decryption(true).send();
        let answer = self.send("GetParameters", calls, ask).await?.map_err(|e| self.told(&e, "ssm:GetParameters"))?;
        let pair = |p: aws_sdk_ssm::types::Parameter| {
            Some((format!("{}{}", p.name?, p.selector.unwrap_or_default()), p.value?))
        };
        Ok(answer.parameters.unwrap_or_default().into_iter().filter_map(pair).collect())
    }

    /// All parameters below a path, or none.
    async fn below(&self, path: &str, calls: &AtomicU32) -> Result<Option<Value>, SourceError> {
        let client = self.client().await?;
        let path = path.trim_end_matches('/');
        let (mut map, mut next) = (Map::new(), None);
        loop {
            let ask = || {
                let page = client.get_parameters_by_path().path(path).recursive(true).with_decryption(true);
                page.max_results(10).set_next_token(next.clone()).send()
            };
            let page = self.send("GetParametersByPath", calls, ask).await?;
            let page = page.map_err(|e| self.told(&e, "ssm:GetParametersByPath"))?;
            for parameter in page.parameters.unwrap_or_default() {
                if let (Some(name), Some(value)) = (parameter.name, parameter.value)
                    && let Some(rest) = name.strip_prefix(path).and_then(|r| r.strip_prefix('/'))
                {
                    map.insert(rest.to_owned(), value.into());
                }
            }
            next = page.next_token.filter(|t| !t.is_empty());
            if next.is_none() {
                return Ok((!map.is_empty()).then_some(Value::Object(map)));
            }
        }
    }
}

/// Whether a parameter can have this name: others are not asked for, since one of them spoils a whole request.
fn possible(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c))
}

fn is_throttling<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let SdkError::ServiceError(e) = error else { return false };
    e.raw().status().as_u16() == 429
        || matches!(
            e.err().code(),
            Some(
                "ThrottlingException"
                    | "Throttling"
                    | "TooManyRequestsException"
                    | "RequestLimitExceeded"
                    | "TooManyUpdates"
            )
        )
}

#[async_trait]
impl Source for Ssm {
    fn name(&self) -> &str {
        "AWS SSM"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let calls = AtomicU32::new(0);
        let names: Vec<String> = paths.iter().map(|p| p.text.clone()).filter(|p| possible(p)).collect();
        let batches: Vec<Vec<String>> = names.chunks(AT_ONCE).map(<[_]>::to_vec).collect();
        let asked = futures_util::stream::iter(batches.into_iter().map(|batch| {
            let calls = &calls;
            async move { self.parameters(&batch, calls).await }
        }));
        let found: Vec<HashMap<String, String>> = asked.buffered(TOGETHER).try_collect().await?;
        let mut found: HashMap<String, Value> =
            found.into_iter().flatten().map(|(name, value)| (name, value.into())).collect();
        let absent: Vec<String> = names.into_iter().filter(|n| !found.contains_key(n) && !n.contains(':')).collect();
        let maps = futures_util::stream::iter(absent.into_iter().map(|path| {
            let calls = &calls;
            async move { Ok::<_, SourceError>((self.below(&path, calls).await?, path)) }
        }));
        let maps: Vec<(Option<Value>, String)> = maps.buffered(TOGETHER).try_collect().await?;
        found.extend(maps.into_iter().filter_map(|(map, path)| Some((path, map?))));
        let values = paths.iter().map(|p| found.get(&p.text).cloned().map(Found::lasting)).collect();
        Ok(Answer { values, calls: calls.into_inner() })
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }

    fn about(&self) -> Value {
        let template = |n: usize| self.settings.templates.get(n).cloned().unwrap_or_default();
        json!({"ssm": {
            "aws_region": self.settings.region,
            "pipeline_secret_template": template(0),
            "team_secret_template": template(1),
            "shared_path": template(2).trim_end_matches("/{{.Secret}}"),
        }})
    }

    async fn health(&self) -> Result<(), SourceError> {
        let calls = AtomicU32::new(0);
        let client = self.client().await?;
        let ask = || client.get_parameters().names("__concourse-health-check").send();
        match self.send("GetParameters", &calls, ask).await? {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Some("AccessDeniedException") => Ok(()),
            Err(e) => Err(self.told(&e, "ssm:GetParameters")),
        }
    }
}

#[async_trait]
impl Writer for Ssm {
    async fn put(&self, path: &Path, value: &Secret<String>, who: &str) -> Result<(), SourceError> {
        if !possible(&path.text) || path.text.contains(':') {
            return Err(self.refused(format!("{path} has characters that no parameter can have")));
        }
        let client = self.client().await?;
        let key = self.settings.kms_key(&path.team_name);
        let ask = || {
            let put = client.put_parameter().name(&path.text).value(value.expose()).r#type(ParameterType::SecureString);
            let put = put.overwrite(true).tier(ParameterTier::IntelligentTiering);
            put.description(format!("set by {who}")).set_key_id(key.clone()).send()
        };
        let sent = self.send("PutParameter", &AtomicU32::new(0), ask).await?;
        sent.map(drop).map_err(|e| self.told(&e, "ssm:PutParameter"))
    }

    async fn delete(&self, path: &Path) -> Result<bool, SourceError> {
        let client = self.client().await?;
        let ask = || client.delete_parameter().name(&path.text).send();
        match self.send("DeleteParameter", &AtomicU32::new(0), ask).await? {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Some("ParameterNotFound") => Ok(false),
            Err(e) => Err(self.told(&e, "ssm:DeleteParameter")),
        }
    }

    async fn list(&self, prefix: &Path) -> Result<Vec<Listed>, SourceError> {
        let client = self.client().await?;
        let path = prefix.text.trim_end_matches('/');
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            // Not decrypted: the values are of no use to anybody on the way.
            let ask = || {
                let page = client.get_parameters_by_path().path(path).recursive(true).with_decryption(false);
                page.max_results(10).set_next_token(next.clone()).send()
            };
            let page = self.send("GetParametersByPath", &AtomicU32::new(0), ask).await?;
            let page = page.map_err(|e| self.told(&e, "ssm:GetParametersByPath"))?;
            for parameter in page.parameters.unwrap_or_default() {
                let rest = parameter.name.as_deref().and_then(|n| n.strip_prefix(path)?.strip_prefix('/'));
                if let Some(rest) = rest {
                    all.push(Listed {
                        pipeline: prefix.pipeline.clone().unwrap_or_default(),
                        name: rest.to_owned(),
                        changed_at: parameter.last_modified_date.map_or(0, |d| d.secs()),
                        changed_by: String::new(),
                        last_used: 0,
                    });
                }
            }
            next = page.next_token.filter(|t| !t.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
