//! Short-lived credentials of a team's role, by STS AssumeRole: renewed before they expire.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::sts::AssumeRoleProvider;
use aws_sdk_ssm::config::{Credentials, ProvideCredentials};
use tokio::sync::Mutex;

use super::Settings;
use crate::base::clock::{Clock, Time};
use crate::base::secret::Secret;
use crate::secrets::SourceError;

/// They are renewed when less than this is left, so that a step that gets them can use them for a while.
const RENEWED_BEFORE: Duration = Duration::from_secs(15 * 60);

/// Credentials of a role.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Access key id.
    pub key_id: String,
    /// Secret access key.
    pub secret_key: Secret<String>,
    /// Session token.
    pub session_token: Secret<String>,
    /// When they end.
    pub expires: Time,
}

/// The role of one team.
pub struct Role {
    settings: Settings,
    arn: String,
    session: String,
    clock: Arc<dyn Clock>,
    issued: Mutex<Option<Issued>>,
}

impl Role {
    /// Of the role `arn`; `session` is seen in AWS's logs.
    pub fn new(settings: Settings, arn: String, session: &str, clock: Arc<dyn Clock>) -> Role {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "=,.@-_".contains(c);
        let session = session.chars().map(|c| if allowed(c) { c } else { '-' }).take(64).collect();
        Role { settings, arn, session, clock, issued: Mutex::default() }
    }

    /// Credentials that are good for a while. Where they cannot be renewed, those that still are good.
    pub async fn credentials(&self) -> Result<Issued, SourceError> {
        let mut issued = self.issued.lock().await;
        let now = self.clock.now();
        if let Some(kept) = issued.as_ref().filter(|i| now.plus(RENEWED_BEFORE) < i.expires) {
            return Ok(kept.clone());
        }
        match self.assume().await {
            Ok(new) => {
                metrics::counter!("whistlestop_secret_calls_total", "source" => "sts", "call" => "AssumeRole")
                    .increment(1);
                Ok(issued.insert(new).clone())
            }
            Err(error) => match issued.as_ref().filter(|i| now < i.expires) {
                Some(kept) => {
                    tracing::warn!(%error, role = self.arn, "a team's credentials are not renewed yet");
                    Ok(kept.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn assume(&self) -> Result<Issued, SourceError> {
        let down = |why: String| SourceError::Down { source_name: "AWS STS".to_owned(), why };
        let config = self.settings.load().await.map_err(down)?;
        let builder = AssumeRoleProvider::builder(&self.arn).session_name(&self.session).configure(&config);
        let provider = match config.credentials_provider() {
            Some(own) => builder.build_from_provider(own).await,
            None => builder.build().await,
        };
        let issued = provider.provide_credentials().await;
        let issued = issued.map_err(|e| down(format!("cannot assume {}: {}", self.arn, causes(&e))))?;
        Ok(Issued::of(&issued, self.clock.now()))
    }
}

impl Issued {
    fn of(issued: &Credentials, now: Time) -> Issued {
        let expires = issued.expiry().and_then(|e| e.duration_since(UNIX_EPOCH).ok());
        Issued {
            key_id: issued.access_key_id().to_owned(),
            secret_key: Secret::new(issued.secret_access_key().to_owned()),
            session_token: Secret::new(issued.session_token().unwrap_or_default().to_owned()),
            expires: expires.map_or(now.plus(Duration::from_secs(3600)), |d| Time(0).plus(d)),
        }
    }
}

/// The whole chain: the topmost only says that something failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        why = format!("{why}: {next}");
        cause = next.source();
    }
    why
}

/// The server's own credentials, as the AWS tools find them: environment, profile, web identity, container, instance.
/// They are asked for anew when they are about to end.
pub async fn own(region: &str, clock: &dyn Clock) -> Result<Issued, String> {
    static OWN: Mutex<Option<Issued>> = Mutex::const_new(None);
    let mut own = OWN.lock().await;
    let now = clock.now();
    if let Some(kept) = own.as_ref().filter(|kept| now.plus(RENEWED_BEFORE) < kept.expires) {
        return Ok(kept.clone());
    }
    let config = Settings { region: region.to_owned(), ..Settings::default() }.load().await?;
    let provider = config.credentials_provider().ok_or("this server has no credentials for AWS")?;
    let found = provider.provide_credentials().await;
    let found = found.map_err(|e| format!("this server has no credentials for AWS: {}", causes(&e)))?;
    Ok(own.insert(Issued::of(&found, now)).clone())
}
