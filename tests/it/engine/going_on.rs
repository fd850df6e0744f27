//! A server that ends in the middle of a build, and the next one that takes it up.

use serde_json::{Value, json};
use whistlestop::base::id::BuildId;
use whistlestop::runtime::ContainerHandle;
use whistlestop::store::build::Abort;

use super::{Bench, end, task};
use crate::world::WHOLE;

/// Waits until so many processes wait to be released.
async fn held(bench: &Bench, count: usize) -> Vec<ContainerHandle> {
    loop {
        let held = bench.world.runtime.held();
        if held.len() == count {
            return held;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Asks for a build's abort in the tables alone, as a server does that dies at once.
async fn mark_aborted(bench: &Bench, id: i64) {
    bench.world.app().store.write(move |tx| tx.abort_build(BuildId(id), Abort::Graceful)).await.unwrap();
}

/// What a build's log tells of errors.
async fn errors(bench: &Bench, id: i64) -> Vec<Value> {
    let events = bench.events(id).await;
    events.iter().filter(|e| e["event"] == "error").map(|e| e["data"]["message"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_step_is_found_again_and_finished_ones_are_not_repeated() {
    let mut bench = Bench::new().await;
    bench.job(json!({"name": "j", "plan": [task("a", &["out:one\n"]), task("b", &["out:two\n", "hang"])]})).await;
    let id = bench.trigger("j").await;
    bench.until(id, "finish-task").await;
    while bench.world.runtime.started().len() < 2 {
        tokio::task::yield_now().await;
    }
    bench.world.restart(WHOLE).await;
    bench.admin = bench.world.admin().await;
    let path = format!("/api/v1/builds/{id}");
    assert_eq!(bench.admin.json(&path).await["status"], "started");
    bench.admin.put(&format!("{path}/abort")).send().await.unwrap();
    assert_eq!(bench.ended(id).await, end("aborted", &["a", "b"]));
    let events = bench.events(id).await;
    let said: Vec<_> = events.iter().filter_map(|e| e["data"]["payload"].as_str()).collect();
    assert_eq!(said, ["one\n", "two\n"]);
    let names: Vec<_> = events.iter().filter_map(|e| e["event"].as_str()).collect();
    assert_eq!(names.iter().filter(|n| **n == "start-task").count(), 2, "{names:?}");
    let ids: Vec<_> = events.iter().map(|e| e["event_id"].as_str().unwrap().parse::<usize>().unwrap()).collect();
    assert_eq!(ids, (0..events.len()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_of_a_build_that_was_aborted_before_the_server_is_stopped_wherever_it_stands() {
    let mut bench = Bench::new().await;
    let slow = || task("slow", &["hold"]);
    let with = |mut step: Value, key: &str, value: Value| {
        step[key] = value;
        step
    };
    let cases = [
        ("do", json!({"do": [task("first", &[]), slow(), task("never", &[])]}), 1),
        ("in_parallel", json!({"in_parallel": [slow(), slow()]}), 2),
        ("limit", json!({"in_parallel": {"limit": 1, "steps": [task("first", &[]), slow(), task("never", &[])]}}), 1),
        ("across", with(slow(), "across", json!([{"var": "v", "values": ["a", "b"], "max_in_flight": "all"}])), 2),
        ("attempts", with(slow(), "attempts", json!(2)), 1),
        ("try", json!({"try": slow()}), 1),
        ("timeout", with(json!({"do": [slow()]}), "timeout", json!("1h")), 1),
        ("hook", with(task("first", &["exit:1"]), "on_failure", slow()), 1),
    ];
    for (what, step, count) in cases {
        bench.job(json!({"name": "j", "plan": [step], "on_abort": task("tell", &[])})).await;
        let id = bench.trigger("j").await;
        if what == "attempts" {
            let first = held(&bench, 1).await;
            bench.world.runtime.release(&first[0], 1);
            bench.until(id, "finish-task").await;
        }
        held(&bench, count).await;
        mark_aborted(&bench, id).await;
        bench.world.restart(WHOLE).await;
        bench.admin = bench.world.admin().await;
        let ended = bench.ended(id).await;
        assert_eq!(ended.status, "aborted", "{what}");
        assert!(bench.world.runtime.held().is_empty(), "{what}: it goes on");
        assert!(!ended.ran.contains(&"never".to_owned()), "{what}: {ended:?}");
        assert_eq!(ended.ran.last().map(String::as_str), Some("tell"), "{what}");
        let told = errors(&bench, id).await;
        assert!(told.iter().filter(|text| **text == "interrupted").count() >= count, "{what}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_was_over_before_the_server_stops_what_still_runs() {
    let mut bench = Bench::new().await;
    let step = json!({"do": [task("first", &[]), task("slow", &["hold"]), task("never", &[])], "timeout": "1h"});
    bench.job(json!({"name": "j", "plan": [step]})).await;
    let id = bench.trigger("j").await;
    held(&bench, 1).await;
    let clock = bench.world.clock.clone();
    bench.world.restart_after(WHOLE, |_| clock.advance(std::time::Duration::from_secs(7200))).await;
    assert_eq!(bench.ended(id).await, end("failed", &["first", "slow"]));
    assert!(bench.world.runtime.held().is_empty());
    assert_eq!(errors(&bench, id).await, ["timeout exceeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ended_in_time_while_no_server_was_there_has_its_own_end() {
    let mut bench = Bench::new().await;
    let mut slow = task("slow", &["out:said\n", "hold"]);
    slow["timeout"] = json!("1h");
    bench.job(json!({"name": "j", "plan": [slow, task("next", &[])]})).await;
    let id = bench.trigger("j").await;
    let (clock, running) = (bench.world.clock.clone(), held(&bench, 1).await);
    let meanwhile = |world: &crate::world::World| {
        world.runtime.release(&running[0], 0);
        clock.advance(std::time::Duration::from_secs(7200));
    };
    bench.world.restart_after(WHOLE, meanwhile).await;
    assert_eq!(bench.ended(id).await, end("succeeded", &["slow", "next"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_end_of_words_ends_when_its_time_is_over_or_it_is_aborted() {
    let bench = Bench::new().await;
    let mut loud = task("loud", &["out:first\n", "flood"]);
    loud["timeout"] = json!("100ms");
    bench.job(json!({"name": "j", "plan": [loud]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("failed", &["loud"]));
    assert_eq!(errors(&bench, id).await, ["timeout exceeded"]);

    bench.job(json!({"name": "j", "plan": [task("loud", &["flood"])]})).await;
    let id = bench.trigger("j").await;
    bench.until(id, "log").await;
    bench.admin.put(&format!("/api/v1/builds/{id}/abort")).send().await.unwrap();
    assert_eq!(bench.ended(id).await, end("aborted", &["loud"]));
    let events = bench.events(id).await;
    let said: Vec<&str> = events.iter().filter_map(|e| e["data"]["payload"].as_str()).collect();
    assert!(said.last().is_some_and(|last| last.contains("the rest of its output is left out")), "{:?}", said.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_of_the_server_ends_the_build_and_what_runs_of_it() {
    let bench = Bench::new().await;
    let broken = json!({"do": [task("wait", &["hold"]), task("broken", &["panic"])]});
    bench.job(json!({"name": "j", "plan": [{"in_parallel": [task("slow", &["hold"]), broken]}]})).await;
    let id = bench.trigger("j").await;
    let running = held(&bench, 2).await;
    let step = |wanted: &str| {
        let started = bench.world.runtime.started();
        let found = started.iter().find(|(_, spec)| spec.labels["step"] == wanted).map(|(handle, _)| handle.clone());
        found.unwrap()
    };
    assert!(running.contains(&step("slow")));
    bench.world.runtime.release(&step("wait"), 0);
    let ended = bench.ended(id).await;
    assert_eq!((ended.status.as_str(), ended.ran.len()), ("errored", 2), "{ended:?}");
    let told = errors(&bench, id).await;
    assert!(
        told.iter().any(|text| text.as_str().unwrap().contains("this process is to break its runtime")),
        "{told:?}"
    );
    held(&bench, 0).await;
    bench.job(json!({"name": "j", "plan": [task("next", &[])]})).await;
    assert_eq!(bench.run("j").await, end("succeeded", &["next"]), "the server goes on");
}
