//! Jobs, their builds, and the stream of events.

use std::io::Write;
use std::time::Duration;

use flate2::write::GzDecoder;
use futures_util::StreamExt;
use serde_json::{Value, json};
use whistlestop::base::id::BuildId;
use whistlestop::base::stream::Stream;
use whistlestop::event::Origin;
use whistlestop::store::build::Status;

use super::pipelines::kitchen;
use crate::world::{Caller, World};

const PIPELINE: &str = "/api/v1/teams/alpha/pipelines/kitchen";

async fn trigger(ann: &Caller, job: &str) -> Value {
    let answer = ann.post(&format!("{PIPELINE}/jobs/{job}/builds")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// Runs a build as the engine would: started, one line, ended.
async fn run(world: &World, id: i64) {
    let (app, build) = (world.app(), BuildId(id));
    let now = whistlestop::base::clock::Clock::now(&*world.clock);
    app.store
        .write(move |tx| tx.start_plain_build(build, "{}", r#"{"id":"1","task":{"name":"t"}}"#, now))
        .await
        .unwrap();
    let log = app.feed.open(build).await.unwrap();
    log.output(&Origin { source: Some(Stream::Stdout), ..Origin::step("1") }, "it worked\r\n".into(), 11)
        .await
        .unwrap();
    app.feed.store_all(build).await.unwrap();
    app.store.write(move |tx| tx.finish_build(build, Status::Succeeded, now)).await.unwrap();
    app.feed.close(build);
}

#[tokio::test]
async fn a_build_is_triggered_shown_and_aborted() {
    let (_world, ann) = kitchen().await;
    let build = trigger(&ann, "unit").await;
    let expected = r#"{"id":1,"team_name":"alpha","name":"1","status":"pending","api_url":"/api/v1/builds/1","job_name":"unit","pipeline_id":1,"pipeline_name":"kitchen","created_by":"ann"}"#;
    assert_eq!(build.to_string(), expected);
    assert_eq!(ann.get("/api/v1/builds/1").await.text().await.unwrap(), format!("{expected}\n"));
    assert_eq!(ann.json(&format!("{PIPELINE}/jobs/unit")).await["next_build"]["id"], 1);
    assert_eq!(ann.get("/api/v1/builds/1/plan").await.status(), 404);
    let refused = ann.post(&format!("{PIPELINE}/jobs/by-clock/builds")).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    assert_eq!(ann.put("/api/v1/builds/1/abort").send().await.unwrap().status(), 204);
    let comment = ann.put("/api/v1/builds/1/comment").json(&json!({"comment": "why"})).send().await.unwrap();
    assert_eq!(comment.status(), 200);
    assert_eq!(ann.json("/api/v1/builds/1").await["comment"], "why");
    assert_eq!(ann.json(&format!("{PIPELINE}/jobs/unit/builds")).await[0]["comment"], "why");
    assert_eq!(ann.json("/api/v1/builds").await[0].get("comment"), None);
}

#[tokio::test]
async fn what_a_build_waits_for_is_told() {
    let (_world, ann) = kitchen().await;
    trigger(&ann, "unit").await;
    ann.put(&format!("{PIPELINE}/jobs/unit/pause")).send().await.unwrap();
    let text = ann.get("/api/v1/builds/1/preparation").await.text().await.unwrap();
    let expected = r#"{"build_id":1,"paused_pipeline":"blocking","paused_job":"blocking","max_running_builds":"not_blocking","inputs":{},"inputs_satisfied":"not_blocking","missing_input_reasons":{}}"#;
    assert_eq!(text.trim(), expected);
    let text = ann.get("/api/v1/builds/1/preparation?why").await.text().await.unwrap();
    let why = r#","why":[{"about":"pipeline","text":"the pipeline is paused","moved_by":"unpausing the pipeline"},{"about":"job unit","text":"the job is paused by ann","since":1795348800,"moved_by":"unpausing unit"}]}"#;
    assert_eq!(text.trim(), expected.replacen("{}}", &format!("{{}}{why}"), 1));
}

#[tokio::test]
async fn a_finished_build_is_run_again() {
    let (world, ann) = kitchen().await;
    trigger(&ann, "unit").await;
    let again = format!("{PIPELINE}/jobs/unit/builds/1");
    assert_eq!(ann.post(&again).send().await.unwrap().status(), 500, "it never got its inputs");
    run(&world, 1).await;
    let rerun: Value = ann.post(&again).send().await.unwrap().json().await.unwrap();
    let expected = r#"{"id":2,"team_name":"alpha","name":"1.1","status":"pending","api_url":"/api/v1/builds/2","job_name":"unit","pipeline_id":1,"pipeline_name":"kitchen","rerun_number":1,"rerun_of":{"id":1,"name":"1"},"created_by":"ann"}"#;
    assert_eq!(rerun.to_string(), expected);
    assert_eq!(ann.post(&format!("{PIPELINE}/jobs/unit/builds/9")).send().await.unwrap().status(), 404);
    assert_eq!(ann.json(&format!("{PIPELINE}/jobs/unit/builds/1.1")).await["id"], 2);
}

#[tokio::test]
async fn lists_come_in_pages_with_links_to_their_neighbours() {
    let (world, ann) = kitchen().await;
    for _ in 0..5 {
        trigger(&ann, "unit").await;
    }
    for (path, ids, link) in [
        ("/api/v1/builds?limit=2", vec![5, 4], vec!["/api/v1/builds?to=3&limit=2>; rel=\"next\""]),
        (
            "/api/v1/builds?limit=2&to=3",
            vec![3, 2],
            vec!["/api/v1/builds?to=1&limit=2>; rel=\"next\"", "/api/v1/builds?from=4&limit=2>; rel=\"previous\""],
        ),
        ("/api/v1/builds?limit=2&from=1", vec![2, 1], vec!["/api/v1/builds?from=3&limit=2>; rel=\"previous\""]),
    ] {
        let answer = ann.get(path).await;
        let links: Vec<_> = answer.headers().get_all("link").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        let expected: Vec<_> = link.iter().map(|l| format!("<{}{l}", world.url(""))).collect();
        assert_eq!(links, expected, "{path}");
        let rows: Vec<Value> = answer.json().await.unwrap();
        assert_eq!(rows.iter().map(|b| b["id"].as_i64().unwrap()).collect::<Vec<_>>(), ids, "{path}");
    }
    assert_eq!(world.anonymous().json("/api/v1/builds").await, json!([]));
    assert_eq!(world.sign_in("eve").await.json("/api/v1/teams/alpha/builds").await, json!([]));
    assert_eq!(ann.json("/api/v1/teams/alpha/builds?limit=1").await[0]["id"], 5);
}

/// Reads a stream until it has said that the build ended.
pub async fn events(caller: &Caller, path: &str, last: Option<&str>) -> String {
    let mut request = caller.request(reqwest::Method::GET, path);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    text_of(request.send().await.unwrap(), None).await
}

/// The same, of an answer that is packed or not.
async fn text_of(answer: reqwest::Response, mut packed: Option<GzDecoder<Vec<u8>>>) -> String {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(answer.headers()["x-atc-stream-version"], "2.0");
    assert_eq!(answer.headers().get("content-encoding").is_some(), packed.is_some());
    let (mut text, mut body) = (String::new(), answer.bytes_stream());
    while !text.contains("event: end") {
        let next = tokio::time::timeout(Duration::from_secs(10), body.next()).await.unwrap().unwrap().unwrap();
        let Some(packed) = &mut packed else {
            text.push_str(std::str::from_utf8(&next).unwrap());
            continue;
        };
        packed.write_all(&next).unwrap();
        packed.flush().unwrap();
        text = String::from_utf8(packed.get_ref().clone()).unwrap();
    }
    text
}

#[tokio::test]
async fn events_are_streamed_byte_for_byte_and_resumed() {
    let (world, ann) = kitchen().await;
    trigger(&ann, "unit").await;
    let early = tokio::spawn({
        let ann = ann.clone();
        async move { events(&ann, "/api/v1/builds/1/events", None).await }
    });
    run(&world, 1).await;
    let time = world.app().clock.now().unix();
    let whole = format!(
        "id: 0\nevent: event\ndata: {{\"data\":{{\"status\":\"started\",\"time\":{time}}},\"event\":\"status\",\"version\":\"1.0\",\"event_id\":\"0\"}}\n\n\
         id: 1\nevent: event\ndata: {{\"data\":{{\"time\":{time},\"origin\":{{\"id\":\"1\",\"source\":\"stdout\"}},\"payload\":\"it worked\\r\\n\"}},\"event\":\"log\",\"version\":\"5.1\",\"event_id\":\"1\"}}\n\n\
         id: 2\nevent: event\ndata: {{\"data\":{{\"status\":\"succeeded\",\"time\":{time}}},\"event\":\"status\",\"version\":\"1.0\",\"event_id\":\"2\"}}\n\n\
         id: 3\nevent: end\ndata\n\n"
    );
    assert_eq!(early.await.unwrap(), whole);
    assert_eq!(events(&ann, "/api/v1/builds/1/events", None).await, whole);
    let asked = ann.request(reqwest::Method::GET, "/api/v1/builds/1/events").header("accept-encoding", "br, gzip");
    assert_eq!(text_of(asked.send().await.unwrap(), Some(GzDecoder::new(Vec::new()))).await, whole);
    let rest = &whole[whole.find("id: 2").unwrap()..];
    assert_eq!(events(&ann, "/api/v1/builds/1/events", Some("1")).await, rest);
    let malformed = ann.request(reqwest::Method::GET, "/api/v1/builds/1/events").header("last-event-id", "x");
    assert_eq!(malformed.send().await.unwrap().status(), 400);
    let plan = ann.get("/api/v1/builds/1/plan").await.text().await.unwrap();
    assert_eq!(plan.trim(), r#"{"schema":"exec.v2","plan":{"id":"1","task":{"name":"t"}}}"#);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_follow() {
    let (mut world, ann) = kitchen().await;
    trigger(&ann, "unit").await;
    let following = ann.get("/api/v1/builds/1/events").await;
    // With the start; those who are waited for are given ten seconds more.
    let stopped = tokio::time::timeout(Duration::from_secs(9), world.restart(&[])).await;
    assert!(stopped.is_ok());
    drop(following);
    assert_eq!(world.sign_in("ann").await.json("/api/v1/builds/1").await["name"], "1");
}

#[tokio::test]
async fn badges_and_notifiers_tell_the_last_result() {
    let (world, ann) = kitchen().await;
    let badge = async |path: &str| ann.get(&format!("{PIPELINE}{path}")).await.text().await.unwrap();
    assert!(badge("/jobs/unit/badge").await.contains(">unknown<"));
    trigger(&ann, "unit").await;
    run(&world, 1).await;
    assert!(badge("/jobs/unit/badge").await.contains(">passing<"));
    assert!(badge("/badge?title=kitchen").await.contains(">kitchen<"));
    let url = world.url("");
    let xml = ann.get("/api/v1/teams/alpha/cc.xml").await.text().await.unwrap();
    let expected = format!(
        r#"<Projects><Project activity="Sleeping" lastBuildLabel="1" lastBuildStatus="Success" lastBuildTime="2026-11-22T12:00:00Z" name="kitchen/unit" webUrl="{url}/teams/alpha/pipelines/kitchen/jobs/unit"></Project></Projects>"#
    );
    assert_eq!(xml, expected);
    let main = ann.get("/api/v1/pipelines/p/jobs/j/badge?title=x").await;
    assert_eq!(
        (main.status().as_u16(), main.headers()["location"].to_str().unwrap()),
        (301, "/api/v1/teams/main/pipelines/p/jobs/j/badge?title=x")
    );
}
