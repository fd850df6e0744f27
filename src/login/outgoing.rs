//! The one way out to identity providers: with timeouts, a limit on what is read, and no redirects.

use std::path::PathBuf;
use std::time::Duration;

use openidconnect::{HttpRequest, HttpResponse, http};

use crate::base::trust::{self, Remedies, Trust, TrustError};

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole answer.
const WHOLE: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const LONGEST: usize = 2 * 1024 * 1024;

/// Why a provider could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The provider is not to be believed; why, and what to do.
    #[error("{0}")]
    Distrusted(String),
    /// The request failed on its way.
    #[error("{}", chain(.0))]
    Failed(#[from] reqwest::Error),
    /// The answer does not end.
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
    /// The answer is none.
    #[error("{0}")]
    Malformed(#[from] http::Error),
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// A file cannot be read.
    #[error("cannot read the certificate {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} cannot be used: {source}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// No client can be made.
    #[error(transparent)]
    Tls(#[from] TrustError),
}

/// Causes and all, since reqwest says only where it was going.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// See the module's doc.
#[derive(Debug, Clone)]
pub struct Outgoing {
    http: reqwest::Client,
    remedies: Remedies,
}

impl Outgoing {
    /// Trusting the system's authorities and these; `unchecked` trusts anybody. `remedies` are what changes that.
    pub fn new(authorities: &[PathBuf], unchecked: bool, remedies: Remedies) -> Result<Outgoing, UnusableError> {
        let trust = authorities.iter().try_fold(Trust::default().unchecked(unchecked), |trust, path| {
            let pem = std::fs::read(path).map_err(|source| UnusableError::Unreadable { path: path.clone(), source })?;
            trust.and(&pem).map_err(|source| UnusableError::Malformed { path: path.clone(), source })
        })?;
        let client = trust
            .client()?
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("whistlestop/", env!("CARGO_PKG_VERSION")));
        Ok(Outgoing { http: client.build().map_err(TrustError::Client)?, remedies })
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&self, request: HttpRequest) -> Result<HttpResponse, OutgoingError> {
        let failed = |error| match trust::fault(&error, &self.remedies) {
            Some(why) => OutgoingError::Distrusted(why),
            None => OutgoingError::Failed(error),
        };
        let mut response = self.http.execute(request.try_into()?).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LONGEST {
                return Err(OutgoingError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer.body(body)?)
    }
}
