//! From a handler's result to a response; the one place where an error gets its status.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::base::error::{Error, Kind};
use crate::store;

/// What a handler returns.
pub type Answer = Result<Response, Failure>;

/// A request that was not done.
#[derive(Debug)]
pub struct Failure {
    /// The status of the response.
    pub status: StatusCode,
    /// What happened; empty where Concourse says nothing.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What kind of thing the body is said to be, if anything.
    content_type: Option<&'static str>,
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Failure {
    /// A status without a word, as Concourse answers for what is not there.
    pub fn bare(status: StatusCode) -> Failure {
        Failure { status, message: String::new(), hint: None, content_type: None }
    }

    /// A status with a text.
    pub fn text(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into(), hint: None, content_type: Some(PLAIN) }
    }

    /// The same said to be JSON, as Concourse says it even where the body is empty.
    #[must_use]
    pub fn as_json(mut self) -> Failure {
        if self.message.is_empty() {
            self.content_type = Some(JSON);
        }
        self
    }

    /// Problems as the configuration's routes list them.
    pub fn errors(errors: &[String]) -> Failure {
        let message = serde_json::json!({ "errors": errors }).to_string() + "\n";
        Failure { content_type: Some(JSON), ..Failure::text(StatusCode::BAD_REQUEST, message) }
    }

    /// Where it says that something is not there: which thing, as the routes that clear caches tell it.
    #[must_use]
    pub fn of_absent(self, what: &str, name: &str) -> Failure {
        if self.status != StatusCode::NOT_FOUND {
            return self;
        }
        let error = serde_json::json!({
            "title": format!("{what} Not Found Error"),
            "detail": format!("{what} with name '{name}' not found."),
            "status": "404",
        });
        let message = serde_json::json!({ "errors": [error] }).to_string() + "\n";
        Failure { message, content_type: Some("application/vnd.api+json"), ..self }
    }

    /// There is no such thing.
    pub fn not_found() -> Failure {
        Failure::bare(StatusCode::NOT_FOUND)
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::text(StatusCode::BAD_REQUEST, message)
    }

    /// The state does not allow it now.
    pub fn conflict(message: impl Into<String>) -> Failure {
        Failure::text(StatusCode::CONFLICT, message)
    }

    /// Not signed in.
    pub fn unauthenticated() -> Failure {
        Failure::text(StatusCode::UNAUTHORIZED, "not authorized")
    }

    /// Signed in, but not allowed.
    pub fn forbidden() -> Failure {
        Failure::text(StatusCode::FORBIDDEN, "forbidden")
    }

    /// An action of the table that this server does not have.
    pub fn not_implemented(action: &str) -> Failure {
        Failure::text(StatusCode::NOT_IMPLEMENTED, format!("{action} is not available on this server yet\n"))
    }
}

/// The status of each kind of error.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        if e.kind == Kind::Internal {
            tracing::error!(error = %e, "request failed");
        }
        Failure { status: status(e.kind), message: e.message, hint: e.hint, content_type: Some(PLAIN) }
    }
}

impl From<store::Error> for Failure {
    fn from(e: store::Error) -> Failure {
        let kind = if matches!(e, store::Error::DiskFull) { Kind::Unavailable } else { Kind::Internal };
        tracing::error!(error = %e, "request failed");
        Failure::from(Error::new(kind, e.to_string()))
    }
}

impl From<crate::runtime::Error> for Failure {
    fn from(e: crate::runtime::Error) -> Failure {
        let kind = match e {
            crate::runtime::Error::NotFound(_) => Kind::NotFound,
            crate::runtime::Error::Invalid(_) => Kind::Invalid,
            crate::runtime::Error::Unavailable(_) | crate::runtime::Error::DiskFull(_) => Kind::Unavailable,
            crate::runtime::Error::Failed(_) => Kind::Internal,
        };
        Failure::from(Error::new(kind, e.to_string()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let text = match (&self.message, &self.hint) {
            (m, Some(hint)) => format!("{m}; {hint}"),
            (m, None) => m.clone(),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        if let Some(content_type) = self.content_type {
            set(&mut response, header::CONTENT_TYPE, content_type);
        }
        response
    }
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// A value as Go's encoder writes it: one line and a line feed.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let mut body = serde_json::to_vec(value).map_err(Error::internal)?;
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, JSON);
    Ok(response)
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Ok(response)
}

/// The same answer said to be JSON, as Concourse says it of some that are empty.
pub fn as_json(mut response: Response) -> Answer {
    set(&mut response, header::CONTENT_TYPE, JSON);
    Ok(response)
}

/// Plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    Ok(Failure::text(status, body).into_response())
}

/// What a page may load: nothing inline, nothing from elsewhere but pictures. The last page of the client's sign-in talks
/// to the client's port on the reader's own machine.
const POLICY: &str = "default-src 'self'; img-src 'self' data: https: http:; connect-src 'self' http://127.0.0.1:*; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A page.
pub fn html(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

/// Elsewhere. A location that cannot be a header is a bad request.
pub fn redirect(status: StatusCode, location: &str) -> Answer {
    let shown = location.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;");
    let words = status.canonical_reason().unwrap_or("Found");
    let location = HeaderValue::from_str(location).map_err(|_| Failure::bad_request("unsupported redirect"))?;
    let mut response = Response::new(Body::from(format!("<a href=\"{shown}\">{words}</a>.\n\n")));
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_what_happened_and_what_to_do() {
        let e = Error::new(Kind::Conflict, "the pipeline is archived").hint("set it again to bring it back");
        let failure = Failure::from(e);
        assert_eq!(failure.status, StatusCode::CONFLICT);
        assert_eq!(failure.into_response().headers()["content-type"], "text/plain; charset=utf-8");
        assert!(Failure::not_found().into_response().headers().is_empty());
    }
}
