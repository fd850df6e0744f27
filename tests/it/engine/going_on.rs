//! A server that ends in the middle of a build, and the next one that takes it up.

use serde_json::json;

use super::{Bench, end, task};
use crate::world::WHOLE;

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
