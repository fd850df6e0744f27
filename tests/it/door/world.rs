//! The real binary for a test: a server as a child process on a state directory of its own, and the client.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use whistlestop::runtime::docker::{Docker, Options};
use whistlestop::runtime::{Runtime as _, network};

/// How long anything may take that is not itself measured.
pub const PATIENCE: Duration = Duration::from_secs(120);
const USER: &str = "ann";
const PASSWORD: &str = "a password";

/// Where steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Embedded,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Embedded => "embedded",
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The binary under test.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whistlestop"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    for name in ["PATH", "DOCKER_HOST", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a command to its end.
pub async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(2 * PATIENCE, command.output());
    let output = output.await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program that must succeed, and tells its output without the last line's end.
pub async fn run(directory: &Path, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).stdin(Stdio::null());
    let who = [("NAME", "Ann"), ("EMAIL", "ann@localhost")];
    for (name, value) in who {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let ended = ended(command).await;
    assert_eq!(ended.code, 0, "{program} {args:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout.trim_end().to_owned()
}

/// Asks until there is an answer.
pub async fn until<T>(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < patience, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An address nobody else here has, so that a server that was killed finds its port free when it comes back.
fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 100, 0, 0)) + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A server, and the home of somebody who is signed in to it as target `ci`.
pub struct World {
    pub directory: tempfile::TempDir,
    state: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    address: String,
    log: Arc<Mutex<String>>,
    server: Option<Child>,
    token: String,
}

impl World {
    /// Serving with these flags, on a state directory in a directory of its own; ann owns the team main.
    pub async fn new(runtime: Runtime, flags: &[&str]) -> World {
        World::with_env(runtime, flags, &[]).await
    }

    /// As [`World::new`], with further environment.
    pub async fn with_env(runtime: Runtime, flags: &[&str], env: &[(&str, &str)]) -> World {
        let directory = tempfile::Builder::new().prefix("whistlestop-door-").tempdir().unwrap();
        let state = directory.path().join("state");
        World::on(directory, state, runtime, flags, env).await
    }

