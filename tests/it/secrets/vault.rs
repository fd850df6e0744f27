//! Vault, by a small server of the test that answers as its documentation says.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{bench, errors, given, task};

type Asked = Arc<Mutex<Vec<String>>>;

async fn fake() -> (String, Asked) {
    let asked = Asked::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = asked.clone();
    let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
        let seen = seen.clone();
        async move { answer(&seen, &method, uri.path(), &headers, &body) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

fn answer(asked: &Asked, method: &Method, path: &str, headers: &HeaderMap, body: &str) -> Response {
    let path = path.trim_start_matches("/v1/");
    asked.lock().unwrap().push(format!("{method} {path}"));
    let ok = |value: Value| axum::Json(value).into_response();
    if let Some(elsewhere) = path.strip_prefix("away/") {
        let to = format!("http://{elsewhere}/");
        return (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response();
    }
    if path == "auth/approle/login" {
        let given: Value = serde_json::from_str(body).unwrap();
        return match given == json!({"role_id": "r", "secret_id": "s"}) {
            true => ok(json!({"auth": {"client_token": "fresh", "lease_duration": 3600}})),
            false => StatusCode::BAD_REQUEST.into_response(),
        };
    }
    if !headers.get("x-vault-token").is_some_and(|t| t == "fresh" || t == "root") {
        return StatusCode::FORBIDDEN.into_response();
    }
    match path {
        p if p.starts_with("sys/internal/ui/mounts/concourse") => {
            ok(json!({"data": {"path": "concourse/", "options": {"version": "2"}}}))
        }
        p if p.starts_with("sys/internal/ui/mounts/old") => ok(json!({"data": {"path": "old/", "options": null}})),
        "concourse/data/main/p/key" => ok(json!({"data": {"data": {"value": "new-value"}, "metadata": {}}})),
        "concourse/data/main/login" => ok(json!({"data": {"data": {"user": "u", "port": 22}, "metadata": {}}})),
        "old/main/p/key" => ok(json!({"data": {"value": "old-value"}, "lease_duration": 600})),
        "other/main/p/key" => ok(json!({"data": {"value": "other-value"}, "lease_duration": 600})),
        "made/main/p/key" => {
            let value = format!("made-{}", asked.lock().unwrap().len());
            ok(json!({"data": {"value": value}, "lease_duration": 600, "lease_id": "made/key/1"}))
        }
        "old/root/x" => ok(json!({"data": {"value": "by-root-path"}, "lease_duration": 600})),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_and_both_ways_in() {
    let (url, asked) = fake().await;
    let flags = [
        "--vault-url",
        &url,
        "--vault-auth-backend",
        "approle",
        "--vault-auth-param",
        "role_id:r",
        "--vault-auth-param",
        "secret_id:s",
    ];
    let bench = bench(&flags).await;
    let config = json!({"url": url, "client_token": "root", "path_prefix": "/old"});
    let sources = json!([{"name": "v1", "type": "vault", "config": config}]);
    let params = json!({"A": "((key))", "U": "((login.user)):((login.port))", "O": "((v1:key))", "R": "((v1:root/x))"});
    let jobs = json!([{"name": "j", "plan": [task("t", params)]}, {"name": "k", "plan": [task("t", json!({"X": "((none))"}))]}]);
    bench.set(json!({"var_sources": sources, "jobs": jobs})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded", "{}", errors(&bench.events(id).await));
    for (name, value) in [("A", "new-value"), ("U", "u:22"), ("O", "old-value"), ("R", "by-root-path")] {
        assert_eq!(given(&bench, "t", name).as_deref(), Some(value));
    }
    let logins = asked.lock().unwrap().iter().filter(|a| a.contains("approle")).count();
    assert_eq!(logins, 1);
    asked.lock().unwrap().clear();
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert!(asked.lock().unwrap().is_empty(), "remembered");
    let id = bench.trigger("k").await;
    assert_eq!(bench.ended(id).await.status, "errored");
    let error = errors(&bench.events(id).await);
    assert!(error.contains("/concourse/main/p/none, /concourse/main/none in Vault"), "{error}");
}

/// A pipeline that reads `((v:key))` from the Vault at `url` with this prefix.
fn with_source(url: &str, prefix: &str) -> Value {
    let config = json!({"url": url, "client_token": "root", "path_prefix": prefix});
    let jobs = json!([{"name": "j", "plan": [task("t", json!({"A": "((v:key))"}))]}]);
    json!({"var_sources": [{"name": "v", "type": "vault", "config": config}], "jobs": jobs})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_s_own_source_goes_where_tenants_may_go_and_the_operator_s_anywhere() {
    let (url, asked) = fake().await;
    let flags = ["--vault-url", &url, "--vault-client-token", "root", "--secret-retry-attempts", "1"];
    let bench = bench(&[&flags[..], &["--deny-networks", "127.0.0.0/8,::1/128,169.254.0.0/16"]].concat()).await;
    let port = url.rsplit(':').next().unwrap();
    for denied in [
        url.clone(),
        format!("http://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
    ] {
        bench.set(with_source(&denied, "/old")).await;
        let id = bench.trigger("j").await;
        assert_eq!(bench.ended(id).await.status, "errored", "{denied}");
        let error = errors(&bench.events(id).await);
        assert!(error.contains("(--deny-networks)"), "{denied}: {error}");
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new(), "nothing was sent");
    bench.job(json!({"name": "j", "plan": [task("t", json!({"A": "((key))"}))]})).await;
    assert_eq!(bench.run("j").await.status, "succeeded", "the operator's own");
    assert_eq!(given(&bench, "t", "A").as_deref(), Some("new-value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_s_own_source_is_not_led_to_denied_addresses() {
    let (url, _) = fake().await;
    let bench = bench(&["--secret-retry-attempts", "1"]).await;
    for away in ["169.254.169.254/latest", "[::ffff:169.254.169.254]", "2852039166"] {
        bench.set(with_source(&format!("{url}/v1/away/{away}?"), "/old")).await;
        let id = bench.trigger("j").await;
        assert_eq!(bench.ended(id).await.status, "errored", "{away}");
        let error = errors(&bench.events(id).await);
        assert!(error.contains("is not allowed: the operator denies"), "{away}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_is_another_history_unless_it_was_leased_to_be_renewed() {
    let (url, _) = fake().await;
    let bench = bench(&[]).await;
    let check = async |prefix: &str| -> i64 {
        let config = json!({"url": url, "client_token": "root", "path_prefix": prefix});
        let source = json!({"initial_version": "1", "create_files": {"k": "((v:key))"}});
        let resources = json!([{"name": "r", "type": "mock", "source": source}]);
        let sources = json!([{"name": "v", "type": "vault", "config": config}]);
        let jobs = json!([{"name": "j", "plan": [{"get": "r"}]}]);
        bench.set(json!({"var_sources": sources, "resources": resources, "jobs": jobs})).await;
        let path = "/api/v1/teams/main/pipelines/p/resources/r/check";
        let answer = bench.admin.post(path).json(&json!({"from": null})).send().await.unwrap();
        let id = answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
        assert_eq!(bench.ended(id).await.status, "succeeded");
        let scopes =
            |tx: &whistlestop::store::ReadTx<'_>| Ok(tx.query_row("select count(*) from scopes", [], |r| r.get(0))?);
        bench.world.app().store.read(scopes).await.unwrap()
    };
    let first = check("/old").await;
    assert_eq!(check("/old").await, first);
    let second = check("/other").await;
    assert_eq!(second, first + 1, "a value that only has a duration is a value");
    let third = check("/made").await;
    bench.world.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(check("/made").await, third, "made anew, and yet the same");
}
