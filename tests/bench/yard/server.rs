//! The server that is measured: the built binary as a process of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Link, Place};

/// The binary under measurement; `WHISTLESTOP_BINARY` names another.
pub fn binary() -> PathBuf {
    std::env::var_os("WHISTLESTOP_BINARY").unwrap_or(env!("CARGO_BIN_EXE_whistlestop").into()).into()
}

/// A running server on a state directory that goes with it.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub place: Place,
    directory: tempfile::TempDir,
    flags: Vec<String>,
    token: String,
}

impl Server {
    /// Starts it and signs in.
    pub async fn start(flags: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let (child, place, _) = spawn(directory.path(), &flags).await;
        let mut server = Server { child, place, directory, flags, token: String::new() };
        let form = b"grant_type=password&username=a&password=a&scope=openid";
        let head = "Authorization: Basic Zmx5OlpteDU=\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        let mut link = server.link().await;
        let answer = link.json("POST", "/sky/issuer/token", head, form).await.unwrap();
        server.token = answer["access_token"].as_str().unwrap().to_owned();
        server
    }

    /// Stops it and starts it again on the same state; how long until it answered.
    pub async fn again(&mut self) -> Duration {
        self.stop();
        let (child, place, took) = spawn(self.directory.path(), &self.flags).await;
        (self.child, self.place) = (child, place);
        took
    }

    fn stop(&mut self) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) };
        self.child.wait().ok();
    }

    /// Supervisors outlive their server on purpose; those on this state directory have nobody to come back to them.
    fn end_steps(&self) {
        let state = self.directory.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            if command.starts_with(&*binary().to_string_lossy()) && command.contains(&state) {
                // SAFETY: a signal to a process whose command line names a directory that is ours alone.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }

    /// The walls around steps of a server that was ended by force.
    fn lower_walls(&self) {
        let worker = self.directory.path().join("worker");
        whistlestop::runtime::network::Leases::new(Default::default(), &worker, "".as_ref()).walls().lower().ok();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of its state.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A connection to it.
    pub async fn link(&self) -> Link {
        Link::open(&self.place).await.unwrap()
    }

    /// The head of a signed-in request.
    pub fn head(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// A request on a connection of its own, which must succeed.
    pub async fn call(&self, method: &str, path: &str) -> Value {
        self.link().await.json(method, path, &self.head(), b"{}").await.unwrap()
    }

    /// Sets and unpauses a pipeline.
    pub async fn pipeline(&self, name: &str, file: &str) {
        let path = format!("/api/v1/teams/main/pipelines/{name}");
        let mut head = format!("{}Content-Type: application/x-yaml\r\n", self.head());
        let mut link = self.link().await;
        let mut probe = self.link().await;
        probe.send("GET", &format!("{path}/config"), &self.head(), b"").await.unwrap();
        let config: Value = serde_json::from_slice(&probe.body().await.unwrap()).unwrap_or_default();
        if !config["config"].is_null() {
            head.push_str("X-Concourse-Config-Version: 1\r\n");
        }
        link.json("PUT", &format!("{path}/config"), &head, file.as_bytes()).await.unwrap();
        link.json("PUT", &format!("{path}/unpause"), &self.head(), b"").await.unwrap();
    }

    /// Triggers a job; the new build's id.
    pub async fn trigger(&self, link: &mut Link, pipeline: &str, job: &str) -> i64 {
        let path = format!("/api/v1/teams/main/pipelines/{pipeline}/jobs/{job}/builds");
        link.json("POST", &path, &self.head(), b"").await.unwrap()["id"].as_i64().unwrap()
    }

    /// Follows a build to its end; its events as they were sent.
    pub async fn follow(&self, build: i64) -> Vec<u8> {
        let mut link = self.link().await;
        let status = link.send("GET", &format!("/api/v1/builds/{build}/events"), &self.head(), b"").await.unwrap();
        assert_eq!(status, 200);
        let mut all = Vec::new();
        let mut seen = 0;
        while link.more(&mut all).await.unwrap() {
            // The end is always a frame of its own and short.
            let from = all.len().saturating_sub(64).max(seen);
            if all[from..].windows(b"event: end\n".len()).any(|w| w == b"event: end\n") {
                return all;
            }
            seen = all.len().saturating_sub(16);
        }
        panic!("the events of build {build} ended without an end");
    }

    /// Triggers a job and follows it until it has finished, which must be well.
    pub async fn build(&self, link: &mut Link, pipeline: &str, job: &str) {
        let build = self.trigger(link, pipeline, job).await;
        let events = self.follow(build).await;
        let good = events.windows(11).any(|w| w == b"\"succeeded\"");
        assert!(good, "{}", String::from_utf8_lossy(&events[..events.len().min(4000)]));
    }

    /// Waits until the containers of builds that are over have been removed: their removal must not fall into the next
    /// measurement.
    pub async fn settle(&self, link: &mut Link) {
        loop {
            let left = link.json("GET", "/api/v1/teams/main/containers", &self.head(), b"").await.unwrap();
            if left.as_array().is_none_or(Vec::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Processor time it has used so far.
    pub fn used(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in megabytes: all of it, and the part that is not the binary's own file.
    pub fn memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1000.0
        };
        (of("VmRSS:"), of("RssAnon:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        self.end_steps();
        self.lower_walls();
    }
}

#[allow(clippy::zombie_processes, reason = "who gets the child waits for it")]
async fn spawn(state: &Path, flags: &[String]) -> (Child, Place, Duration) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begin = Instant::now();
    let child = Command::new(binary())
        .args(["serve", "--bind-ip", "127.0.0.1", "--bind-port", &free.port().to_string(), "--log-level", "error"])
        .args(["--add-local-user", "a:a", "--main-team-local-user", "a", "--state-dir"])
        .arg(state)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    let place = Place::Tcp(free);
    let until = begin + Duration::from_secs(20);
    loop {
        if let Ok(mut link) = Link::open(&place).await
            && let Ok(200) = link.send("GET", "/api/v1/info", "", b"").await
        {
            return (child, place, begin.elapsed());
        }
        assert!(Instant::now() < until, "the server does not answer");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}
