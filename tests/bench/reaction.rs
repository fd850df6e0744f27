//! How soon a new version starts the job that waits for it, among 500 jobs. The versions are commits to a git
//! repository; the moments are seen from outside, by asking as fast as the server answers.
//! `cargo bench --bench reaction [-- --pairs N]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use yard::http::Link;
use yard::server::Server;
use yard::{asked, line, median, ms, pairs, quantile};

const JOBS: usize = 500;

fn main() {
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        yard::title();
        for (name, shared) in [("own resources", false), ("one resource", true)] {
            if asked(name) {
                reaction(name, shared).await;
            }
        }
    });
}

fn git(directory: &Path, args: &[&str]) {
    let done = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=b", "-c", "user.email=b@example.com"])
        .args(args)
        .output()
        .unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// 500 jobs: the last is triggered by the repository; the others use it too, or each a mock resource of its own.
fn pipeline(repository: &Path, shared: bool) -> String {
    let mut resources = format!(
        "resources:\n- {{name: repo, type: git, check_every: never, source: {{uri: \"file://{}\"}}}}\n",
        repository.display()
    );
    let mut jobs = "jobs:\n".to_owned();
    for i in 1..JOBS {
        if !shared {
            resources += &format!("- {{name: r{i}, type: mock, check_every: never, source: {{}}}}\n");
        }
        let get = if shared { "repo".to_owned() } else { format!("r{i}") };
        jobs += &format!("- {{name: j{i}, plan: [{{get: {get}, trigger: {}}}]}}\n", !shared);
    }
    format!("{resources}{jobs}- {{name: down, plan: [{{get: repo, trigger: true}}]}}\n")
}

async fn reaction(name: &str, shared: bool) {
    let server = Server::start(&["--runtime", "embedded", "--allow-local-git"]).await;
    let repository = tempfile::tempdir().unwrap();
    git(repository.path(), &["init", "-q", "-b", "main"]);
    git(repository.path(), &["commit", "-q", "--allow-empty", "-m", "first"]);
    server.pipeline("p", &pipeline(repository.path(), shared)).await;
    let mut look = Look { link: server.link().await, head: server.head() };
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    let (mut version, mut build) = (String::new(), 0);
    for round in 0..=pairs() {
        git(repository.path(), &["commit", "-q", "--allow-empty", "-m", &format!("commit {round}")]);
        server.call("POST", "/api/v1/teams/main/pipelines/p/resources/repo/check").await;
        let (mut saved, begin) = (None, Instant::now());
        let started = loop {
            assert!(begin.elapsed() < Duration::from_secs(60), "no build came of a new version");
            if saved.is_none() {
                let newest = look.version().await;
                if newest != version {
                    (saved, version) = (Some(Instant::now()), newest);
                }
            }
            let newest = look.started().await;
            if newest > build {
                build = newest;
                break Instant::now();
            }
        };
        server.follow(build).await;
        let asked = Instant::now();
        look.version().await;
        look.started().await;
        // The first round only warms up.
        if round > 0 {
            times.push(ms(started - saved.unwrap_or(started)));
            floors.push(ms(asked.elapsed()));
        }
    }
    let (n, floor) = (times.len(), median(&floors));
    line(&format!("version saved to build started, {name}: median"), "", (median(&times), "ms"), Some(floor), n);
    line(
        &format!("version saved to build started, {name}: p99"),
        "<= 50 ms",
        (quantile(&times, 0.99), "ms"),
        Some(floor),
        n,
    );
}

/// Asks the server.
struct Look {
    link: Link,
    head: String,
}

impl Look {
    /// The newest version of the repository.
    async fn version(&mut self) -> String {
        let path = "/api/v1/teams/main/pipelines/p/resources/repo/versions?limit=1";
        let answer = self.link.json("GET", path, &self.head, b"").await.unwrap();
        answer[0]["version"]["ref"].as_str().unwrap_or_default().to_owned()
    }

    /// The newest build of the triggered job that has started.
    async fn started(&mut self) -> i64 {
        let path = "/api/v1/teams/main/pipelines/p/jobs/down/builds?limit=1";
        let answer = self.link.json("GET", path, &self.head, b"").await.unwrap();
        let build = &answer[0];
        if build["status"] == "pending" { 0 } else { build["id"].as_i64().unwrap_or(0) }
    }
}
