//! How long the API takes to list 250 pipelines while 400 requests a second are offered over 200 connections. Each
//! request has its moment: one that must wait for the answer before it is late, and that counts.
//! `cargo bench --bench api [-- --pairs SECONDS]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::time::Duration;

use tokio::time::Instant;
use yard::server::Server;
use yard::{asked, line, median, ms, pairs, quantile};

const PIPELINES: usize = 250;
const CONNECTIONS: u32 = 200;
const OFFERED: u32 = 400;

fn main() {
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        yard::title();
        let server = Server::start(&["--runtime", "embedded"]).await;
        let file =
            "resources: [{name: r, type: mock, check_every: never, source: {}}]\njobs: [{name: j, plan: [{get: r}]}]\n";
        for i in 0..PIPELINES {
            server.pipeline(&format!("p{i}"), file).await;
        }
        for path in ["/api/v1/teams/main/pipelines", "/api/v1/info"] {
            if asked(path) {
                offer(&server, path).await;
            }
        }
    });
}

/// Offers the load for as many seconds as pairs are wanted.
async fn offer(server: &Server, path: &'static str) {
    let (seconds, period) = (u32::try_from(pairs()).unwrap(), Duration::from_secs(1) * CONNECTIONS / OFFERED);
    let begin = Instant::now() + Duration::from_millis(200);
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (mut link, head) = (server.link().await, server.head());
        tasks.spawn(async move {
            let mut taken = Vec::new();
            for round in 0..seconds * OFFERED / CONNECTIONS {
                let due = begin + period * round + period * connection / CONNECTIONS;
                tokio::time::sleep_until(due).await;
                assert_eq!(link.send("GET", path, &head, b"").await.unwrap(), 200);
                link.body().await.unwrap();
                taken.push(ms(due.elapsed()));
            }
            taken
        });
    }
    let taken = tasks.join_all().await.concat();
    let figure = |name: &str| format!("GET {path}, {name}");
    line(&figure("p50"), "", (median(&taken), "ms"), None, taken.len());
    line(&figure("p99"), "<= 20 ms", (quantile(&taken, 0.99), "ms"), None, taken.len());
}
