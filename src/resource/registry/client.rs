//! The distribution protocol, as far as images need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::auth::{Challenge, Token, challenge};
use super::manifest::{self, ACCEPTED, Descriptor};
use super::{Error, Repository, Result};
use crate::base::outgoing::{Client, Outgoing};
use crate::base::secret::Secret;
use crate::base::trust::{self, Remedies, Trust};

const CONNECT: Duration = Duration::from_secs(15);
/// A transfer that is silent for so long is begun again where it stopped.
const SILENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Tries of a request that nobody answers.
const TRIES: u32 = 4;
/// No manifest is longer.
const MOST_MANIFEST: usize = 16 << 20;
/// No list of tags is longer, in tags, bytes and pages: a registry that goes on for ever must end somewhere.
const MOST_TAGS: usize = 1_000_000;
const MOST_TAG_BYTES: usize = 64 << 20;
const MOST_PAGES: usize = 20_000;

/// How a registry may be reached.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Name and password.
    pub credentials: Option<(String, Secret<String>)>,
    /// Plain HTTP will do.
    pub insecure: bool,
    /// Any certificate will do.
    pub unverified: bool,
    /// Authorities to trust besides the usual ones, PEM.
    pub ca_certs: Vec<String>,
}

/// Told when an answer has to be waited for.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// A repository in a registry that has answered.
pub struct Registry {
    http: Client,
    base: Url,
    repository: Repository,
    access: Access,
    actions: &'static str,
    challenge: Option<Challenge>,
    token: Mutex<Option<String>>,
    patience: Duration,
    notice: Notice,
}

/// A manifest or index as it is in the registry.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: String,
    /// Itself.
    pub bytes: Vec<u8>,
}

/// How to open a [`Registry`].
pub struct Opening<'a> {
    /// Where requests may not go.
    pub outgoing: &'a Outgoing,
    /// Credentials and trust.
    pub access: Access,
    /// `pull` or `pull,push`.
    pub actions: &'static str,
    /// How long a registry that is overloaded is waited for.
    pub patience: Duration,
    /// Told of waits.
    pub notice: Notice,
}

