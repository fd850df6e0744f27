//! One-off builds: a directory goes up, an output comes down, and the task's exit code comes back.

use std::io::Read;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::json;

use super::{World, ended};

const TASK: &str = "platform: linux\ninputs: [{name: src}]\noutputs: [{name: out}]\nrun: {path: cat, args: [src/f]}\n";

/// Takes an artifact whose file `f` says hello.
async fn upload(body: Bytes) -> String {
    let mut archive = tar::Archive::new(GzDecoder::new(&body[..]));
    let found = archive.entries().unwrap().any(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.path().unwrap().ends_with("f") && entry.read_to_string(&mut text).is_ok() && text == "hello"
    });
    assert!(found);
    json!({"id": 3, "name": "", "build_id": 0}).to_string()
}

/// An output with one file.
async fn output(headers: HeaderMap) -> Vec<u8> {
    assert!(!headers.contains_key("accept-encoding"), "an archive is packed already");
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    archive.append_data(&mut header, "./made", &b"made"[..]).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

async fn events() -> String {
    let frame = |event: &str, version: &str, data| {
        format!("event: event\ndata: {}\n\n", json!({"data": data, "event": event, "version": version}))
    };
    let finish = frame("finish-task", "4.0", json!({"exit_status": 6}));
    format!("{finish}{}", frame("status", "1.0", json!({"status": "failed", "time": 1})))
}

/// A server that runs the task as build 5.
fn world() -> World {
    let routes = Router::new()
        .route("/api/v1/teams/main/artifacts", post(upload))
        .route("/api/v1/teams/main/artifacts/4", get(output))
        .route("/api/v1/builds/5/events", get(events));
    let world = World::with_routes(routes);
    world.answer("POST /api/v1/teams/main/builds", 201, json!({"id": 5, "name": "1"}));
    world.answer("GET /api/v1/builds/5/artifacts", 200, json!([{"id": 4, "name": "out"}]));
    world
}

#[test]
fn transfers_are_shown_on_a_terminal() {
    let world = world();
    let (src, task) = (world.home.path().join("s"), world.home.path().join("t.yml"));
    std::fs::create_dir(&src).unwrap();
    std::fs::write(src.join("f"), "hello").unwrap();
    std::fs::write(&task, TASK.replace("inputs: [", "inputs: [{name: other}, ")).unwrap();
    let (src, out) = (src.display(), world.home.path().join("o"));
    let (one, two, out) = (format!("src={src}"), format!("other={src}"), format!("out={}", out.display()));
    let args = ["-t", "ci", "e", "-c", task.to_str().unwrap(), "-i", &one, "-i", &two, "-o", &out];
    let (code, shown) = world.fly_on_terminal(&args);
    let done = "\x1b[1mdone\x1b[22m\n";
    assert!(shown.contains(&format!("uploading src     {done}uploading other   {done}executing build 5")), "{shown}");
    assert!(shown.ends_with(&format!("downloading out   {done}")), "{shown}");
    assert_eq!(code, 6);
}

#[test]
fn a_refused_upload_names_itself() {
    let world = World::new();
    let task = world.home.path().join("t.yml");
    std::fs::write(&task, TASK).unwrap();
    let input = format!("src={}", world.home.path().display());
    let refused = world.fly(&["-t", "ci", "e", "-c", task.to_str().unwrap(), "-i", &input]);
    assert_eq!(refused, ended(1, "", "error: 'uploading src' failed: resource not found\n"));
}

#[test]
fn inputs_go_up_and_outputs_come_down() {
    let world = world();
    let (src, out, task) = (world.home.path().join("s"), world.home.path().join("o"), world.home.path().join("t.yml"));
    std::fs::create_dir(&src).unwrap();
    std::fs::write(src.join("f"), "hello").unwrap();
    std::fs::write(&task, TASK).unwrap();
    let (task, input) = (task.to_str().unwrap(), format!("src={}", src.display()));
    let to = format!("out={}", out.display());
    let run = world.fly(&["-t", "ci", "e", "-c", task, "-i", &input, "-o", &to, "--", "-n"]);
    assert_eq!(run, ended(6, &format!("executing build 5 at {}/builds/5\nfailed\n", world.url), ""));
    assert_eq!(std::fs::read_to_string(out.join("made")).unwrap(), "made");
    let asked = world.asked();
    let posted = asked.iter().find_map(|a| a.strip_prefix("POST /api/v1/teams/main/builds ")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(posted).unwrap();
    let steps = &plan["ensure"]["step"]["do"];
    assert_eq!(steps[0]["in_parallel"]["steps"][0]["artifact_input"], json!({"artifact_id": 3, "name": "src"}));
    assert_eq!(steps[1]["task"]["config"]["run"], json!({"path": "cat", "args": ["src/f", "-n"]}));
}

#[test]
fn what_is_missing_is_said_before_anything_runs() {
    let world = World::new();
    let task = world.home.path().join("t.yml");
    std::fs::write(&task, TASK).unwrap();
    let task = task.to_str().unwrap();
    for (args, stderr) in [
        (&[][..], "error: missing required input `src`\n"),
        (&["-i", "zz=."], "error: unknown input `zz`\n"),
        (
            &["-i", "src=/no/such/dir"],
            "error: invalid argument for flag `-i, --input' (expected []flaghelpers.InputPairFlag): path '/no/such/dir' does not exist\n",
        ),
        (&["-o", "zz=."], "error: unknown output 'zz'\n"),
        (&["-j", "ci/zz"], "error: build inputs for ci/zz not found\n"),
    ] {
        assert_eq!(world.fly(&[&["-t", "ci", "execute", "-c", task], args].concat()), ended(1, "", stderr), "{args:?}");
    }
}
