//! A headless Chromium and one of its pages, driven over the DevTools protocol.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::world::PATIENCE;

const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=1280,900",
    "--remote-debugging-port=0",
];

/// One page, and what it complained of.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    events: VecDeque<Value>,
    /// Part of the page was dropped, see [`is_of_the_host`].
    broken: bool,
    /// What the page wrote to its console as error, exceptions of its scripts, and requests that failed.
    pub complaints: Vec<String>,
    _process: Child,
    _profile: tempfile::TempDir,
}

/// Chromium drops what it has under way when an interface of the host comes or goes, as those of other tests' steps do.
fn is_of_the_host(text: &Value) -> bool {
    text.as_str().is_some_and(|text| text.contains("net::ERR_NETWORK_CHANGED"))
}

impl Browser {
    pub async fn new() -> Browser {
        let profile = tempfile::Builder::new().prefix("whistlestop-chromium-").tempdir().unwrap();
        let mut process = Command::new("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs the package chromium");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("chromium ended: {said}"));
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.to_owned();
            }
            said += &line;
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let mut browser = Browser {
            socket,
            session: String::new(),
            next: 0,
            events: VecDeque::new(),
            broken: false,
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// One command and its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut command = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let message = self.read().await;
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    async fn read(&mut self) -> Value {
        let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("chromium is silent");
        let message: Value = serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap();
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded")
                if params["entry"]["level"] == "error" && !is_of_the_host(&params["entry"]["text"]) =>
            {
                self.complaints.push(params["entry"].to_string());
            }
            Some("Network.loadingFailed") if is_of_the_host(&params["errorText"]) => {
                self.broken |=
                    ["Document", "Script", "Stylesheet"].contains(&params["type"].as_str().unwrap_or_default());
            }
            Some("Page.loadEventFired") => self.events.push_back(message.clone()),
            _ => {}
        }
        message
    }

    async fn loaded(&mut self) {
        loop {
            while self.events.pop_front().is_none() {
                self.read().await;
            }
            self.events.clear();
            if !std::mem::take(&mut self.broken) {
                return;
            }
            self.call("Page.reload", json!({})).await;
        }
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&mut self, url: &str) {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert!(answer["errorText"].is_null() || is_of_the_host(&answer["errorText"]), "{url}: {answer}");
        self.loaded().await;
    }

    /// The value of an expression in the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text one sees, of the first element that the selector finds.
    pub async fn text(&mut self, selector: &str) -> String {
        let selector = Value::from(selector);
        let text = self.value(&format!("document.querySelector({selector})?.innerText ?? ''")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub async fn wait(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(&format!("Boolean({expression})")).await != true {
            if begun.elapsed() > PATIENCE {
                let shown = self.value("location.href + '\\n' + document.body.innerText").await;
                panic!("never {expression}: {}\n{:?}", shown.as_str().unwrap_or_default(), self.complaints);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the element that the selector finds shows a text.
    pub async fn shows(&mut self, selector: &str, text: &str) {
        let (selector, text) = (Value::from(selector), Value::from(text));
        self.wait(&format!("document.querySelector({selector})?.innerText.includes({text})")).await;
    }

    /// Writes into a field.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        self.value(&format!("document.querySelector({}).focus()", Value::from(selector))).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Clicks with the mouse where the element is, and waits for the page that follows.
    pub async fn follow(&mut self, selector: &str) {
        self.events.clear();
        self.click(selector).await;
        self.loaded().await;
    }

    /// Clicks with the mouse where the element is.
    pub async fn click(&mut self, selector: &str) {
        let place = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            Value::from(selector)
        );
        let place = self.value(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params).await;
        }
    }
}
