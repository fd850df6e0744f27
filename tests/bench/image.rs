//! Images: fetching and unpacking beside `docker pull`, layers that are shared, and the disk of many containers.
//! `cargo bench --bench image [-- --pairs N] [--only pull|disk]`; needs a Docker engine, docker-registry and busybox.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../it/door/image.rs"]
mod image;
mod world;
mod yard;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use image::Registry;
use yard::server::Server;
use yard::{Pairs, asked, line, median, ms};

const LAYERS: u64 = 12;
/// Bytes of each layer: 300 MB in all.
const LAYER: usize = 25 << 20;
const FILE: usize = 64 << 10;
const CONTAINERS: usize = 100;

fn main() {
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(images());
}

/// Files that compress about as programs do: every other block is noise.
fn layer(number: u64) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ (number + 1);
    let mut archive = tar::Builder::new(Vec::with_capacity(LAYER + (LAYER >> 6)));
    for file in 0..LAYER / FILE {
        let mut content = Vec::with_capacity(FILE);
        while content.len() < FILE {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            content.extend_from_slice(&seed.to_le_bytes());
            content.extend_from_slice(b"of text.");
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("data/{number}/{file}"), content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn pipeline(registry: &str, name: &str) -> String {
    format!(
        "resources:\n- {{name: app, type: registry-image, source: {{repository: {registry}/{name}, tag: latest}}}}\n\
         jobs:\n- name: j\n  plan:\n  - get: app\n"
    )
}

/// Bytes on the disk below a directory, each file once.
fn disk(directory: &Path) -> f64 {
    let output = Command::new("du").args(["-sB1"]).arg(directory).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

async fn images() {
    yard::title();
    let registry = Registry::empty("").await;
    let base = {
        let root = tempfile::tempdir().unwrap();
        image::busybox(root.path());
        image::archive(root.path())
    };
    let mut layers = vec![base];
    layers.extend((1..LAYERS).map(layer));
    let run = serde_json::json!({"Env": ["PATH=/bin"]});
    image::push(&registry.address, "big", "latest", &layers, run.clone()).await;
    layers.pop();
    layers.push(layer(LAYERS));
    image::push(&registry.address, "other", "latest", &layers, run).await;
    drop(layers);
    if asked("pull") {
        pull(&registry.address).await;
    }
    if asked("disk") {
        containers(&registry.address).await;
    }
}

/// A get of the whole image on a server that has nothing yet, after a pull by an engine that has nothing either.
async fn pull(registry: &str) {
    let pairs = if std::env::args().any(|a| a == "--pairs") { yard::pairs() } else { 5 };
    let (mut whole, mut second) = (Pairs::default(), Vec::new());
    let reference = format!("{registry}/big:latest");
    for _ in 0..pairs {
        let begin = Instant::now();
        docker(&["pull", "-q", &reference]);
        let floor = begin.elapsed();
        docker(&["rmi", &reference]);

        let server = Server::start(&["--runtime", "embedded", "--resource-checking-interval", "1h"]).await;
        let mut link = server.link().await;
        server.pipeline("big", &pipeline(registry, "big")).await;
        server.pipeline("other", &pipeline(registry, "other")).await;
        let begin = Instant::now();
        server.build(&mut link, "big", "j").await;
        whole.add(begin.elapsed(), floor);
        let layers = server.file("worker/layers");
        let before = std::fs::read_dir(&layers).unwrap().count();
        let begin = Instant::now();
        server.build(&mut link, "other", "j").await;
        second.push(ms(begin.elapsed()));
        assert_eq!(std::fs::read_dir(&layers).unwrap().count(), before + 1, "one layer is fetched, and no other");
    }
    whole.show("300 MB in 12 layers, trigger to unpacked (floor: docker pull)", "<= 1.3 x");
    line("another image that shares 11 layers", "one fetched", (median(&second), "ms"), None, second.len());
}

/// What containers of one image take beside the image. The last step fails, so that all are kept.
async fn containers(registry: &str) {
    let server = Server::start(&["--runtime", "embedded", "--resource-checking-interval", "1h"]).await;
    let mut link = server.link().await;
    server.pipeline("big", &pipeline(registry, "big")).await;
    server.build(&mut link, "big", "j").await;
    let before = disk(&server.file("worker"));
    let task = |n: usize| {
        format!(
            "    - task: t{n}\n      image: app\n      config: {{platform: linux, run: {{path: sh, args: [-c, \"echo \
             mine > /mine; test {n} != {CONTAINERS}\"]}}}}\n"
        )
    };
    let tasks: String = (1..=CONTAINERS).map(task).collect();
    let config = format!("{}  - in_parallel:\n{tasks}", pipeline(registry, "big"));
    server.pipeline("many", &config).await;
    let build = server.trigger(&mut link, "many", "j").await;
    server.follow(build).await;
    let kept = std::fs::read_dir(server.file("worker/containers")).unwrap().count();
    assert!(kept >= CONTAINERS, "only {kept} containers are there to be measured");
    let each = (disk(&server.file("worker")) - before) / kept as f64 / 1e3;
    line("disk of each of 100 containers of it, beside the image", "what it writes", (each, "kB"), None, kept);
}