impl Registry {
    /// Finds out how the registry speaks. `at` is the repository, its host perhaps with a scheme before it.
    pub async fn open(repository: Repository, scheme: Option<&str>, opening: Opening<'_>) -> Result<Registry> {
        let Opening { outgoing, access, actions, patience, notice } = opening;
        let http = client(outgoing, &access)?;
        let schemes: Vec<&str> = match scheme {
            Some(scheme) => vec![scheme],
            None if access.insecure || repository.is_near() => vec!["https", "http"],
            None => vec!["https"],
        };
        let mut failed = None;
        for scheme in schemes {
            let base = Url::parse(&format!("{scheme}://{}/", repository.host))
                .map_err(|_| Error::Invalid(format!("{:?} is no registry's host", repository.host)))?;
            let mut registry = Registry {
                http: http.clone(),
                base,
                repository: repository.clone(),
                access: access.clone(),
                actions,
                challenge: None,
                token: Mutex::default(),
                patience,
                notice: notice.clone(),
            };
            match registry.ping().await {
                Ok(challenge) => {
                    registry.challenge = challenge;
                    return Ok(registry);
                }
                // What TLS had to say is better than that nobody speaks plainly there either.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::Invalid("no way to speak to the registry".to_owned())))
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    async fn ping(&self) -> Result<Option<Challenge>> {
        let answer = self.patiently("reach the registry", || self.request(Method::GET, self.url("")?)).await?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => {}
            status if status.is_success() => return Ok(None),
            // Also who expects TLS and is spoken to plainly.
            _ => return Err(self.refusal("reach the registry", answer).await),
        }
        let headers = answer.headers().get_all("www-authenticate");
        let found: Vec<Challenge> = headers.iter().filter_map(|h| challenge(h.to_str().ok()?)).collect();
        let token = found.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
        Ok(token.or(found.first()).cloned())
    }

    fn url(&self, path: &str) -> Result<Url> {
        let whole = if path.is_empty() { "v2/".to_owned() } else { format!("v2/{}/{path}", self.repository.name) };
        self.base.join(&whole).map_err(|e| Error::Invalid(format!("{whole}: {e}")))
    }

    fn request(&self, method: Method, url: Url) -> Result<RequestBuilder> {
        self.http.request(method, url).map_err(|denied| Error::Invalid(denied.to_string()))
    }

    /// Sends until there is an answer that is not about load, or patience ends.
    async fn patiently(&self, what: &str, make: impl Fn() -> Result<RequestBuilder> + Send) -> Result<Response> {
        let begun = Instant::now();
        let (mut pause, mut tries) = (FIRST_PAUSE, 0);
        loop {
            tries += 1;
            let (error, wait) = match make()?.send().await {
                Ok(answer) if !is_transient(answer.status()) => return Ok(answer),
                Ok(answer) => {
                    let asked = retry_after(answer.headers());
                    let refused = self.refusal(what, answer).await;
                    (refused, asked.unwrap_or(pause).max(pause))
                }
                Err(error) => {
                    let unreachable = self.unreachable(&error);
                    if tries >= TRIES || !may_pass(&error) {
                        return Err(unreachable);
                    }
                    (unreachable, pause)
                }
            };
            if begun.elapsed() + wait > self.patience {
                return Err(error);
            }
            (self.notice)(&format!("{error}; trying again in {} s", wait.as_secs().max(1)));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// As [`Self::patiently`], signed in. A token that has run out is replaced.
    async fn send(&self, what: &str, make: impl Fn() -> Result<RequestBuilder> + Send + Sync) -> Result<Response> {
        let mut renewed = false;
        loop {
            let authorization = self.authorization(what).await?;
            let signed = || {
                let request = make()?;
                Ok(match &authorization {
                    Some(value) => request.header(AUTHORIZATION, value.expose()),
                    None => request,
                })
            };
            let answer = self.patiently(what, signed).await?;
            let stale = answer.status() == StatusCode::UNAUTHORIZED
                && matches!(self.challenge, Some(Challenge::Bearer { .. }))
                && !std::mem::replace(&mut renewed, true);
            if !stale {
                return Ok(answer);
            }
            *self.token.lock().await = None;
        }
    }

    async fn authorization(&self, what: &str) -> Result<Option<Secret<String>>> {
        match &self.challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.access.credentials.as_ref().map(|(name, password)| {
                use base64::Engine;
                let pair = format!("{name}:{}", password.expose());
                Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            })),
            Some(Challenge::Bearer { realm, service }) => {
                let mut token = self.token.lock().await;
                if token.is_none() {
                    *token = Some(self.fresh_token(what, realm, service.as_deref()).await?);
                }
                Ok(token.as_ref().map(|t| Secret::new(format!("Bearer {t}"))))
            }
        }
    }

    async fn fresh_token(&self, what: &str, realm: &str, service: Option<&str>) -> Result<String> {
        let mut url = Url::parse(realm).or_else(|_| self.base.join(realm)).map_err(|e| {
            Error::Invalid(format!("{} wants a token from {realm:?}, which is no address: {e}", self.repository.host))
        })?;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &format!("repository:{}:{}", self.repository.name, self.actions));
        }
        let make = || {
            let request = self.request(Method::GET, url.clone())?;
            Ok(match &self.access.credentials {
                Some((name, password)) => request.basic_auth(name, Some(password.expose())),
                None => request,
            })
        };
        let answer = self.patiently(what, make).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(what, answer).await);
        }
        let bytes = self.short(what, answer).await?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Unusable(format!("{what}: the registry's token service gives no token: {e}")))?;
        token.value().ok_or_else(|| Error::Unusable(format!("{what}: the registry's token service gives no token")))
    }

    /// All tags, in the registry's own order.
    pub async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let what = format!("list the tags of {}", self.repository);
        let mut url = self.url("tags/list?n=1000")?;
        let (mut tags, mut bytes) = (Vec::new(), 0);
        for _ in 0..MOST_PAGES {
            let answer = self.send(&what, || self.request(Method::GET, url.clone())).await?;
            if !answer.status().is_success() {
                return Err(self.refusal(&what, answer).await);
            }
            let next = next_page(answer.headers()).and_then(|link| url.join(&link).ok());
            let page = self.short(&what, answer).await?;
            bytes += page.len();
            let list: List = serde_json::from_slice(&page)
                .map_err(|e| Error::Unusable(format!("{what}: the registry's answer is no list of tags: {e}")))?;
            tags.extend(list.tags.unwrap_or_default());
            match next {
                // A link elsewhere is not followed: the token would go with it.
                Some(next)
                    if next.host() == url.host() && next != url && tags.len() < MOST_TAGS && bytes < MOST_TAG_BYTES =>
                {
                    url = next;
                }
                _ => break,
            }
        }
        Ok(tags)
    }

    /// What a tag or digest has now; `None` if there is no such thing.
    pub async fn digest(&self, reference: &str) -> Result<Option<String>> {
        let what = format!("look at {}", self.named(reference));
        let url = self.url(&format!("manifests/{reference}"))?;
        let make = || Ok(self.request(Method::HEAD, url.clone())?.header(ACCEPT, ACCEPTED));
        let answer = self.send(&what, make).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let told = answer.headers().get("docker-content-digest").and_then(|h| h.to_str().ok());
        match told {
            Some(digest) if answer.status().is_success() => Ok(Some(digest.to_owned())),
            // Some registries answer HEAD with less than they know.
            _ => Ok(self.manifest(reference).await?.map(|document| document.digest)),
        }
    }

    /// A manifest or index; `None` if there is no such thing.
    pub async fn manifest(&self, reference: &str) -> Result<Option<Document>> {
        let what = format!("fetch {}", self.named(reference));
        let url = self.url(&format!("manifests/{reference}"))?;
        let make = || Ok(self.request(Method::GET, url.clone())?.header(ACCEPT, ACCEPTED));
        let answer = self.send(&what, make).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(self.refusal(&what, answer).await);
        }
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let mut media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = self.short(&what, answer).await?;
        let digest = manifest::sha256(&bytes);
        if reference.contains(':') && reference != digest {
            return Err(Error::Damaged { what: self.named(reference), expected: reference.to_owned(), found: digest });
        }
        if !media_type.contains("manifest") && !media_type.contains("image") {
            // Plain file servers call everything JSON or text.
            #[derive(Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            struct Kind {
                media_type: String,
            }
            media_type = serde_json::from_slice::<Kind>(&bytes).unwrap_or_default().media_type;
        }
        Ok(Some(Document { media_type, digest, bytes }))
    }

    /// A blob that is short, such as a configuration.
    pub async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let what = format!("fetch {} of {}", descriptor.digest, self.repository);
        let answer = self.blob_from(&what, &descriptor.digest, 0).await?;
        let bytes = self.short(&what, answer).await?;
        let found = manifest::sha256(&bytes);
        if found != descriptor.digest {
            return Err(Error::Damaged { what, expected: descriptor.digest.clone(), found });
        }
        Ok(bytes)
    }

    async fn short(&self, what: &str, mut answer: Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.unreachable(&e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_MANIFEST {
                return Err(Error::Unusable(format!("{what}: the answer is longer than {} MiB", MOST_MANIFEST >> 20)));
            }
        }
        Ok(bytes)
    }

    async fn blob_from(&self, what: &str, digest: &str, from: u64) -> Result<Response> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let make = || {
            let request = self.request(Method::GET, url.clone())?;
            Ok(if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request })
        };
        let answer = self.send(what, make).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(what, answer).await) }
    }

    /// Whether the registry lets these credentials have the blob.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
        let what = format!("look at {digest} of {}", self.repository);
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self.send(&what, || self.request(Method::HEAD, url.clone())).await?;
        match answer.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// A blob's bytes as they come; `done` counts them. A transfer that breaks off goes on where it stopped. The
    /// stream ends with an error if the bytes are not what the digest says.
    pub fn blob(self: &Arc<Self>, descriptor: &Descriptor, done: Arc<AtomicU64>) -> crate::runtime::TarStream {
        let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<bytes::Bytes>>(16);
        let (registry, descriptor) = (self.clone(), descriptor.clone());
        tokio::spawn(async move {
            if let Err(error) = registry.pump(&descriptor, &done, &sender).await {
                sender.send(Err(std::io::Error::other(error))).await.ok();
            }
        });
        let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        Box::pin(tokio_util::io::StreamReader::new(Box::pin(chunks)))
    }

    async fn pump(
        &self,
        descriptor: &Descriptor,
        done: &AtomicU64,
        to: &tokio::sync::mpsc::Sender<std::io::Result<bytes::Bytes>>,
    ) -> Result<()> {
        use sha2::Digest;
        let what = format!("fetch layer {} of {}", descriptor.digest, self.repository);
        let mut hash = sha2::Sha256::new();
        let (mut offset, mut idle) = (0u64, 0);
        while offset < descriptor.size || descriptor.size == 0 && offset == 0 {
            let mut answer = self.blob_from(&what, &descriptor.digest, offset).await?;
            // A registry that knows no ranges begins again.
            let mut skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
            let before = offset;
            let broken = loop {
                let chunk = match answer.chunk().await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => break None,
                    Err(error) => break Some(self.unreachable(&error)),
                };
                let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= passed as u64;
                let fresh = chunk.slice(passed..);
                if fresh.is_empty() {
                    continue;
                }
                hash.update(&fresh);
                offset += fresh.len() as u64;
                done.store(offset, Ordering::Relaxed);
                if descriptor.size > 0 && offset > descriptor.size {
                    let told = format!("{what}: it is longer than the {} bytes of its manifest", descriptor.size);
                    return Err(Error::Unusable(told));
                }
                if to.send(Ok(fresh)).await.is_err() {
                    return Ok(());
                }
            };
            if broken.is_none() && (offset >= descriptor.size || descriptor.size == 0) {
                break;
            }
            idle = if offset > before { 0 } else { idle + 1 };
            let error = broken.unwrap_or_else(|| Error::Unreachable {
                host: self.repository.host.clone(),
                reason: format!("{what}: it ended after {offset} of {} bytes", descriptor.size),
            });
            if idle >= TRIES {
                return Err(error);
            }
            (self.notice)(&format!("{error}; going on after {offset} bytes"));
            tokio::time::sleep(FIRST_PAUSE * 2u32.pow(idle)).await;
        }
        let found = format!("sha256:{}", hex::encode(hash.finalize()));
        if found != descriptor.digest {
            return Err(Error::Damaged { what, expected: descriptor.digest.clone(), found });
        }
        Ok(())
    }

    /// Uploads a blob unless it is there. `open` gives its bytes, from the start each time.
    pub async fn push_blob(
        &self,
        digest: &str,
        size: u64,
        open: impl Fn() -> std::io::Result<reqwest::Body> + Send + Sync,
    ) -> Result<bool> {
        if self.has_blob(digest).await? {
            return Ok(false);
        }
        let what = format!("push {digest} to {}", self.repository);
        let url = self.url("blobs/uploads/")?;
        let start = || Ok(self.request(Method::POST, url.clone())?.header(CONTENT_LENGTH, 0));
        let answer = self.send(&what, start).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&what, answer).await);
        }
        let place = answer.headers().get(LOCATION).and_then(|h| h.to_str().ok());
        let place = place.and_then(|place| answer.url().join(place).ok());
        let mut place = place.ok_or_else(|| Error::Unusable(format!("{what}: the registry names no place for it")))?;
        place.query_pairs_mut().append_pair("digest", digest);
        let put = || {
            let body = open().map_err(|e| Error::Unusable(format!("{what}: {e}")))?;
            let request = self.request(Method::PUT, place.clone())?.header(CONTENT_LENGTH, size);
            Ok(request.header(CONTENT_TYPE, "application/octet-stream").body(body))
        };
        let answer = self.send(&what, put).await?;
        if answer.status().is_success() { Ok(true) } else { Err(self.refusal(&what, answer).await) }
    }

    /// Gives a manifest a tag, or its digest's name.
    pub async fn push_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let what = format!("push {}", self.named(reference));
        let url = self.url(&format!("manifests/{reference}"))?;
        let make = || {
            let request = self.request(Method::PUT, url.clone())?;
            Ok(request.header(CONTENT_TYPE, media_type).body(bytes.to_vec()))
        };
        let answer = self.send(&what, make).await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(&what, answer).await) }
    }

    fn named(&self, reference: &str) -> String {
        let mark = if reference.contains(':') { '@' } else { ':' };
        format!("{}{mark}{reference}", self.repository)
    }

    async fn refusal(&self, what: &str, answer: Response) -> Error {
        let status = answer.status().as_u16();
        let host = answer.url().host_str().map_or_else(|| self.repository.host.clone(), str::to_owned);
        let detail = self.short(what, answer).await.map(|bytes| detail(&bytes)).unwrap_or_default();
        let what = what.to_owned();
        if status == 401 || status == 403 {
            let anonymous = self.access.credentials.is_none();
            return Error::Unauthorized { what, host, status, anonymous, detail };
        }
        Error::Refused { what, host, status, detail }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let host = error.url().and_then(Url::host_str).map_or_else(|| self.repository.host.clone(), str::to_owned);
        let reason = trust::fault(error, &REMEDIES).unwrap_or_else(|| reason(error));
        Error::Unreachable { host, reason }
    }
}

