//! What the server costs while nothing happens: memory, processor time, time to start, size of the binary.
//! `cargo bench --bench idle [-- --pairs N]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use yard::server::{Server, binary};
use yard::{Pairs, line, ms, pairs};

const PIPELINES: usize = 100;
const EACH: usize = 5;
const WATCHED: Duration = Duration::from_secs(20);

fn main() {
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(idle());
}

/// Five resources, never checked, and five jobs.
fn pipeline() -> String {
    let resources = (0..EACH).map(|i| format!("- {{name: r{i}, type: mock, check_every: never, source: {{}}}}\n"));
    let jobs = (0..EACH).map(|i| {
        format!(
            "- name: j{i}\n  plan:\n  - {{get: r{i}, trigger: true}}\n  - task: t\n    config: {{platform: linux, \
             rootfs_uri: \"host:///\", inputs: [{{name: r{i}}}], run: {{path: sh, args: [-c, \"echo built\"]}}}}\n"
        )
    });
    format!("resources:\n{}jobs:\n{}", resources.collect::<String>(), jobs.collect::<String>())
}

async fn idle() {
    yard::title();
    let size = std::fs::metadata(binary()).unwrap().len() as f64 / 1e6;
    line("binary", "<= 30 MB", (size, "MB"), None, 1);
    let mut server = Server::start(&["--runtime", "embedded", "--allow-host-rootfs"]).await;
    let begin = Instant::now();
    for i in 0..PIPELINES {
        server.pipeline(&format!("p{i}"), &pipeline()).await;
    }
    println!("  100 pipelines set and unpaused in {:.0} ms", ms(begin.elapsed()));
    watch(&server, "after they were set").await;

    let mut starts = Pairs::default();
    for _ in 0..pairs() {
        let begin = Instant::now();
        Command::new(binary()).arg("--version").stdout(Stdio::null()).status().unwrap();
        let floor = begin.elapsed();
        starts.add(server.again().await, floor);
    }
    starts.show("start to serving (floor: start to --version)", "<= 50 ms");
    watch(&server, "after a start").await;
}

async fn watch(server: &Server, when: &str) {
    // What was asked for before is done within this.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = server.used();
    tokio::time::sleep(WATCHED).await;
    let share = 100.0 * (server.used() - used).as_secs_f64() / WATCHED.as_secs_f64();
    let (all, own) = server.memory();
    line(&format!("resident memory, {when}"), "<= 30 MB", (all, "MB"), None, 1);
    println!("  of it {own:.1} MB are not the binary's file");
    line(&format!("one core over 20 s, {when}"), "<= 1 %", (share, "%"), None, 1);
}
