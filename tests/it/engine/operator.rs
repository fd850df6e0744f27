//! What an operator sets for everybody, and what is measured for them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, end, task};
use crate::world::{WHOLE, World};
use whistlestop::runtime::Runtime as _;

async fn bench(flags: &[&str]) -> Bench {
    let world = World::with(&[WHOLE, flags].concat()).await;
    world.runtime.script("whistlestop", &[r#"answer:{"version":{"version":"1"}}"#]);
    let admin = world.admin().await;
    Bench { world, admin }
}

/// Asks for a resource of the pipeline until it is as wanted.
async fn resource(bench: &Bench, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..4000 {
        let found = bench.admin.json(&format!("/api/v1/teams/main/pipelines/p/resources/{name}")).await;
        if wanted(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the resource {name} never is as wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_end_after_the_usual_time_unless_they_say_otherwise() {
    let bench = bench(&["--default-task-timeout", "50ms", "--default-get-timeout", "50ms"]).await;
    let mut patient = task("patient", &["out:on"]);
    patient["timeout"] = json!("1h");
    bench.job(json!({"name": "j", "plan": [patient, task("slow", &["hang"])]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["patient", "slow"]));
    bench.world.runtime.script("whistlestop", &["hang"]);
    let resource = json!({"name": "r", "type": "mock", "source": {"initial_version": "1"}});
    bench.set(json!({"resources": [resource], "jobs": [{"name": "g", "plan": [{"get": "r"}]}]})).await;
    assert_eq!(bench.run("g").await, end("failed", &["r"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_base_types_have_what_the_operator_sets_beneath_them() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "mock: {initial_version: usual, check_delay: 0s}\n").unwrap();
    let bench = bench(&["--base-resource-type-defaults", file.path().to_str().unwrap()]).await;
    let of = |name: &str, source: Value| json!({"name": name, "type": "mock", "source": source});
    let resources = [of("a", json!({})), of("b", json!({"initial_version": "own"}))];
    let plan = [json!({"get": "a", "trigger": true}), json!({"get": "b", "trigger": true})];
    bench.set(json!({"resources": resources, "jobs": [{"name": "j", "plan": plan}]})).await;
    for (name, version) in [("a", "usual"), ("b", "own")] {
        resource(&bench, name, |r| r["last_checked"].is_number()).await;
        let versions = bench.admin.json(&format!("/api/v1/teams/main/pipelines/p/resources/{name}/versions")).await;
        assert_eq!(versions[0]["version"]["version"], version, "{versions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_begin_at_the_rate_that_is_set_unless_somebody_asks() {
    let bench = bench(&["--max-checks-per-second", "1"]).await;
    let of = |name: &str| json!({"name": name, "type": "mock", "source": {"initial_version": "1"}});
    let resources = ["a", "b", "c"].map(of);
    bench.set(json!({"resources": resources, "jobs": [{"name": "j", "plan": [{"get": "a"}, {"get": "b"}, {"get": "c"}]}]})).await;
    let checked = async || -> Vec<String> {
        let all = bench.admin.json("/api/v1/teams/main/pipelines/p/resources").await;
        let all = all.as_array().unwrap().iter().filter(|r| r["last_checked"].is_number());
        all.map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    let until = async |count: usize| {
        while checked().await.len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        checked().await
    };
    let first = until(1).await;
    let other = ["a", "b"].into_iter().find(|name| !first.contains(&(*name).to_owned())).unwrap();
    let path = format!("/api/v1/teams/main/pipelines/p/resources/{other}/check");
    let check: Value = bench.admin.post(&path).json(&json!({})).send().await.unwrap().json().await.unwrap();
    assert_eq!(bench.ended(check["id"].as_i64().unwrap()).await.status, "succeeded");
    assert_eq!(checked().await.len(), 2, "one by itself, one that was asked for");
    bench.world.clock.advance(Duration::from_secs(1));
    bench.world.app().wakes.all();
    assert_eq!(until(3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tasks_run_than_the_operator_allows_and_then_the_next() {
    let bench = bench(&["--max-active-tasks-per-worker", "1"]).await;
    let job = |name: &str| json!({"name": name, "plan": [task("t", &["hold"])]});
    bench.set(json!({"jobs": [job("a"), job("b")]})).await;
    let first = bench.trigger("a").await;
    bench.until(first, "start-task").await;
    let second = bench.trigger("b").await;
    bench.until(second, "waiting-for-worker").await;
    assert_eq!(bench.world.runtime.started().len(), 1);
    let release = async |build: i64| {
        let prefix = format!("b{build}-");
        loop {
            let held = bench.world.runtime.held();
            if let Some(handle) = held.iter().find(|handle| handle.0.starts_with(&prefix)) {
                return bench.world.runtime.release(handle, 0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    release(first).await;
    assert_eq!(bench.ended(first).await.status, "succeeded");
    release(second).await;
    assert_eq!(bench.ended(second).await.status, "succeeded");
    let third = bench.trigger("a").await;
    bench.until(third, "start-task").await;
    let fourth = bench.trigger("b").await;
    bench.until(fourth, "waiting-for-worker").await;
    bench.admin.put(&format!("/api/v1/builds/{fourth}/abort")).send().await.unwrap();
    assert_eq!(bench.ended(fourth).await.status, "aborted");
    release(third).await;
    assert_eq!(bench.ended(third).await.status, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_check_said_can_be_read_and_its_container_entered() {
    let bench = bench(&[]).await;
    let image = [r#"write:/tmp/build/get:metadata.json:{"user":"builder"}"#, r#"answer:{"version":{"version":"1"}}"#];
    bench.world.runtime.script("whistlestop", &image);
    bench.world.runtime.script("/opt/resource/check", &["err:\u{1b}[31mno such bucket\u{1b}[0m\n", "exit:1"]);
    assert_eq!(error_of_own_type(&bench).await, "check failed: exit status 1\nno such bucket");
    let started = bench.world.runtime.started();
    let (handle, spec) = started.iter().find(|(_, spec)| spec.labels["type"] == "check").unwrap();
    assert_eq!(spec.process.user.as_deref(), Some("builder"), "scripts run as their image's user");
    let asked = "/api/v1/teams/main/containers?type=check&pipeline_name=p&resource_name=r";
    let kept = bench.admin.json(asked).await;
    assert!(kept.as_array().unwrap().iter().any(|kept| kept["id"] == handle.0), "{kept}");
    assert!(bench.world.runtime.list().await.unwrap().containers.contains(handle));
}

/// What the check of a resource of a type of its own ends with.
async fn error_of_own_type(bench: &Bench) -> String {
    let config = json!({
        "resource_types": [{"name": "own", "type": "mock", "source": {"initial_version": "1"}}],
        "resources": [{"name": "r", "type": "own", "source": {}}],
        "jobs": [{"name": "j", "plan": [{"get": "r", "trigger": true}]}],
    });
    bench.set(config).await;
    for _ in 0..4000 {
        let found = bench.world.app().store.read(|tx| {
            let resource = tx.watches()?.first().map(|watch| watch.resource);
            Ok(resource.map(|id| tx.resource(id)).transpose()?.flatten())
        });
        let error = found.await.unwrap().map_or_else(String::new, |resource| resource.last_check_error);
        if !error.is_empty() {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the check does not fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_of_the_server_in_a_check_is_the_resources_error() {
    let bench = bench(&[]).await;
    let image = ["write:/tmp/build/get:metadata.json:{}", r#"answer:{"version":{"version":"1"}}"#];
    bench.world.runtime.script("whistlestop", &image);
    bench.world.runtime.script("/opt/resource/check", &["panic"]);
    let error = error_of_own_type(&bench).await;
    assert!(error.contains("this process is to break its runtime"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_concourse_s_names_and_labels() {
    let bench = bench(&["--prometheus-bind-port", "0", "--tag", "gpu", "--tag", "big"]).await;
    let address = format!("http://{}/metrics", bench.world.server().metrics_address().unwrap());
    let read = async || -> BTreeMap<String, f64> {
        let page = reqwest::get(&address).await.unwrap().text().await.unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|l| l.rsplit_once(' ')).map(|(n, v)| (n.to_owned(), v.parse().unwrap())).collect()
    };
    let before = read().await;
    let source = |name: &str, source: Value| json!({"name": name, "type": "mock", "source": source});
    let bad = source("bad", json!({"check_failure": "on purpose"}));
    let good = source("good", json!({"initial_version": "1"}));
    let job = |name: &str, word: &str| json!({"name": name, "plan": [{"get": "good"}, task("t", &[word])]});
    let unused = json!({"name": "unused", "plan": [{"get": "bad"}]});
    bench
        .set(json!({"resources": [bad, good], "jobs": [job("right", "out:on"), job("wrong", "exit:1"), unused]}))
        .await;
    resource(&bench, "bad", |r| r["build"]["status"] == "failed").await;
    resource(&bench, "good", |r| r["last_checked"].is_number()).await;
    assert_eq!(bench.run("right").await.status, "succeeded");
    assert_eq!(bench.run("wrong").await.status, "failed");
    let after = read().await;
    for (line, value) in [
        (r#"concourse_builds_latest_completed_build_status{jobName="right",pipelineName="p",teamName="main"}"#, 0.0),
        (r#"concourse_builds_latest_completed_build_status{jobName="wrong",pipelineName="p",teamName="main"}"#, 1.0),
        (r#"concourse_workers_tasks{platform="linux",worker="whistlestop"}"#, 0.0),
        (r#"concourse_workers_registered{state="running"}"#, 1.0),
        ("concourse_builds_running", 0.0),
    ] {
        assert_eq!(after.get(line), Some(&value), "{line}: {after:#?}");
    }
    for name in ["containers", "volumes"] {
        let line =
            format!(r#"concourse_workers_{name}{{platform="linux",worker="whistlestop",tags="gpu/big",team=""}}"#);
        assert!(after[&line] >= 1.0, "{line}: {after:#?}");
    }
    assert!(after.contains_key("concourse_builds_check_running"), "{after:#?}");
    // Other tests of this process count too.
    for name in [
        "concourse_builds_check_started_total",
        "concourse_builds_check_finished_total",
        "concourse_builds_check_succeeded_total",
        "concourse_builds_check_failed_total",
        "concourse_lidar_checks_enqueued_total",
        "concourse_lidar_checks_started_total",
        r#"concourse_lidar_checks_finished_total{status="success"}"#,
        r#"concourse_lidar_checks_finished_total{status="error"}"#,
        "concourse_caches_get_step_cache_hits",
    ] {
        let counted = after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
        assert!(counted >= 1.0, "{name}: {after:#?}");
    }
}
