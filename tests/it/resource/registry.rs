//! The client of registries against one that is difficult: tokens, load, transfers that break off, wrong content.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use whistlestop::base::outgoing::Outgoing;
use whistlestop::base::version::Version;
use whistlestop::resource::native::registry_image::{Kind, Source, check, silent};
use whistlestop::resource::registry::client::Opening;
use whistlestop::resource::registry::{Access, Descriptor, Error, Mirror, Registries, Registry, Repository};

type Answer = Response<Body>;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

/// Serves on a loopback port what `handle` says; the address.
async fn serve(handle: impl Fn(Method, String, HeaderMap) -> Answer + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handle = Arc::new(handle);
    let router = axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap| {
        let handle = handle.clone();
        async move { handle(method, uri.to_string(), headers) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn open(address: &str, access: Access, patience: Duration) -> Result<Arc<Registry>, Error> {
    let outgoing = Outgoing::default();
    let opening = Opening { outgoing: &outgoing, access, actions: "pull", patience, notice: silent() };
    let repository = Repository::parse(&format!("{address}/team/app")).unwrap();
    Registry::open(repository, None, opening).await.map(Arc::new)
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn read(registry: &Arc<Registry>, content: &[u8]) -> Result<Vec<u8>, String> {
    let descriptor = Descriptor { digest: digest(content), size: content.len() as u64, ..Descriptor::default() };
    let mut bytes = Vec::new();
    let done = Arc::<AtomicU64>::default();
    let read = registry.blob(&descriptor, done.clone()).read_to_end(&mut bytes).await;
    read.map_err(|e| e.to_string())?;
    assert_eq!(done.load(Ordering::Relaxed), bytes.len() as u64);
    Ok(bytes)
}

#[tokio::test]
async fn tokens_are_asked_for_with_the_credentials_and_again_when_they_end() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = asked.clone();
    let address = Arc::new(Mutex::new(String::new()));
    let own = address.clone();
    let bound = serve(move |method, uri, headers| {
        let authorization = headers.get("authorization").map_or("", |h| h.to_str().unwrap()).to_owned();
        told.lock().unwrap().push(format!("{method} {uri} {authorization}"));
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"here\"", own.lock().unwrap());
        if uri.starts_with("/token") {
            let n = told.lock().unwrap().iter().filter(|a| a.contains("/token")).count();
            return answer(200, &[], json!({"token": format!("t{n}")}).to_string());
        }
        // The first token ends after one use.
        let used = told.lock().unwrap().iter().filter(|a| a.ends_with("Bearer t1")).count();
        match authorization.as_str() {
            "Bearer t1" if used == 1 => answer(200, &[("docker-content-digest", "sha256:1")], ""),
            "Bearer t2" => answer(200, &[("docker-content-digest", "sha256:2")], ""),
            _ => answer(401, &[("www-authenticate", &realm)], ""),
        }
    })
    .await;
    address.lock().unwrap().clone_from(&bound);
    let access = Access {
        credentials: Some(("u".into(), whistlestop::base::secret::Secret::new("p".into()))),
        ..Access::default()
    };
    let registry = open(&bound, access, PATIENCE).await.unwrap();
    assert_eq!(registry.digest("latest").await.unwrap().as_deref(), Some("sha256:1"));
    assert_eq!(registry.digest("latest").await.unwrap().as_deref(), Some("sha256:2"));
    let asked = asked.lock().unwrap().clone();
    let tokens: Vec<_> = asked.iter().filter(|a| a.contains("/token")).collect();
    assert_eq!(tokens.len(), 2, "{asked:?}");
    assert!(tokens[0].contains("service=here&scope=repository%3Ateam%2Fapp%3Apull Basic dTpw"), "{tokens:?}");
}

#[tokio::test]
async fn a_registry_under_load_is_waited_for_and_one_that_stays_so_is_not() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let address = serve(move |_, uri, _| {
        if uri == "/v2/" {
            return answer(200, &[], "");
        }
        match counted.fetch_add(1, Ordering::Relaxed) {
            0 => answer(429, &[("retry-after", "0")], r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}"#),
            1 => answer(503, &[], ""),
            _ => answer(200, &[("docker-content-digest", "sha256:1")], ""),
        }
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    assert_eq!(registry.digest("latest").await.unwrap().as_deref(), Some("sha256:1"));
    assert_eq!(tries.load(Ordering::Relaxed), 3);

    let address = serve(|_, uri, _| {
        if uri == "/v2/" {
            return answer(200, &[], "");
        }
        answer(429, &[("retry-after", "3600")], r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate"}]}"#)
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.manifest("latest").await.unwrap_err().to_string();
    assert!(error.contains("429") && error.contains("pull rate"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    for with_ranges in [true, false] {
        let (served, ranges) = (content.clone(), Arc::new(Mutex::new(Vec::new())));
        let seen = ranges.clone();
        let address = serve(move |_, uri, headers| {
            if uri == "/v2/" {
                return answer(200, &[], "");
            }
            let range = headers.get("range").map(|h| h.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(range.clone());
            let from =
                range.and_then(|r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().ok()).unwrap_or(0);
            let (from, status) = if with_ranges { (from, if from > 0 { 206 } else { 200 }) } else { (0, 200) };
            let rest = &served[from..];
            // The first two answers end in the middle.
            let broken = seen.lock().unwrap().len() <= 2;
            let part = bytes::Bytes::copy_from_slice(&rest[..if broken { rest.len() / 2 } else { rest.len() }]);
            // What was sent must have arrived before the connection ends.
            let cut = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("cut"))
            };
            let first = futures_util::stream::iter([Ok(part)]);
            let end = futures_util::stream::iter(broken.then_some(cut)).then(|cut| cut);
            let length = rest.len().to_string();
            answer(status, &[("content-length", &length)], Body::from_stream(first.chain(end)))
        })
        .await;
        let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
        assert_eq!(read(&registry, &content).await.unwrap(), content, "ranges: {with_ranges}");
        let ranges = ranges.lock().unwrap();
        assert!(ranges.len() == 3 && ranges[1].is_some(), "{ranges:?}");
    }
}

#[tokio::test]
async fn content_of_another_digest_is_refused() {
    let address = serve(|_, uri, _| match uri.as_str() {
        "/v2/" => answer(200, &[], ""),
        uri if uri.contains("/manifests/") => answer(200, &[], "{}"),
        _ => answer(200, &[], "something else"),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = read(&registry, b"what was wanted").await.unwrap_err();
    assert!(error.contains("damaged") || error.contains("ended after"), "{error}");
    let error = read(&registry, b"something elsE").await.unwrap_err();
    assert!(error.contains("is damaged: its digest is"), "{error}");
    let error = registry.manifest(&digest(b"x")).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn metadata_addresses_are_not_asked_whoever_names_them() {
    // As the registry itself, as its token service, and by redirect.
    let error = open("169.254.169.254", Access { insecure: true, ..Access::default() }, PATIENCE).await.err().unwrap();
    assert!(error.to_string().contains("--deny-networks"), "{error}");
    let address = serve(|_, uri, _| match uri.as_str() {
        "/v2/" => answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/token\"")], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.digest("latest").await.unwrap_err().to_string();
    assert!(error.contains("--deny-networks"), "{error}");
    let address = serve(|_, uri, _| match uri.as_str() {
        "/v2/" => answer(200, &[], ""),
        _ => answer(307, &[("location", "http://169.254.169.254/latest/meta-data/")], ""),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.digest("latest").await.unwrap_err().to_string();
    assert!(error.contains("--deny-networks"), "{error}");
}

#[tokio::test]
async fn answers_that_do_not_end_are_not_read_to_their_end() {
    let endless = || {
        let chunk = bytes::Bytes::from(vec![b' '; 1 << 20]);
        Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())))
    };
    let address = serve(move |_, uri, headers| match uri.as_str() {
        "/v2/" => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
        uri if uri.starts_with("/token") => answer(200, &[], endless()),
        _ => answer(if headers.contains_key("authorization") { 200 } else { 401 }, &[], "{}"),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.digest("latest").await.unwrap_err().to_string();
    assert!(error.contains("the answer is longer than 16 MiB"), "{error}");
    let address = serve(move |_, uri, _| match uri.as_str() {
        "/v2/" => answer(200, &[], ""),
        _ => answer(200, &[], endless()),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.tags().await.unwrap_err().to_string();
    assert!(error.contains("the answer is longer than 16 MiB"), "{error}");
    // Nor does a list whose every page is short and names another.
    let pages = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let address = serve(move |_, uri, _| {
        let page = pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let link = format!("</v2/team/app/tags/list?page={page}>; rel=\"next\"");
        let tags = json!({"tags": ["x".repeat(4 << 20)]}).to_string();
        if uri == "/v2/" { answer(200, &[], "") } else { answer(200, &[("link", &link)], tags) }
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    assert_eq!(registry.tags().await.unwrap().len(), 16);
}

/// A registry with these tags, and how many times each was asked for.
async fn tagged(tags: &[(&str, &str)]) -> (String, Arc<Mutex<HashMap<String, usize>>>) {
    let tags: Vec<(String, String)> = tags.iter().map(|(t, d)| ((*t).to_owned(), digest(d.as_bytes()))).collect();
    let asked = Arc::new(Mutex::new(HashMap::new()));
    let told = asked.clone();
    let address = serve(move |_, uri, _| {
        if uri == "/v2/" {
            return answer(200, &[], "");
        }
        if let Some((_, last)) = uri.split_once("/tags/list?") {
            let names: Vec<&str> = tags.iter().map(|(tag, _)| tag.as_str()).collect();
            let (page, link) = if last.contains("page=2") {
                (&names[2..], "")
            } else {
                (&names[..names.len().min(2)], "</v2/team/app/tags/list?page=2>; rel=\"next\"")
            };
            let body = json!({"name": "team/app", "tags": page}).to_string();
            let more = [("link", link)];
            return answer(200, if link.is_empty() || names.len() <= 2 { &[] } else { &more[..] }, body);
        }
        let reference = uri.rsplit('/').next().unwrap().to_owned();
        *told.lock().unwrap().entry(reference.clone()).or_insert(0) += 1;
        match tags.iter().find(|(tag, digest)| *tag == reference || *digest == reference) {
            Some((_, digest)) => answer(200, &[("docker-content-digest", digest)], ""),
            None => answer(404, &[], ""),
        }
    })
    .await;
    (address, asked)
}

#[tokio::test]
async fn checks_find_what_the_original_finds() {
    let (address, asked) =
        tagged(&[("1.0.0", "a"), ("latest", "c"), ("1.1.0", "b"), ("1.1", "b"), ("1.2.0-rc.1", "c"), ("x", "d")]).await;
    let registries = Registries::default();
    let versions = async |more: serde_json::Value, from: Option<Version>| {
        let mut source = json!({"repository": format!("{address}/team/app")});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let source = Source::read(Kind::Registry, source.as_object().unwrap()).unwrap();
        let found = check::check(Kind::Registry, &source, from.as_ref(), &registries, &silent()).await;
        found.map(|versions| versions.into_iter().map(|v| v.0["tag"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(versions(json!({}), None).await.unwrap(), ["1.0.0", "1.1.0", "latest"]);
    assert_eq!(versions(json!({"pre_releases": true}), None).await.unwrap(), ["1.0.0", "1.1.0", "1.2.0-rc.1"]);
    assert_eq!(versions(json!({"semver_constraint": "1.0.x"}), None).await.unwrap(), ["1.0.0"]);
    assert_eq!(versions(json!({"tag_regex": "^[x1]$|^1\\.1"}), None).await.unwrap(), ["1.1.0", "1.1", "x"]);
    assert_eq!(versions(json!({"tag": "x"}), None).await.unwrap(), ["x"]);
    assert!(versions(json!({"tag": "absent"}), None).await.unwrap().is_empty());
    let former = Version::from([("tag", "x"), ("digest", digest(b"a").as_str())]);
    assert_eq!(versions(json!({"tag": "x"}), Some(former)).await.unwrap(), ["x", "x"]);
    // What is older than what is known is not asked for.
    asked.lock().unwrap().clear();
    let known = Version::from([("tag", "1.1.0"), ("digest", digest(b"b").as_str())]);
    assert_eq!(versions(json!({}), Some(known)).await.unwrap(), ["1.1.0", "latest"]);
    assert!(!asked.lock().unwrap().contains_key("1.0.0"));
    let error = versions(json!({"semver_constraint": "abc"}), None).await.unwrap_err().to_string();
    assert!(error.contains("source.semver_constraint") && error.contains("improper constraint: abc"), "{error}");
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_may_fail() {
    let (mirror, asked) = tagged(&[("latest", "m")]).await;
    let mirror = Mirror { host: format!("http://{mirror}"), ..Mirror::default() };
    let registries = Registries { mirror: Some(mirror.into()), ..Registries::default() };
    let source = json!({"repository": "team/app", "tag": "latest"});
    let source = Source::read(Kind::Registry, source.as_object().unwrap()).unwrap();
    let found = check::check(Kind::Registry, &source, None, &registries, &silent()).await.unwrap();
    assert_eq!(found, [Version::from([("tag", "latest"), ("digest", digest(b"m").as_str())])]);
    assert_eq!(asked.lock().unwrap()["latest"], 1);
    let places = source.places(&registries).unwrap();
    assert_eq!(places[1].repository.to_string(), "index.docker.io/team/app");
}

#[tokio::test]
async fn statuses_are_told_in_the_users_terms() {
    let address = serve(|_, uri, _| match uri.as_str() {
        "/v2/" => answer(200, &[], ""),
        _ => answer(StatusCode::FORBIDDEN.as_u16(), &[], r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
    })
    .await;
    let registry = open(&address, Access::default(), PATIENCE).await.unwrap();
    let error = registry.tags().await.unwrap_err().to_string();
    assert!(error.contains("set source.username") && error.contains("DENIED: no"), "{error}");
    let closed = open("127.0.0.1:1", Access::default(), PATIENCE).await.err().unwrap().to_string();
    assert!(closed.contains("127.0.0.1") && closed.contains("cannot be reached"), "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_gives_a_password_for_the_keys_of_the_source() {
    let address = Arc::new(Mutex::new(String::new()));
    let (own, asked) = (address.clone(), Arc::new(Mutex::new(Vec::new())));
    let told = asked.clone();
    let bound = serve(move |method, _, headers| {
        let header = |name: &str| headers.get(name).map_or("", |h| h.to_str().unwrap()).to_owned();
        told.lock().unwrap().push(format!("{} {}", header("x-amz-target"), header("authorization")));
        if method == Method::POST && header("x-amz-target").ends_with(".GetAuthorizationToken") {
            // "AWS:hunter22"
            let data = json!({"authorizationToken": "QVdTOmh1bnRlcjIy", "proxyEndpoint": format!("https://{}", own.lock().unwrap())});
            return answer(200, &[], json!({"authorizationData": [data]}).to_string());
        }
        if method == Method::POST {
            return answer(200, &[], "<x><AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken></x>");
        }
        match header("authorization").as_str() {
            "Basic QVdTOmh1bnRlcjIy" => answer(200, &[("docker-content-digest", "sha256:1")], ""),
            _ => answer(401, &[("www-authenticate", "Basic realm=\"ecr\"")], ""),
        }
    })
    .await;
    address.lock().unwrap().clone_from(&bound);
    let run = |source: serde_json::Value| {
        let bound = bound.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(super::BINARY);
            command.args(["resource", "registry-image", "check"]).env("AWS_ENDPOINT_URL", format!("http://{bound}/"));
            super::texts(&super::run(&mut command, &json!({"source": source}).to_string()))
        })
    };
    let source = json!({
        "repository": "team/app", "tag": "1", "aws_region": "eu-west-2", "aws_access_key_id": "KEY",
        "aws_secret_access_key": "secret", "aws_role_arns": ["arn:aws:iam::1:role/r"],
    });
    let (status, stdout, stderr) = run(source).await.unwrap();
    assert_eq!((status, stdout.trim()), (0, r#"[{"digest":"sha256:1","tag":"1"}]"#), "{stderr}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked[0].contains("Credential=KEY/") && asked[0].contains("/eu-west-2/sts/aws4_request"), "{asked:?}");
    assert!(asked[1].contains("Credential=ROLEKEY/") && asked[1].contains("/eu-west-2/ecr/aws4_request"), "{asked:?}");
    let (status, _, stderr) = run(json!({"repository": "a", "aws_region": "eu-west-2"})).await.unwrap();
    assert!(status == 1 && stderr.contains("source.aws_access_key_id"), "{stderr}");
}
