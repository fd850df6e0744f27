//! Headers that every response carries.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

/// Set unless the handler has chosen its own.
const ALWAYS: [(&str, &str); 6] = [
    ("cache-control", "no-store, private"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "deny"),
    ("x-xss-protection", "1; mode=block"),
];

/// Adds them, and the version of Concourse that is spoken.
pub async fn add(version: HeaderValue, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-concourse-version", version);
    for (name, value) in ALWAYS {
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response
}
