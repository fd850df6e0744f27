//! Following builds: text, exit codes, and a connection that breaks half way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Value, json};

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
