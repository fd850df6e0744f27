//! The client as a process, against a server that only knows prepared answers: stdout, stderr and exit code together.

mod changes;
mod execute;
mod hijack;
mod hints;
mod lists;
mod login;
mod pipelines;
mod stream;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// What a command should have done.
pub fn ended(code: i32, stdout: &str, stderr: &str) -> Ended {
    Ended { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// Status, headers and body.
type Prepared = (u16, Vec<(&'static str, String)>, String);

/// Prepared answers by `METHOD /path?query`, and what was asked.
#[derive(Default)]
struct Script {
    answers: HashMap<String, Prepared>,
    asked: Vec<String>,
}

/// A server, and the home directory of somebody who is logged in to it as target `ci`.
pub struct World {
    pub url: String,
    pub home: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// A server that says which version it is, and nothing else.
    pub fn new() -> World {
        World::with_routes(Router::new())
    }

    /// A server with further routes of its own.
    pub fn with_routes(routes: Router) -> World {
        let script = Arc::new(Mutex::new(Script::default()));
        let answering = Arc::clone(&script);
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let answering = Arc::clone(&answering);
            async move { answer(&answering, &method, &uri, &headers, &body) }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes.fallback(answer)).await.unwrap() });
        let home = tempfile::tempdir().unwrap();
        let flyrc =
            json!({"targets": {"ci": {"api": url, "team": "main", "token": {"type": "bearer", "value": "abc"}}}});
        std::fs::write(home.path().join(".flyrc"), flyrc.to_string()).unwrap();
        let world = World { url, home, script, _runtime: runtime };
        world.answer("GET /api/v1/info", 200, json!({"version": "8.2.5", "worker_version": "2.5"}));
        world
    }

    /// Prepares an answer.
    pub fn answer(&self, request: &str, status: u16, body: Value) -> &World {
        self.answer_with(request, status, &[], body)
    }

    /// Prepares an answer with headers; text is sent as it is, everything else as JSON.
    pub fn answer_with(&self, request: &str, status: u16, headers: &[(&'static str, &str)], body: Value) -> &World {
        let headers = headers.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        self.script.lock().unwrap().answers.insert(request.to_owned(), (status, headers, body));
        self
    }

    /// What was asked so far, but for the version.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.script.lock().unwrap().asked.clone();
        asked.into_iter().filter(|a| a != "GET /api/v1/info").collect()
    }

    /// Runs the client under the name `fly`.
    pub fn fly(&self, args: &[&str]) -> Ended {
        self.fly_given(args, "")
    }

    /// Runs the client, and tells what it says to do next.
    pub fn hint(&self, args: &[&str]) -> String {
        let told = self.fly_with(args, "").stderr;
        told.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default().to_owned()
    }

    /// Runs the client with something on its standard input; what it says to do next is left out.
    pub fn fly_given(&self, args: &[&str], stdin: &str) -> Ended {
        let ended = self.fly_with(args, stdin);
        let stderr = ended.stderr.split_inclusive('\n').filter(|line| !line.starts_with("hint: ")).collect();
        Ended { stderr, ..ended }
    }

    fn fly_with(&self, args: &[&str], stdin: &str) -> Ended {
        let mut command = self.command(args);
        let input = self.home.path().join("stdin");
        std::fs::write(&input, stdin).unwrap();
        command.stdin(std::fs::File::open(&input).unwrap());
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the client on a terminal of its own, and tells everything it shows.
    pub fn fly_on_terminal(&self, args: &[&str]) -> (i32, String) {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = self.command(args);
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut shown = Vec::new();
        // Reading ends with an error once nobody holds the other side.
        drop(std::io::copy(&mut std::fs::File::from(pty.master), &mut shown));
        (child.wait().unwrap().code().unwrap(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
    }

    /// Starts the client on a terminal of its own, to type on.
    pub fn fly_typed_at(&self, args: &[&str]) -> Terminal {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = self.command(args);
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let child = command.spawn().unwrap();
        drop(command);
        Terminal { child, keyboard: pty.master.into(), shown: String::new(), seen: 0 }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_whistlestop"));
        command.arg0("fly").args(args).env_clear();
        command.env("HOME", self.home.path()).env("TZ", "UTC").env("TERM", "xterm");
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }
}

/// The client on a terminal.
pub struct Terminal {
    child: std::process::Child,
    keyboard: std::fs::File,
    /// Everything it showed so far, without returns.
    shown: String,
    /// Up to where that was expected.
    seen: usize,
}

impl Terminal {
    /// Waits until it shows `text` after what was expected before.
    pub fn expect(&mut self, text: &str) {
        while !self.shown[self.seen..].contains(text) {
            assert!(self.read(), "{text:?} is not shown: {:?}", self.shown);
        }
        self.seen += self.shown[self.seen..].find(text).unwrap() + text.len();
    }

    /// Types.
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end; the exit code and everything it showed.
    pub fn end(mut self) -> (i32, String) {
        while self.read() {}
        (self.child.wait().unwrap().code().unwrap(), self.shown)
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // Reading ends with an error once nobody holds the other side.
        let n = self.keyboard.read(&mut bytes).unwrap_or(0);
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..n]).replace('\r', ""));
        n > 0
    }
}

fn answer(script: &Mutex<Script>, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
    let request = format!("{method} {uri}");
    let mut script = script.lock().unwrap();
    let text = String::from_utf8_lossy(body);
    script.asked.push(if text.is_empty() { request.clone() } else { format!("{request} {text}") });
    let logged_in = headers.get("authorization").is_some_and(|v| v == "Bearer abc");
    let open = ["/api/v1/info", "/sky/"].iter().any(|p| uri.path().starts_with(p));
    let nobody = headers.get("authorization").is_some_and(|v| v == "Bearer");
    match script.answers.get(&request) {
        _ if nobody => (StatusCode::UNAUTHORIZED, "not authorized").into_response(),
        _ if !logged_in && !open => (StatusCode::UNAUTHORIZED, "not authorized").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
        Some((status, headers, body)) => {
            let mut response = (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response();
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
    }
}
