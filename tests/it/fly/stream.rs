//! Following builds: text, exit codes, and a connection that breaks half way.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{World, ended};

fn frame(id: usize, event: &str, version: &str, data: Value) -> String {
    let data = json!({"data": data, "event": event, "version": version, "event_id": id.to_string()});
    format!("id: {id}\nevent: event\ndata: {data}\n\n")
}

/// A server whose build 5 prints two lines and fails with 4; the first connection breaks after the first line.
fn world() -> World {
    let connections = Arc::new(AtomicUsize::new(0));
    let events = move |headers: HeaderMap| {
        let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let log = |id, text| frame(id, "log", "5.1", json!({"payload": text, "time": 1}));
            if first {
                return format!(
                    "{}{}id: 2\nevent: ev",
                    frame(0, "status", "1.0", json!({"status": "started"})),
                    log(1, "one\n")
                );
            }
            assert_eq!(headers["last-event-id"], "1");
            let finish = frame(3, "finish-task", "4.0", json!({"exit_status": 4}));
            format!("{}{finish}{}", log(2, "two\n"), frame(4, "status", "1.0", json!({"status": "failed", "time": 2})))
        }
    };
    let world = World::with_routes(Router::new().route("/api/v1/builds/5/events", get(events)));
    let job = "/api/v1/teams/main/pipelines/ci/jobs/unit";
    world.answer(&format!("POST {job}/builds"), 200, json!({"id": 5, "name": "2"}));
    world.answer(&format!("GET {job}/builds/2"), 200, json!({"id": 5, "name": "2"}));
    world.answer(&format!("GET {job}"), 200, json!({"id": 1, "name": "unit"}));
    world
}

#[test]
fn a_broken_connection_goes_on_where_it_stopped() {
    let watched = world().fly(&["-t", "ci", "watch", "-j", "ci/unit", "-b", "2"]);
    assert_eq!(watched, ended(4, "one\ntwo\nfailed\n", ""));
}

#[test]
fn a_packed_stream_is_read_as_it_comes_and_goes_on_after_a_break() {
    let (connections, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let told = Arc::clone(&go_on);
    let events = move |headers: HeaderMap| {
        let connection = connections.fetch_add(1, Ordering::SeqCst);
        let told = Arc::clone(&told);
        async move {
            assert_eq!(headers["accept-encoding"], "gzip");
            let log = |id, text| frame(id, "log", "5.1", json!({"payload": text, "time": 1}));
            let parts = match connection {
                0 => vec![log(0, "one\n"), format!("{}id: 2\nev", log(1, "two\n"))],
                _ => {
                    assert_eq!(headers["last-event-id"], "1");
                    let status = frame(3, "status", "1.0", json!({"status": "succeeded", "time": 2}));
                    vec![format!("{}{status}", log(2, "three\n"))]
                }
            };
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            let packed = parts.into_iter().map(move |part| {
                packer.write_all(part.as_bytes()).unwrap();
                packer.flush().unwrap();
                Bytes::from(std::mem::take(packer.get_mut()))
            });
            // The second part waits until the first was seen; the last has no trailer after it.
            let slow = futures_util::stream::iter(packed.enumerate()).then(move |(n, bytes)| {
                let told = Arc::clone(&told);
                async move {
                    if n > 0 {
                        told.notified().await;
                    }
                    Ok::<_, std::convert::Infallible>(bytes)
                }
            });
            ([("content-encoding", "gzip"), ("content-type", "text/event-stream")], Body::from_stream(slow))
        }
    };
    let world = World::with_routes(Router::new().route("/api/v1/builds/5/events", get(events)));
    let mut watched = world.fly_typed_at(&["-t", "ci", "watch", "-b", "5"]);
    watched.expect("one\n");
    go_on.notify_one();
    watched.expect("two\n");
    let (code, shown) = watched.end();
    assert_eq!((code, shown.contains("one\ntwo\nthree\n")), (0, true), "{shown}");
}

#[test]
fn a_packed_answer_is_read_as_a_plain_one() {
    let teams = async |headers: HeaderMap| {
        assert_eq!(headers["accept-encoding"], "gzip");
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(br#"[{"id": 1, "name": "main"}]"#).unwrap();
        ([("content-encoding", "gzip")], packer.finish().unwrap())
    };
    let world = World::with_routes(Router::new().route("/api/v1/teams", get(teams)));
    assert_eq!(world.fly(&["-t", "ci", "teams"]), ended(0, "main\n", ""));
}

#[test]
fn a_triggered_build_is_watched_to_its_exit_code() {
    let watched = world().fly(&["-t", "ci", "tj", "-j", "ci/unit", "-w"]);
    assert_eq!(watched, ended(4, "started ci/unit #2\n\none\ntwo\nfailed\n", ""));
}

#[test]
fn the_newest_build_of_no_job_is_looked_for_page_by_page() {
    let world = world();
    let next = "<http://ci/api/v1/builds?to=7&limit=100>; rel=\"next\"";
    let rerun = json!([{"id": 44, "name": "1.1", "job_name": "unit"}]);
    world.answer_with("GET /api/v1/builds?limit=100", 200, &[("link", next)], rerun);
    world.answer("GET /api/v1/builds?limit=100&to=7", 200, json!([{"id": 5, "name": "1"}]));
    assert_eq!(world.fly(&["-t", "ci", "watch", "-b", ""]), ended(4, "one\ntwo\nfailed\n", ""));
}

#[test]
fn what_cannot_be_watched_is_said() {
    let world = world();
    for (args, stderr) in [
        (&["-j", "ci/unit", "-b", "9"][..], "error: build not found\n"),
        (&["-j", "ci/unit"], "error: job has no builds\n"),
        (&["-b", "77"], "error: bad response from event source: 404 Not Found\n"),
    ] {
        assert_eq!(world.fly(&[&["-t", "ci", "watch"], args].concat()), ended(1, "", stderr), "{args:?}");
    }
}
