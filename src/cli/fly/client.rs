//! The typed client: one way to ask Concourse's API, and one way to read its answers.
//!
//! It speaks HTTP/1.1 only, so that the same connection settings serve the upgrade of `hijack`. Answers that are read
//! whole, and events, may come packed, which is undone here; what is kept as it comes (archives, clients) is asked for
//! plain.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzDecoder;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reference::PipelineRef;
use super::target::{Target, Token};
use crate::base::clock::{Clock, Time};
use crate::base::trust::{self, Remedies, Trust, TrustError};
use crate::cli::said;

/// What went wrong between us and the server; the text is fly's.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 404, and what is not there if the server says it in its form for machines.
    #[error("{}", if .0.is_empty() { "resource not found" } else { .0 })]
    NotFound(String),
    /// 401: nobody is logged in.
    #[error("not authorized")]
    Unauthorized,
    /// 403 and the server's reason.
    #[error("forbidden{}{}", if .0.is_empty() { "" } else { ": " }, .0)]
    Forbidden(String),
    /// Any other answer that is not a success.
    #[error("Unexpected Response\nStatus: {status}\nBody: {body}")]
    Unexpected {
        /// Code and phrase.
        status: Status,
        /// What it said.
        body: String,
    },
    /// No answer.
    #[error("{method} \"{url}\": {cause}")]
    Network {
        /// `Get`, `Put` …
        method: String,
        /// What was asked.
        url: Box<Url>,
        /// The innermost reason.
        cause: String,
    },
    /// An answer we cannot read.
    #[error("parsing JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The target's address is none.
    #[error("Get \"{0}/api/v1/info\": not an absolute http address")]
    Address(String),
    /// The client cannot be built.
    #[error("{0}")]
    Settings(String),
}

/// A status that prints as `409 Conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub StatusCode);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.as_u16(), self.0.canonical_reason().unwrap_or_default())
    }
}

/// Turns "not there" into `None`.
pub trait Found<T> {
    /// `None` for 404.
    fn found(self) -> Result<Option<T>, ApiError>;
}

impl<T> Found<T> for Result<T, ApiError> {
    fn found(self) -> Result<Option<T>, ApiError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A connection to one server as one user.
#[derive(Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<Token>,
    verbose: Option<Arc<dyn Clock>>,
}

impl Client {
    /// Connects as the target says; `verbose` prints every exchange, with the time of that clock.
    pub fn new(target: &Target, verbose: Option<Arc<dyn Clock>>) -> Result<Self, ApiError> {
        let base = Url::parse(&target.api).ok().filter(|u| u.has_host() && u.scheme().starts_with("http"));
        let base = base.ok_or_else(|| ApiError::Address(target.api.clone()))?;
        let settings = |e: TrustError| ApiError::Settings(e.to_string());
        let mut trust = Trust::default().http1().unchecked(target.insecure);
        if !target.ca_cert.is_empty() {
            trust = trust.and(target.ca_cert.as_bytes()).map_err(|e| {
                ApiError::Settings(format!("CA Cert not valid: {e}; log in with --ca-cert FILE of the right one"))
            })?;
        }
        let mut http = with_identity(trust, target)?
            .client()
            .map_err(settings)?
            .connect_timeout(std::time::Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::limited(10));
        if is_near(&base) || ["NO_PROXY", "no_proxy"].iter().any(|n| std::env::var(n).is_ok_and(|v| names_all(&v))) {
            http = http.no_proxy();
        }
        // One that is empty is sent too: who has logged out is nobody, and not everybody.
        let token = target.token.clone();
        let http = http.build().map_err(|e| settings(e.into()))?;
        Ok(Client { base, http, token, verbose })
    }

    /// The server's address as the target names it, without a slash at its end.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address of `segments` below the API.
    fn address(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// A call below `/api/v1`.
    pub fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        self.call_at(method, self.address(segments))
    }

    /// A call to any address of this server.
    pub fn call_at(&self, method: Method, url: Url) -> Call<'_> {
        Call { client: self, method, url, headers: HeaderMap::new(), body: None }
    }

    /// The address of `path` outside the API.
    pub fn outside(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Reads below `/api/v1`.
    pub fn get(&self, segments: &[&str]) -> Call<'_> {
        self.call(Method::GET, segments)
    }

    /// Writes below `/api/v1`.
    pub fn put(&self, segments: &[&str]) -> Call<'_> {
        self.call(Method::PUT, segments)
    }
}

/// One request that is being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<reqwest::Body>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What `errors[].detail` say.
    fn details(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let details = body["errors"].as_array().into_iter().flatten().filter_map(|e| e["detail"].as_str());
        details.collect::<Vec<_>>().join(" ")
    }

    /// Refuses everything but a success.
    pub fn success(self) -> Result<Answer, ApiError> {
        match self.status {
            StatusCode::NOT_FOUND => Err(ApiError::NotFound(self.details())),
            StatusCode::UNAUTHORIZED => Err(ApiError::Unauthorized),
            StatusCode::FORBIDDEN => Err(ApiError::Forbidden(self.text().trim_end().to_owned())),
            status if status.is_success() => Ok(self),
            _ => Err(self.unexpected()),
        }
    }

    /// The answer as an error of its own.
    pub fn unexpected(self) -> ApiError {
        ApiError::Unexpected { status: Status(self.status), body: self.text() }
    }

    /// The header's text, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