    /// As [`World::with_env`], on this state directory.
    pub async fn on(
        directory: tempfile::TempDir,
        state: PathBuf,
        runtime: Runtime,
        flags: &[&str],
        env: &[(&str, &str)],
    ) -> World {
        std::fs::create_dir_all(directory.path().join("home")).unwrap();
        let user = format!("{USER}:{PASSWORD}");
        let own = ["--runtime", runtime.name(), "--add-local-user", &user, "--main-team-local-user", USER];
        let flags = own.iter().chain(flags).map(|f| (*f).to_owned()).collect();
        let mut world = World {
            directory,
            state,
            flags,
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            address: format!("{}:0", own_loopback()),
            log: Arc::default(),
            server: None,
            token: String::new(),
        };
        world.start().await;
        let login = ["login", "-c", &world.url(""), "-u", USER, "-p", PASSWORD];
        world.fly(&login).await;
        world.sign_in().await;
        world
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// `whistlestop serve` as this world runs it.
    pub fn serve(&self) -> Command {
        self.serve_with(|flag| flag)
    }

    fn serve_with<'a>(&'a self, flag: impl Fn(&'a str) -> &'a str) -> Command {
        let mut command = binary();
        let (ip, port) = self.address.split_once(':').unwrap();
        command.args(["serve", "--bind-ip", ip, "--bind-port", port, "--state-dir"]).arg(&self.state);
        command.args(self.flags.iter().map(|own| flag(own))).env("HOME", self.home()).envs(self.env.iter().cloned());
        command
    }

    /// A second process on the same state directory, with another word in place of one of its flags, once it is ready.
    pub async fn beside(&self, word: &str, other: &str) -> Child {
        let mut command = self.serve_with(|flag| if flag == word { other } else { flag });
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = self.log.clone();
        let mut ready = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            keep(&log, &line);
            if line.contains(" ready") {
                ready = true;
                break;
            }
        }
        assert!(ready, "the second process did not start:\n{}", self.log());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&log, &line);
            }
        });
        child
    }

    /// From the next start on, another word in place of one of its flags.
    pub fn replace_flag(&mut self, word: &str, other: &str) {
        let place = self.flags.iter_mut().find(|flag| *flag == word);
        other.clone_into(place.unwrap_or_else(|| panic!("no flag {word}")));
    }

    /// Starts the server and waits until it serves.
    pub async fn start(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut child = self.serve().stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = self.log.clone();
        let mut ready = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            keep(&log, &line);
            if let Some((_, rest)) = line.split_once("ready address=") {
                ready = rest.split_whitespace().next().unwrap().to_owned();
                break;
            }
        }
        assert!(!ready.is_empty(), "the server did not start:\n{}", self.log());
        self.address = ready;
        self.server = Some(child);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&log, &line);
            }
        });
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.start_kill().unwrap();
        server.wait().await.unwrap();
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("it runs");
        let pid = i32::try_from(server.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        tokio::time::timeout(PATIENCE, server.wait()).await.expect("it does not stop").unwrap()
    }

    /// Whether the server's process lives.
    pub fn lives(&mut self) -> bool {
        self.server.as_mut().is_some_and(|s| s.try_wait().unwrap().is_none())
    }

    /// What the server wrote to its standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where the client keeps its targets.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The address of a path on the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Name and password of who owns the team main.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// The client, ready to be started.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.args(["fly", "-t", "ci"]).args(args).env("HOME", self.home()).env("TZ", "UTC");
        command
    }

    /// Runs the client, however it ends.
    pub async fn try_fly(&self, args: &[&str]) -> Ended {
        ended(self.client(args)).await
    }

    /// Runs the client, which must succeed, and tells what it prints.
    pub async fn fly(&self, args: &[&str]) -> String {
        let ended = self.try_fly(args).await;
        assert_eq!(ended.code, 0, "fly {args:?}: {}{}\n{}", ended.stdout, ended.stderr, self.log());
        ended.stdout
    }

    /// A file in this world's own directory.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Sets a pipeline and unpauses it.
    pub async fn pipeline(&self, name: &str, config: &str) {
        let file = self.file(&format!("{name}.yml"), config);
        self.fly(&["set-pipeline", "-n", "-p", name, "-c", &file]).await;
        self.fly(&["unpause-pipeline", "-p", name]).await;
    }

    async fn sign_in(&mut self) {
        let form = [("grant_type", "password"), ("username", USER), ("password", PASSWORD), ("scope", "openid")];
        let client = Client::new();
        let request = client.post(self.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5")).form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        self.token = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned();
    }

    /// A request as ann.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Client::new().request(method, self.url(path)).bearer_auth(&self.token)
    }

    /// `GET /api/v1/…`, which must succeed.
    pub async fn api(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, &format!("/api/v1/{path}")).send().await;
        let answer = answer.unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.log()));
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Makes the team `other`, which ann owns too.
    pub async fn other_team(&self) {
        let owners = serde_json::json!({"auth": {"owner": {"users": [format!("local:{USER}")], "groups": []}}});
        self.of_other(Method::PUT, "", &owners.to_string()).await;
    }

    /// A request below the team `other`, which must succeed.
    pub async fn of_other(&self, method: Method, path: &str, body: &str) -> Value {
        let request = self.request(method, &format!("/api/v1/teams/other{path}"));
        let answer = request.header("content-type", "application/x-yaml").body(body.to_owned()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The builds of a job, the newest first.
    pub async fn builds(&self, pipeline: &str, job: &str) -> Vec<Value> {
        let builds = self.api(&format!("teams/main/pipelines/{pipeline}/jobs/{job}/builds")).await;
        builds.as_array().unwrap().clone()
    }

    /// Triggers a job; the new build's id.
    pub async fn trigger(&self, pipeline: &str, job: &str) -> i64 {
        let path = format!("/api/v1/teams/main/pipelines/{pipeline}/jobs/{job}/builds");
        let build: Value = self.request(Method::POST, &path).send().await.unwrap().json().await.unwrap();
        build["id"].as_i64().unwrap_or_else(|| panic!("no build: {build}"))
    }

    /// Waits until a build is over; its status.
    pub async fn finish(&self, build: i64) -> String {
        until(&format!("build {build} ends"), 2 * PATIENCE, async || {
            let build = self.api(&format!("builds/{build}")).await;
            let status = build["status"].as_str().unwrap();
            (status != "started" && status != "pending").then(|| status.to_owned())
        })
        .await
    }

    /// A build's whole log as the client shows it, until its end; tasks write to a terminal.
    pub async fn watch(&self, build: i64) -> String {
        self.try_fly(&["watch", "-b", &build.to_string()]).await.stdout.replace("\r\n", "\n")
    }

    /// Waits until a build's log, of which the client shows the part there is, holds a text.
    pub async fn says(&self, build: i64, text: &str) {
        let mut child = self.client(&["watch", "-b", &build.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                said += &line;
                said += "\n";
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(matches!(found, Ok(true)), "the log does not say {text:?}:\n{said}\n{}", self.log());
        child.kill().await.unwrap();
    }
}

fn keep(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().unwrap();
    log.push_str(line);
    log.push('\n');
}

impl Drop for World {
    /// Steps outlive their server: those of this state directory end here, whatever the test came to.
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            server.start_kill().ok();
            until_gone(server);
        }
        let state = self.state.clone();
        // A runtime of its own: this one is busy with the test that ends.
        let cleared = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clear(&state));
        });
        cleared.join().ok();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

fn until_gone(server: &mut Child) {
    while let Ok(None) = server.try_wait() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the supervisors below a state directory, and those that they were starting meanwhile.
fn end_supervisors(state: &Path) {
    let marks = state.join("worker").to_string_lossy().into_owned();
    let mut found = true;
    while std::mem::take(&mut found) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains("supervise") && line.contains(&marks) {
                found = true;
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends what runs for a state directory, and removes what its installation has on the Docker engine.
pub async fn clear(state: &Path) {
    end_supervisors(state);
    let worker = std::path::absolute(state.join("worker")).unwrap();
    network::Leases::new(network::Policy::default(), &worker, "".as_ref()).walls().lower().ok();
    let Ok(store) = whistlestop::store::Store::open(state) else { return };
    let Ok(Some(installation)) = store.read(|tx| tx.setting("installation")).await else { return };
    let label = format!("label=whistlestop.installation={installation}");
    for (list, remove) in [
        (["ps", "-aq"].as_slice(), ["rm", "-f"].as_slice()),
        (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
        (&["images", "-q"], &["rmi", "-f"]),
    ] {
        let Ok(listed) = Command::new("docker").args(list).args(["--filter", &label]).output().await else { return };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if !ids.is_empty() {
            Command::new("docker").args(remove).args(ids).output().await.ok();
        }
    }
    let docker = Docker::connect(Options::new(installation));
    if let Some(images) = docker.engine_images() {
        images.collect(&Default::default(), Duration::ZERO).await.ok();
    }
    docker.close().await;
}
