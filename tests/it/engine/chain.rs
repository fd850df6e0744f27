//! Versions that start builds, and builds that start others.

use serde_json::json;

use super::{Bench, task};

fn mock(name: &str) -> serde_json::Value {
    json!({"name": name, "type": "mock", "source": {"initial_version": "1"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_down_the_line_by_itself() {
    let bench = Bench::new().await;
    bench
        .set(json!({
            "resources": [mock("r")],
            "jobs": [
                {"name": "first", "plan": [{"get": "r", "trigger": true}, task("t", &[])]},
                {"name": "second", "plan": [{"get": "r", "trigger": true, "passed": ["first"]}]},
                {"name": "third", "plan": [{"get": "r", "trigger": true, "passed": ["second"]}, task("x", &["exit:1"])]},
                {"name": "never", "plan": [{"get": "r", "trigger": true, "passed": ["third"]}]},
            ],
        }))
        .await;
    let third = bench.build("third", "1").await["id"].as_i64().unwrap();
    assert_eq!(bench.ended(third).await.status, "failed");
    let never = bench.admin.json("/api/v1/teams/main/pipelines/p/jobs/never").await;
    assert!(never["next_build"].is_null() && never["finished_build"].is_null(), "{never}");
    let inputs = bench.admin.json(&format!("/api/v1/builds/{third}/resources")).await;
    assert_eq!(inputs["inputs"][0]["version"]["version"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn serial_jobs_take_turns_and_say_so() {
    let bench = Bench::new().await;
    bench.job(json!({"name": "j", "serial": true, "plan": [task("t", &["out:on", "hang"])]})).await;
    let first = bench.trigger("j").await;
    bench.until(first, "log").await;
    let second = bench.trigger("j").await;
    let preparation = bench.admin.json(&format!("/api/v1/builds/{second}/preparation")).await;
    assert_eq!(preparation["max_running_builds"], "blocking");
    bench.admin.put(&format!("/api/v1/builds/{first}/abort")).send().await.unwrap();
    assert_eq!(bench.ended(first).await.status, "aborted");
    bench.until(second, "log").await;
    bench.admin.put(&format!("/api/v1/builds/{second}/abort")).send().await.unwrap();
    assert_eq!(bench.ended(second).await.status, "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_waits_and_an_abort_of_a_waiting_build_ends_it() {
    let bench = Bench::new().await;
    bench.job(json!({"name": "j", "plan": [task("t", &[])]})).await;
    bench.admin.put("/api/v1/teams/main/pipelines/p/jobs/j/pause").send().await.unwrap();
    let waiting = bench.trigger("j").await;
    let preparation = bench.admin.json(&format!("/api/v1/builds/{waiting}/preparation")).await;
    assert_eq!(preparation["paused_job"], "blocking");
    bench.admin.put(&format!("/api/v1/builds/{waiting}/abort")).send().await.unwrap();
    let ended = bench.ended(waiting).await;
    assert_eq!((ended.status.as_str(), ended.ran.len()), ("aborted", 0));
    let next = bench.trigger("j").await;
    bench.admin.put("/api/v1/teams/main/pipelines/p/jobs/j/unpause").send().await.unwrap();
    assert_eq!(bench.ended(next).await.status, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_has_the_old_inputs_and_a_number_of_its_own() {
    let bench = Bench::new().await;
    bench
        .set(json!({
            "resources": [mock("r")],
            "jobs": [{"name": "j", "plan": [{"get": "r"}, task("t", &[])]}],
        }))
        .await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    for name in ["1.1", "1.2"] {
        let path = "/api/v1/teams/main/pipelines/p/jobs/j/builds/1";
        let rerun: serde_json::Value = bench.admin.post(path).send().await.unwrap().json().await.unwrap();
        assert_eq!(rerun["name"], name);
        assert_eq!(bench.ended(rerun["id"].as_i64().unwrap()).await.status, "succeeded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_cannot_be_checked_keeps_its_error_for_people() {
    let bench = Bench::new().await;
    bench
        .set(json!({
            "resources": [{"name": "r", "type": "no-such-type", "source": {}}],
            "jobs": [{"name": "j", "plan": [{"get": "r", "trigger": true}]}],
        }))
        .await;
    let path = "/api/v1/teams/main/pipelines/p/resources/r/check";
    let check: serde_json::Value = bench.admin.post(path).json(&json!({})).send().await.unwrap().json().await.unwrap();
    let id = check["id"].as_i64().unwrap();
    assert_eq!(bench.ended(id).await.status, "errored");
    let text = serde_json::to_string(&bench.events(id).await).unwrap();
    assert!(text.contains("base resource type not found: no-such-type"), "{text}");
}
