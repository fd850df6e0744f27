//! What is given up when it is old, and what is told about what waits.

use serde_json::{Value, json};

use super::{Bench, task};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_keeps_the_logs_it_says() {
    let bench = Bench::new().await;
    let job = json!({"name": "j", "build_log_retention": {"builds": 1}, "plan": [task("t", &["out:hello"])]});
    bench.job(job).await;
    let first = bench.trigger("j").await;
    assert!(bench.events(first).await.len() > 3);
    let second = bench.trigger("j").await;
    bench.ended(second).await;
    let path = format!("/api/v1/builds/{first}");
    for turn in 0.. {
        if !bench.admin.json(&path).await["reap_time"].is_null() {
            break;
        }
        assert!(turn < 2000, "the log of the first build is kept");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(bench.world.app().store.log_length(whistlestop::base::id::BuildId(first)).await.unwrap(), 0);
    assert!(bench.events(second).await.len() > 3);
    let job = bench.admin.json("/api/v1/teams/main/pipelines/p/jobs/j").await;
    assert_eq!(job["first_logged_build_id"], second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_says_why_when_asked() {
    let bench = Bench::new().await;
    let resource = json!({"name": "r", "type": "mock", "check_every": "never", "source": {"initial_version": "1"}});
    let get = json!({"get": "r", "passed": ["first"], "trigger": true});
    bench
        .set(json!({"resources": [resource], "jobs": [
            {"name": "first", "serial": true, "plan": [{"get": "r"}, task("t", &["out:on", "hang"])]},
            {"name": "second", "plan": [get]},
        ]}))
        .await;
    let running = bench.trigger("first").await;
    bench.until(running, "log").await;
    let waiting = bench.trigger("first").await;
    let texts = |answer: &Value| -> Vec<String> {
        let whys = answer["why"].as_array().cloned().unwrap_or_default();
        whys.iter().map(|w| format!("{}: {}", w["about"].as_str().unwrap(), w["text"].as_str().unwrap())).collect()
    };
    let preparation = bench.admin.json(&format!("/api/v1/builds/{waiting}/preparation?why")).await;
    assert!(
        texts(&preparation)
            .contains(&"build first/1: first runs one build at a time, and first #1 has the slot".to_owned()),
        "{preparation}"
    );
    let path = "/api/v1/teams/main/pipelines/p";
    let second = bench.admin.json(&format!("{path}/jobs/second?why")).await;
    assert_eq!(texts(&second), ["input r: no version of r has passed first: first has not succeeded yet"]);
    assert_eq!(second["why"][0]["moved_by"], "a success of first with a version of r that can be used");
    let resource = bench.admin.json(&format!("{path}/resources/r?why")).await;
    assert_eq!(resource["why"]["text"], "check_every is never: it is checked only when wanted");
    for build in [running, waiting] {
        bench.admin.put(&format!("/api/v1/builds/{build}/abort")).send().await.unwrap();
        assert_eq!(bench.ended(build).await.status, "aborted");
    }
}
