//! The one way out to identity providers: with timeouts, a limit on what is read, and no redirects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openidconnect::{HttpRequest, HttpResponse, http};

use crate::base::trust;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole answer.
const WHOLE: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const LONGEST: usize = 2 * 1024 * 1024;

/// Why a provider could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
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
pub enum TrustError {
    /// A file cannot be read.
    #[error("cannot read the certificate {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no PEM certificate: {source}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {}{}", chain(.0), trust::remedy(.0))]
    Tls(#[source] reqwest::Error),
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
pub struct Outgoing(reqwest::Client);

impl Outgoing {
    /// Trusting the system's authorities and these; `unchecked` trusts anybody.
    pub fn new(authorities: &[PathBuf], unchecked: bool) -> Result<Outgoing, TrustError> {
        let mut client = trust::client()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("whistlestop/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(unchecked);
        let certificates: Vec<_> = authorities.iter().map(|p| certificates(p)).collect::<Result<_, _>>()?;
        if !certificates.is_empty() {
            client = client.tls_certs_merge(certificates.into_iter().flatten());
        }
        client.build().map(Outgoing).map_err(TrustError::Tls)
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&self, request: HttpRequest) -> Result<HttpResponse, OutgoingError> {
        let mut response = self.0.execute(request.try_into()?).await?;
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

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, TrustError> {
    let pem = std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|source| TrustError::Malformed { path: path.to_owned(), source })
}
