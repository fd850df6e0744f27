//! AWS on loopback: moto's server, and a small proxy before it that counts requests and makes trouble.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

/// What the proxy does next.
#[derive(Debug, Default)]
struct Mood {
    /// The operations that came through, in order.
    asked: Vec<String>,
    /// So many more answers are «too many requests».
    throttled: usize,
    /// Nothing works.
    down: bool,
}

/// See the module's doc.
pub struct Moto {
    server: Child,
    direct: String,
    /// Where the proxy listens.
    pub url: String,
    mood: Arc<Mutex<Mood>>,
    client: reqwest::Client,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Moto {
    /// Starts both.
    pub async fn start() -> Moto {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = std::env::var("MOTO_SERVER").unwrap_or_else(|_| "moto_server".to_owned());
        let server = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}; tests/run installs it"));
        let direct = format!("http://127.0.0.1:{port}");
        // Its server closes connections whenever it likes.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let mut moto = Moto { server, direct, url: String::new(), mood: Arc::default(), client };
        for _ in 0..600 {
            let answer = moto.client.get(format!("{}/moto-api/data.json", moto.direct)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                moto.proxy().await;
                return moto;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not answer");
    }

    async fn proxy(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, to, client) = (self.mood.clone(), self.direct.clone(), self.client.clone());
        let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (mood, to, client) = (mood.clone(), to.clone(), client.clone());
            async move { pass(&mood, &to, &client, method, uri, headers, body).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    /// The next `n` answers are throttled.
    pub fn throttle(&self, n: usize) {
        self.mood.lock().unwrap().throttled = n;
    }

    /// Whether it is down from now on.
    pub fn down(&self, down: bool) {
        self.mood.lock().unwrap().down = down;
    }

    /// What was asked since the last time, as `GetParameters` and so on.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.mood.lock().unwrap().asked)
    }

    /// Asks moto itself, past the proxy.
    pub async fn ssm(&self, operation: &str, body: Value) -> Value {
        let request = self.client.post(&self.direct).body(body.to_string());
        let request = request.header("x-amz-target", format!("AmazonSSM.{operation}"));
        let request = request.header("content-type", "application/x-amz-json-1.1");
        let scope =
            "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-2/ssm/aws4_request, SignedHeaders=host, Signature=x";
        request.header("authorization", scope).send().await.unwrap().json().await.unwrap()
    }

    /// The flags with which a server uses it.
    pub fn flags(&self) -> Vec<String> {
        let pairs = [
            ("--aws-ssm-region", "eu-west-2"),
            ("--aws-ssm-endpoint", &self.url),
            ("--aws-ssm-access-key", "key"),
            ("--aws-ssm-secret-key", "secret"),
        ];
        pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
    }
}

#[allow(clippy::too_many_arguments, reason = "what a request is made of")]
async fn pass(
    mood: &Mutex<Mood>,
    to: &str,
    client: &reqwest::Client,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = String::from_utf8_lossy(&body).into_owned();
    let action = form.split('&').find_map(|p| p.strip_prefix("Action=")).unwrap_or_default();
    let name = target.rsplit('.').next().filter(|n| !n.is_empty()).unwrap_or(action).to_owned();
    let (throttled, down) = {
        let mut mood = mood.lock().unwrap();
        mood.asked.push(name);
        let throttled = mood.throttled > 0;
        mood.throttled = mood.throttled.saturating_sub(1);
        (throttled, mood.down)
    };
    if down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if throttled {
        let body = json!({"__type": "ThrottlingException", "message": "Rate exceeded"});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let mut request = client.request(method, format!("{to}{uri}")).body(body);
    for (name, value) in headers.iter().filter(|(n, _)| *n != "host" && *n != "content-length") {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let mut response = (status, answer.bytes().await.unwrap()).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}
