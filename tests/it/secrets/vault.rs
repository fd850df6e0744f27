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