/// How a registry is made to be believed.
const REMEDIES: Remedies = Remedies { authority: "source.ca_certs", unchecked: None };

fn client(outgoing: &Outgoing, access: &Access) -> Result<Client> {
    let mut trust = Trust::default().unchecked(access.unverified);
    for pem in &access.ca_certs {
        trust = trust.and(pem.as_bytes()).map_err(|e| {
            let form = "each is PEM, from BEGIN to END CERTIFICATE";
            Error::Invalid(format!("source.ca_certs has an entry that is no certificate ({e}): {form}"))
        })?;
    }
    let built = outgoing.client(&trust, |builder| {
        builder
            .user_agent(concat!("whistlestop/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
    });
    built.map_err(|e| Error::Invalid(e.to_string()))
}

fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// What no other try can mend: addresses that are denied, certificates that are not trusted.
fn may_pass(error: &reqwest::Error) -> bool {
    let text = reason(error);
    !error.is_builder()
        && !error.is_redirect()
        && !["--deny-networks", "certificate", "refused", "InvalidContentType", "corrupt message", "lookup"]
            .iter()
            .any(|mark| text.contains(mark))
}

/// The whole chain of causes: the topmost only says that something failed.
fn reason(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut at: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = at {
        let text = error.to_string();
        if !texts.iter().any(|t| t.contains(&text)) {
            texts.push(text);
        }
        at = error.source();
    }
    match texts.is_empty() {
        true if error.is_timeout() => "it does not answer in time".to_owned(),
        true => error.to_string(),
        false => texts.join(": "),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// `<url>; rel="next"`
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| url.to_owned())
}

/// The registry's own words, if it says something that can be read.
fn detail(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Entry {
        code: String,
        message: String,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(bytes) else { return String::new() };
    let told = answer.errors.iter().take(3).map(|e| format!("{}: {}", e.code, e.message));
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_say_why() {
        let text = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(detail(text), "MANIFEST_UNKNOWN: manifest unknown");
        assert_eq!(detail(b"<html>"), "");
    }

    #[test]
    fn pages_and_pauses_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, r#"</v2/a/tags/list?last=x&n=2>; rel="next""#.parse().unwrap());
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(next_page(&headers).as_deref(), Some("/v2/a/tags/list?last=x&n=2"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_authority_that_is_none_is_told() {
        let access = Access { ca_certs: vec!["nonsense".into()], ..Access::default() };
        let error = client(&Outgoing::default(), &access).unwrap_err();
        assert!(error.to_string().contains("BEGIN"), "{error}");
    }
}
