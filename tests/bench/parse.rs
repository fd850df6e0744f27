//! How long it takes to read and check a large pipeline. `cargo bench --bench parse [-- --pairs N]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use whistlestop::pipeline;
use whistlestop::pipeline::yaml::Document;
use yard::{Pairs, pairs};

/// The largest of the real pipelines beside the project.
const LARGEST: &str = "pipelines/cloudfoundry__cf-deployment__ci__pipelines__update-releases.yml";

fn main() {
    if !yard::wanted() {
        return;
    }
    yard::title();
    let folder = std::env::var("CONFORMANCE_CORPUS");
    let folder = folder.unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus").to_owned());
    match std::fs::read(Path::new(&folder).join(LARGEST)) {
        Ok(text) => measure("the largest real pipeline", &text),
        Err(_) => println!("the largest real pipeline is not there: CONFORMANCE_CORPUS names its folder"),
    }
    measure("a made pipeline", made().as_bytes());
}

/// Reads and checks it, beside the YAML library alone.
fn measure(what: &str, text: &[u8]) {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let mut both = Pairs::default();
    for _ in 0..pairs() {
        let begin = Instant::now();
        assert!(Document::parse(text).is_ok());
        let floor = begin.elapsed();
        let begin = Instant::now();
        assert!(pipeline::load(text).is_ok());
        both.add(begin.elapsed(), floor);
    }
    both.show(&format!("{what}, {lines} lines, read and checked"), "<= 30 ms");
}

/// As many jobs, resources and lines as the largest real one.
fn made() -> String {
    let mut text = "resources:\n".to_owned();
    for i in 0..130 {
        _ = writeln!(
            text,
            "- name: r{i}\n  type: git\n  source:\n    uri: https://example.com/r{i}.git\n    branch: main"
        );
    }
    text.push_str("jobs:\n");
    for job in 0..111 {
        _ = writeln!(text, "- name: j{job}\n  serial: true\n  plan:\n  - in_parallel:");
        for i in 0..20 {
            let resource = (job + i) % 130;
            _ = writeln!(text, "    - get: r{resource}\n      trigger: true");
        }
        for task in 0..4 {
            _ = writeln!(text, "  - task: t{task}\n    config:\n      platform: linux\n      inputs:");
            for i in 0..5 {
                _ = writeln!(text, "      - name: r{i}");
            }
            _ = writeln!(
                text,
                "      run:\n        path: sh\n        args:\n        - -c\n        - |\n          echo {task}"
            );
            for i in 0..4 {
                _ = writeln!(text, "          echo line {i}");
            }
            _ = writeln!(text, "      params:\n        A: 1\n        B: two");
        }
    }
    text
}
