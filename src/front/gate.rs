//! In front of every route: who may come in at all, the way to the encrypted port, and the headers each answer carries.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::origin::{Origin, within};
use super::{App, Failure, Frames, redirect};
use crate::base::error::{Error, Kind};

/// Set unless the handler has chosen its own. Pages have a policy of their own; anything else is data and loads nothing.
const ALWAYS: [(&str, &str); 7] = [
    ("cache-control", "no-store, private"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-download-options", "noopen"),
    ("x-xss-protection", "1; mode=block"),
];
/// Asked by load balancers, which speak plain HTTP.
const HEALTH: &str = "/api/v1/health";

/// Lets a request in or turns it away, and adds the headers.
pub async fn pass(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let origin = app.settings.networks.origin(&request);
    let mut response = match turned_away(&app, &origin, &request) {
        Some(response) => response,
        None => {
            request.extensions_mut().insert(origin);
            next.run(request).await
        }
    };
    for (name, value) in ALWAYS {
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    frame(response.headers_mut(), app.settings.frames);
    if let Ok(version) = HeaderValue::from_str(&app.settings.concourse_version) {
        response.headers_mut().insert("x-concourse-version", version);
    }
    if let Some(hsts) = app.settings.hsts.as_deref().and_then(|v| HeaderValue::from_str(v).ok())
        && origin.https != Some(false)
    {
        response.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert(hsts);
    }
    response
}

/// Says who may show it in a frame, in both ways that browsers understand.
fn frame(headers: &mut HeaderMap, frames: Frames) {
    let (old, new) = match frames {
        Frames::None => (Some("deny"), "'none'"),
        Frames::Own => (Some("sameorigin"), "'self'"),
        Frames::All => (None, "*"),
    };
    if let Some(old) = old {
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static(old));
    }
    let policy = headers.get(header::CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
    let policy = policy.map(|policy| policy.replace("frame-ancestors 'none'", &format!("frame-ancestors {new}")));
    if let Some(policy) = policy.and_then(|policy| HeaderValue::from_str(&policy).ok()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

fn turned_away(app: &App, origin: &Origin, request: &Request) -> Option<Response> {
    let settings = &app.settings;
    if !settings.networks.allowed.is_empty() && !within(&settings.networks.allowed, origin.address) {
        let why = format!("{} is in none of the networks that may use this server", origin.address);
        let failure = Error::new(Kind::Forbidden, why).hint("ask its administrator, who sets them by --allow-network");
        return Some(Failure::from(failure).into_response());
    }
    let wants_tls = settings.external_url.starts_with("https://");
    if !wants_tls || origin.https != Some(false) || request.uri().path() == HEALTH {
        return None;
    }
    if !request.method().is_safe() {
        // What it carries has been sent in the clear already; following a redirect would hide that.
        let failure = Error::new(Kind::Invalid, "this server takes changes over https only");
        return Some(Failure::from(failure.hint(format!("use {}", settings.external_url))).into_response());
    }
    let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let location = format!("{}{target}", settings.external_url);
    Some(redirect(StatusCode::PERMANENT_REDIRECT, &location).unwrap_or_else(IntoResponse::into_response))
}
