//! The way to the engine: found lazily, its version agreed once, its errors put into words.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error as EngineError;

use crate::runtime::{Error, Result};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Until the answer to a usual request begins.
const USUAL: Duration = Duration::from_secs(300);
/// For an answer that is wanted at once or not at all.
pub const SOON: Duration = Duration::from_secs(2);
/// Until the answer begins where it comes only after a whole archive or image has been moved.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Where an engine listens, and the client for it once it was reached.
#[derive(Debug)]
pub struct Connection {
    host: String,
    origin: &'static str,
    client: Mutex<Option<bollard::Docker>>,
}

impl Connection {
    /// To `host` (`unix://…` or `tcp://…`), else to what `DOCKER_HOST` names, else to the usual socket. Does no IO.
    pub fn new(host: Option<String>) -> Self {
        let from_environment = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let (host, origin) = match (host, from_environment) {
            (Some(host), _) => (host, "as configured"),
            (None, Some(host)) => (host, "from DOCKER_HOST"),
            (None, None) => (DEFAULT_HOST.to_string(), "the default, since DOCKER_HOST is not set"),
        };
        Connection { host, origin, client: Mutex::new(None) }
    }

    /// The client for usual requests.
    pub async fn client(&self) -> Result<bollard::Docker> {
        if let Some(client) = self.client.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(client.clone());
        }
        let client = self.dial(USUAL).await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// The client for requests that move whole file systems.
    pub async fn long_client(&self) -> Result<bollard::Docker> {
        Ok(self.client().await?.with_timeout(LONG))
    }

    /// Whether the engine answers within `patience`.
    pub async fn ping(&self, patience: Duration) -> Result<()> {
        let asked = async { self.client().await?.ping().await.map_err(|e| self.failure("ping", &e)) };
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(self.unavailable(&format!("no answer within {} seconds", patience.as_secs()))),
        }
    }

    /// Whether the engine is on this host, as far as one can tell from its address.
    pub fn is_local(&self) -> bool {
        self.host.starts_with("unix://")
    }

    async fn dial(&self, timeout: Duration) -> Result<bollard::Docker> {
        let version = bollard::API_DEFAULT_VERSION;
        let client = match self.host.split_once("://") {
            Some(("unix", path)) => bollard::Docker::connect_with_unix(path, timeout.as_secs(), version),
            Some(("tcp" | "http", _)) => bollard::Docker::connect_with_http(&self.host, timeout.as_secs(), version),
            _ => return Err(self.unavailable("only unix:// and tcp:// addresses are understood")),
        };
        let client = client.map_err(|e| self.failure("connect", &e))?;
        let client = client.with_request_modifier(url_safe_credentials);
        client.negotiate_version().await.map_err(|e| self.failure("ask for its version", &e))
    }

    /// Puts an error of the engine's into our words; `what` is what was tried.
    pub fn failure(&self, what: &str, error: &EngineError) -> Error {
        if let Some(reason) = lost_reason(error) {
            return self.unavailable(&reason);
        }
        let (status, message) = match error {
            EngineError::DockerResponseServerError { status_code, message } => {
                (*status_code, message.trim().to_string())
            }
            other => (0, other.to_string()),
        };
        classify(what, status, &message)
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable(format!(
            "the Docker engine at {} ({}) cannot be reached: {reason}; start it (systemctl start docker), add this user to \
             the group docker if permission is what is missing, or run steps without Docker (--runtime embedded)",
            self.host, self.origin
        ))
    }
}

/// Sorts what the engine said by what callers can do about it.
fn classify(what: &str, status: u16, message: &str) -> Error {
    let text = format!("cannot {what}: {message}");
    let lower = message.to_lowercase();
    if lower.contains("no space left on device") || lower.contains("disk quota exceeded") {
        return Error::DiskFull(format!("{text}; free space where the Docker engine keeps its data"));
    }
    match status {
        404 => Error::NotFound(text),
        400 => Error::Invalid(text),
        _ => Error::Failed(text),
    }
}

/// Why the engine did not answer at all, or nothing if it did.
pub fn lost_reason(error: &EngineError) -> Option<String> {
    match error {
        EngineError::SocketNotFoundError(path) => Some(format!("there is no socket {path}")),
        EngineError::RequestTimeoutError => Some("it does not answer".to_string()),
        EngineError::HyperLegacyError { .. } | EngineError::HyperResponseError { .. } | EngineError::IOError { .. } => {
            Some(innermost(error))
        }
        _ => None,
    }
}

fn innermost(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}

/// The engine drops credentials that are not in the URL alphabet of base64 without a word, and bollard sends the other.
fn url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
        let translated: String = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
        if let Ok(header) = translated.parse() {
            *value = header;
            value.set_sensitive(true);
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_can_be_done() {
        let cases = [
            (404, "No such image: x", "NotFound"),
            (400, "invalid mount", "Invalid"),
            (500, "write /a: no space left on device", "DiskFull"),
            (409, "volume is in use", "Failed"),
        ];
        for (status, message, expected) in cases {
            let got = format!("{:?}", classify("do it", status, message));
            assert!(got.starts_with(expected), "{got}");
            assert!(got.contains("cannot do it: "), "{got}");
        }
    }

    #[tokio::test]
    async fn an_absent_engine_says_what_was_tried_and_what_to_do() {
        let connection = Connection::new(Some("unix:///nonexistent/docker.sock".into()));
        let Err(Error::Unavailable(text)) = connection.ping(SOON).await else { panic!("reached") };
        for part in ["unix:///nonexistent/docker.sock", "as configured", "group docker", "--runtime embedded"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_never_answers_does_not_hang_the_ping() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::time::pause();
        let connection = Connection::new(Some(format!("unix://{}", path.display())));
        assert!(matches!(connection.ping(SOON).await, Err(Error::Unavailable(_))));
    }
}
