//! The servers of others that can say who somebody is.

use super::attempt::Attempt;
use super::github::GitHub;
use super::openid::OpenId;
use super::outgoing::OutgoingError;
use crate::auth::Claims;

/// Why a provider's answer signs nobody in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer.
    #[error("{provider} could not be asked: {source}; try again, or tell the administrator")]
    Unreachable {
        /// Which.
        provider: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not accept the code, or the token it has just given.
    #[error("{provider} refused: {why}; start again, and if that does not help have the client id and secret checked")]
    Refused {
        /// Which.
        provider: String,
        /// In its words.
        why: String,
    },
    /// What it says cannot be trusted.
    #[error("the answer of {provider} cannot be trusted: {why}")]
    Untrusted {
        /// Which.
        provider: String,
        /// Why.
        why: String,
    },
    /// The person is of an organisation that may not sign in here.
    #[error("only accounts of {0} may sign in here; sign in with such an account")]
    WrongDomain(String),
}

impl ProviderError {
    pub(super) fn unreachable(provider: &str, source: OutgoingError) -> ProviderError {
        ProviderError::Unreachable { provider: provider.to_owned(), source: Box::new(source) }
    }

    pub(super) fn refused(provider: &str, why: impl Into<String>) -> ProviderError {
        // What a stranger's server says is shown to people and written down: a line of it is enough.
        let why: String = why.into().chars().filter(|c| !c.is_control()).take(200).collect();
        ProviderError::Refused { provider: provider.to_owned(), why }
    }

    pub(super) fn untrusted(provider: &str, why: impl ToString) -> ProviderError {
        ProviderError::Untrusted { provider: provider.to_owned(), why: why.to_string() }
    }
}

/// One way to sign in elsewhere.
pub enum Connector {
    /// GitHub or an Enterprise host of it.
    GitHub(GitHub),
    /// Google or any other OpenID provider.
    OpenId(Box<OpenId>),
}

impl Connector {
    /// Its name in addresses, claims and team rules.
    pub fn id(&self) -> &str {
        match self {
            Connector::GitHub(_) => "github",
            Connector::OpenId(provider) => provider.id(),
        }
    }

    /// Its name for people.
    pub fn label(&self) -> &str {
        match self {
            Connector::GitHub(_) => "GitHub",
            Connector::OpenId(provider) => provider.label(),
        }
    }

    /// Who vouches: identities of another issuer are other people.
    pub fn issuer(&self) -> &str {
        match self {
            Connector::GitHub(github) => github.issuer(),
            Connector::OpenId(provider) => provider.issuer(),
        }
    }

    /// Where to send the browser.
    pub async fn begin(&self, attempt: &Attempt, callback: &str) -> Result<String, ProviderError> {
        match self {
            Connector::GitHub(github) => Ok(github.begin(attempt, callback)),
            Connector::OpenId(provider) => provider.begin(attempt, callback).await,
        }
    }

    /// Whom the code that came back stands for.
    pub async fn finish(&self, attempt: &Attempt, code: &str, callback: &str) -> Result<Claims, ProviderError> {
        match self {
            Connector::GitHub(github) => github.finish(attempt, code, callback).await,
            Connector::OpenId(provider) => provider.finish(attempt, code, callback).await,
        }
    }
}
