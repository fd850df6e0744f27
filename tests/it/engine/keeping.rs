//! What is given up when it is old, and what is told about what waits.

use std::time::Duration;

use serde_json::{Value, json};
use whistlestop::base::id::BuildId;
use whistlestop::store::log::Chunk;

use super::{Bench, task};
use crate::world::{WHOLE, World};

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
        assert!(turn < 20_000, "the log of the first build is kept");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(bench.world.app().store.log_length(BuildId(first)).await.unwrap(), 0);
    assert!(bench.events(second).await.len() > 3);
    let job = bench.admin.json("/api/v1/teams/main/pipelines/p/jobs/j").await;
    assert_eq!(job["first_logged_build_id"], second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_build_is_gone_goes_too() {
    let bench = Bench::new().await;
    bench.job(json!({"name": "j", "plan": [task("t", &["out:hello"])]})).await;
    let build = bench.trigger("j").await;
    bench.ended(build).await;
    let (app, left) = (bench.world.app(), BuildId(build + 1000));
    let chunk = Chunk { first_event: 0, events: 1, text: b"e".to_vec(), marks: "{}".into() };
    app.store.append_log(left, chunk).await.unwrap();
    for turn in 0.. {
        if app.store.log_length(left).await.unwrap() == 0 {
            break;
        }
        assert!(turn < 20_000, "the log of no build is kept");
        bench.world.clock.advance(Duration::from_secs(30));
        app.wakes.retention.ring();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.events(build).await.len() > 3, "and others stay");
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
    // Triggering has asked for a check, which may still go on.
    let mut resource = Value::Null;
    for _ in 0..20_000 {
        resource = bench.admin.json(&format!("{path}/resources/r?why")).await;
        if !resource["why"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(resource["why"]["text"], "check_every is never: it is checked only when wanted");
    for build in [running, waiting] {
        bench.admin.put(&format!("/api/v1/builds/{build}/abort")).send().await.unwrap();
        assert_eq!(bench.ended(build).await.status, "aborted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_nothing_begins_and_then_everything_does() {
    let flags = [WHOLE, &["--low-disk-watermark", "100%", "--prometheus-bind-port", "0"]].concat();
    let world = World::with(&flags).await;
    world.runtime.script("whistlestop", &[r#"answer:[{"version":"1"}]"#]);
    let admin = world.admin().await;
    let bench = Bench { world, admin };
    let hold = &bench.world.app().hold;
    while hold.why().is_none() {
        tokio::task::yield_now().await;
    }
    let resource = json!({"name": "r", "type": "mock", "check_every": "never", "source": {"initial_version": "1"}});
    bench
        .set(json!({"resources": [resource], "jobs": [{"name": "j", "plan": [task("t", &["out:on"])]},
        {"name": "other", "plan": [{"get": "r"}]}]}))
        .await;
    let plan = json!({"id": "1", "task": {"name": "one-off", "privileged": false, "hermetic": false,
        "config": {"platform": "linux", "rootfs_uri": "host:///", "run": {"path": "do", "args": ["out:on"]}}}});
    let one_off = async || -> Value {
        let made = bench.admin.post("/api/v1/teams/main/builds").json(&plan).send().await.unwrap();
        assert_eq!(made.status(), 201);
        made.json().await.unwrap()
    };
    let check = bench.admin.post("/api/v1/teams/main/pipelines/p/resources/r/check").json(&json!({})).send().await;
    let check: Value = check.unwrap().json().await.unwrap();
    let (waits, unwanted, of_job) = (one_off().await, one_off().await, bench.trigger("j").await);
    assert_eq!((&waits["status"], &check["status"]), (&json!("pending"), &json!("pending")));
    let id = |build: &Value| build["id"].as_i64().unwrap();
    let aborted = bench.admin.put(&format!("/api/v1/builds/{}/abort", id(&unwanted))).send().await.unwrap();
    assert_eq!(aborted.status(), 204);
    assert_eq!(bench.ended(id(&unwanted)).await.status, "aborted");
    assert!(bench.world.runtime.started().is_empty(), "something began");
    let metrics = format!("http://{}/metrics", bench.world.server().metrics_address().unwrap());
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("whistlestop_builds_held 1"), "{metrics}");

    // The pass that watches the disk holds them again within moments, since the mark is never reached here.
    let lifting = async {
        loop {
            hold.set(None);
            bench.world.app().wakes.all();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = async {
        for build in [id(&waits), id(&check), of_job] {
            assert_eq!(bench.ended(build).await.status, "succeeded");
        }
    };
    tokio::select! {
        () = ended => {}
        () = lifting => unreachable!(),
    }
}