impl Call<'_> {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Adds the query parameters that name an instance.
    pub fn of(self, pipeline: &PipelineRef) -> Self {
        pipeline.query().iter().fold(self, |call, (name, value)| call.query(name, value))
    }

    /// Adds a header; a value that cannot stand in one is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends `body` as `kind`.
    pub fn body(mut self, kind: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into().into());
        self.header("content-type", kind)
    }

    /// Sends `body` as `kind` while it is still being made.
    pub fn stream(mut self, kind: &'static str, body: reqwest::Body) -> Self {
        self.body = Some(body);
        self.header("content-type", kind)
    }

    /// Sends `value` as JSON.
    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// Sends it and hands out the answer while it still arrives.
    pub async fn open(self) -> Result<reqwest::Response, ApiError> {
        let Call { client, method, url, headers, body } = self;
        if let Some(clock) = &client.verbose {
            let shown = body.as_ref().map_or(Some(&b""[..]), reqwest::Body::as_bytes).unwrap_or(b"(binary)");
            trace_request(clock.now(), &method, &url, &headers, shown);
        }
        let name = go_method(&method);
        let mut request = client.http.request(method, url.clone()).headers(headers);
        if let Some(token) = &client.token {
            request = request.header("authorization", token.authorization());
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|e| network(name, url, &e))
    }

    /// Lets the answer come packed, for who reads it through [`Unpacker`].
    pub fn packed(self) -> Self {
        self.header("accept-encoding", "gzip")
    }

    /// Sends it and hands out the answer while it still arrives, if it is a success.
    pub async fn open_success(self) -> Result<reqwest::Response, ApiError> {
        let (name, url) = (go_method(&self.method), self.url.clone());
        let response = self.open().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refused =
            read(response).await.map_err(|cause| ApiError::Network { method: name, url: Box::new(url), cause })?;
        Err(refused.success().err().unwrap_or_else(|| ApiError::NotFound(String::new())))
    }

    /// Sends it and reads the whole answer, whatever its status.
    pub async fn send(self) -> Result<Answer, ApiError> {
        let (client, name, url) = (self.client, go_method(&self.method), self.url.clone());
        let response = self.packed().open().await?;
        let answer =
            read(response).await.map_err(|cause| ApiError::Network { method: name, url: Box::new(url), cause })?;
        let Answer { status, headers, body } = answer;
        if let Some(clock) = &client.verbose {
            trace_answer(clock.now(), status, &headers, &body);
        }
        if let Some(warning) = headers.get("x-concourse-policy-check-warning").and_then(|v| v.to_str().ok()) {
            warn_of_policy(warning);
        }
        Ok(Answer { status, headers, body })
    }

    /// Sends it; only success matters.
    pub async fn done(self) -> Result<(), ApiError> {
        self.send().await?.success().map(drop)
    }

    /// Sends it and reads a JSON answer.
    pub async fn fetch<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let answer = self.send().await?.success()?;
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

/// Reads an answer to its end; why it could not be read, otherwise.
async fn read(response: reqwest::Response) -> Result<Answer, String> {
    let (status, mut headers) = (response.status(), response.headers().clone());
    let mut unpacker = Unpacker::of(&headers);
    let body = response.bytes().await.map_err(|e| innermost(&e))?;
    if !unpacker.is_idle() {
        headers.remove("content-encoding");
        headers.remove("content-length");
    }
    let body = unpacker.push(&body).map_err(|e| e.to_string())?;
    Ok(Answer { status, headers, body })
}

/// Undoes the packing of an answer, if it is packed, piece by piece as it arrives.
pub struct Unpacker(Option<GzDecoder<Vec<u8>>>);

impl Unpacker {
    /// As the headers say.
    pub fn of(headers: &HeaderMap) -> Self {
        let packed = headers.get("content-encoding").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
        Unpacker(packed.then(|| GzDecoder::new(Vec::new())))
    }

    fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// All that can be read once `bytes` have come.
    pub fn push(&mut self, bytes: &Bytes) -> std::io::Result<Bytes> {
        let Some(decoder) = &mut self.0 else { return Ok(bytes.clone()) };
        decoder.write_all(bytes)?;
        decoder.flush()?;
        Ok(std::mem::take(decoder.get_mut()).into())
    }
}

/// Whether it is on this machine, where no proxy leads.
fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a list of hosts without a proxy means every host.
fn names_all(list: &str) -> bool {
    list.split(',').any(|entry| entry.trim() == "*")
}

/// How the target's server is made to be believed.
const REMEDIES: Remedies = Remedies { authority: "--ca-cert FILE at `login`", unchecked: Some("-k") };

/// Shows the target's client certificate, if it has one.
fn with_identity(trust: Trust, target: &Target) -> Result<Trust, ApiError> {
    let fail = |text: &str| Err(ApiError::Settings(text.to_owned()));
    match (target.client_cert_path.as_str(), target.client_key_path.as_str()) {
        ("", "") => Ok(trust),
        ("", _) => fail("A client key may not be declared without defining a client certificate"),
        (_, "") => fail("A client certificate may not be declared without defining a client key"),
        (certificate, key) => {
            let read = |path: &str| std::fs::read(path).map_err(|e| ApiError::Settings(format!("open {path}: {e}")));
            let (shown, kept) = (read(certificate)?, read(key)?);
            trust.identity(&shown, &kept).map_err(|e| ApiError::Settings(format!("{certificate} and {key}: {e}")))
        }
    }
}

fn go_method(method: &Method) -> String {
    let (first, rest) = method.as_str().split_at(1);
    format!("{first}{}", rest.to_lowercase())
}

fn network(method: String, url: Url, error: &reqwest::Error) -> ApiError {
    let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    let cause = match source(error).downcast_ref::<std::io::Error>().is_some_and(refused) {
        true => format!("dial tcp {}: connect: connection refused", dialled(&url)),
        false => trust::fault(error, &REMEDIES).unwrap_or_else(|| innermost(error)),
    };
    ApiError::Network { method, url: Box::new(url), cause }
}

/// The reason at the bottom of a chain of errors.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    source(error).to_string()
}

fn source<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at
}

/// The address behind a name, of the older kind if there are both; the name itself if nobody knows it.
fn dialled(url: &Url) -> String {
    let addresses = url.socket_addrs(|| None).unwrap_or_default();
    let address = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
    address.map_or_else(|| url.authority().to_owned(), ToString::to_string)
}

fn stamp(now: Time) -> String {
    let zone = jiff::tz::TimeZone::system();
    let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default().to_zoned(zone);
    at.strftime("%Y/%m/%d %H:%M:%S").to_string()
}

fn trace_request(now: Time, method: &Method, url: &Url, headers: &HeaderMap, body: &[u8]) {
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    let first = format!("{method} {}{query} HTTP/1.1\nHost: {}", url.path(), url.authority());
    trace(now, &first, headers, body);
}

fn trace_answer(now: Time, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    trace(now, &format!("HTTP/1.1 {}", Status(status)), headers, body);
}

fn trace(now: Time, first: &str, headers: &HeaderMap, body: &[u8]) {
    let mut text = format!("{} {first}\n", stamp(now));
    for (name, value) in headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("(binary)")));
    }
    let body = std::str::from_utf8(body).unwrap_or("(binary)");
    said::complain(&format!("{text}\n{body}"));
}

fn warn_of_policy(warning: &str) {
    let mut parts = warning.split(" * ");
    let mut text = format!("\x1b[1;33m{}\x1b[0m\n", parts.next().unwrap_or_default());
    for part in parts {
        text.push_str(&format!("\x1b[1;33m * {part}\x1b[0m\n"));
    }
    said::complain(&format!(
        "{text}\x1b[33mWARNING: unblocking from the policy check failure for soft enforcement\x1b[0m\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn no_proxy_leads_to_this_machine() {
        let near = |url: &str| is_near(&Url::parse(url).unwrap());
        for url in ["http://localhost:8080", "https://127.0.0.1", "http://127.9.9.9:1/x", "http://[::1]:8080"] {
            assert!(near(url), "{url}");
        }
        for url in ["https://ci.example.com", "http://localhost.example.com", "http://10.0.0.1", "http://[fe80::1]"] {
            assert!(!near(url), "{url}");
        }
        assert!(names_all("*") && names_all("a.example, *"));
        assert!(!names_all("") && !names_all("*.example.com,b"));
    }

    #[test]
    fn what_was_flushed_is_there_at_once_however_it_is_split() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        let pieces = ["one\n".to_owned(), "two ".repeat(20_000), "three\n".to_owned()].map(|text| {
            packer.write_all(text.as_bytes()).unwrap();
            packer.flush().unwrap();
            (text, Bytes::from(std::mem::take(packer.get_mut())))
        });
        let headers = HeaderMap::from_iter([("content-encoding".parse().unwrap(), HeaderValue::from_static("gzip"))]);
        for size in [1, 7, usize::MAX] {
            let mut unpacker = Unpacker::of(&headers);
            for (text, packed) in &pieces {
                let split = packed.chunks(size.min(packed.len()));
                let got: Vec<u8> = split.flat_map(|c| unpacker.push(&Bytes::copy_from_slice(c)).unwrap()).collect();
                assert!(got == text.as_bytes(), "{size}");
            }
        }
        let mut plain = Unpacker::of(&HeaderMap::new());
        assert_eq!(plain.push(&pieces[0].1).unwrap(), pieces[0].1);
        assert!(Unpacker::of(&headers).push(&Bytes::from_static(b"not packed at all")).is_err());
    }
}
