//! The steps that hold other steps, and what tasks hand on.

use serde_json::json;

use super::{Bench, end, task};

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_with_the_first_success() {
    let bench = Bench::new().await;
    let mut never = task("t", &["exit:1"]);
    never["attempts"] = json!(3);
    bench.job(json!({"name": "j", "plan": [never]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["t", "t", "t"]));
    let mut at_once = task("t", &[]);
    at_once["attempts"] = json!(3);
    bench.job(json!({"name": "j", "plan": [at_once]})).await;
    assert_eq!(bench.run("j").await, end("succeeded", &["t"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_nest_as_deeply_as_a_file_may() {
    let bench = Bench::new().await;
    let mut step = task("inside", &[]);
    for _ in 0..38 {
        let hook = task("hook", &[]);
        step = json!({"do": [step], "timeout": "1h", "on_failure": hook, "on_error": hook, "on_abort": hook, "ensure": hook});
    }
    bench.job(json!({"name": "j", "plan": [step]})).await;
    let id = bench.trigger("j").await;
    let ended = bench.ended(id).await;
    assert_eq!((ended.status.as_str(), ended.ran.len()), ("succeeded", 39), "{:?}", bench.events(id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_fails() {
    let bench = Bench::new().await;
    let mut slow = task("slow", &["hang"]);
    slow["timeout"] = json!("50ms");
    slow["on_failure"] = task("told", &[]);
    bench.job(json!({"name": "j", "plan": [slow]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("failed", &["slow", "told"]));
    let events = bench.events(id).await;
    assert!(events.iter().any(|e| e["data"]["message"] == "timeout exceeded"), "{events:#?}");

    let around = json!({"do": [task("a", &[]), task("b", &["hang"])], "timeout": "3s"});
    bench.job(json!({"name": "j", "plan": [around]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["a", "b"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn try_swallows_failure_and_error() {
    let bench = Bench::new().await;
    let plan = json!([{"try": task("a", &["exit:1"])}, {"try": task("b", &["lost:gone"])}, task("c", &[])]);
    bench.job(json!({"name": "j", "plan": plan})).await;
    assert_eq!(bench.run("j").await, end("succeeded", &["a", "b", "c"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_steps_all_run_unless_one_fails_fast() {
    let bench = Bench::new().await;
    let steps = [task("a", &["exit:1"]), task("b", &[]), task("c", &[])];
    bench.job(json!({"name": "j", "plan": [{"in_parallel": {"limit": 1, "steps": steps}}]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["a", "b", "c"]));
    let steps = [task("a", &["exit:1"]), task("b", &[]), task("c", &[])];
    bench.job(json!({"name": "j", "plan": [{"in_parallel": {"limit": 1, "fail_fast": true, "steps": steps}}]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_reach_later_steps_under_their_mapped_names() {
    let bench = Bench::new().await;
    let mut make = task("make", &[]);
    make["config"]["outputs"] = json!([{"name": "out"}]);
    make["output_mapping"] = json!({"out": "thing"});
    let mut take = task("take", &[]);
    take["config"]["inputs"] = json!([{"name": "in"}, {"name": "extra", "optional": true}]);
    take["input_mapping"] = json!({"in": "thing"});
    bench.job(json!({"name": "j", "plan": [make, take.clone()]})).await;
    assert_eq!(bench.run("j").await, end("succeeded", &["make", "take"]));

    bench.job(json!({"name": "j", "plan": [take]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("errored", &[]));
    let events = bench.events(id).await;
    assert!(events.iter().any(|e| e["data"]["message"] == "missing inputs: thing"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_may_come_from_a_file_of_an_artifact() {
    let bench = Bench::new().await;
    let mut make = task("make", &[]);
    make["config"]["outputs"] = json!([{"name": "out", "path": "/made"}]);
    let file = "platform: linux\nrootfs_uri: host:///\nparams: {A: 1}\nrun: {path: do, args: [\"out:hello\"]}\n";
    make["config"]["run"]["args"] = json!([format!("write:/made:task.yml:{file}")]);
    let run = json!({"task": "filed", "file": "out/task.yml", "params": {"A": "2", "B": "x"}});
    bench.job(json!({"name": "j", "plan": [make, run]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("succeeded", &["make", "filed"]));
    let (_, spec) = bench.world.runtime.started().into_iter().find(|(_, s)| s.labels["step"] == "filed").unwrap();
    assert!(spec.process.env.contains(&"A=2".to_owned()) && spec.process.env.contains(&"B=x".to_owned()));
    assert!(spec.process.tty.is_some());
    let text = serde_json::to_string(&bench.events(id).await).unwrap();
    assert!(text.contains("B was defined in pipeline but missing from task file (out/task.yml)"), "{text}");

    bench.job(json!({"name": "j", "plan": [{"task": "filed", "file": "nothing/task.yml"}]})).await;
    assert_eq!(bench.run("j").await.status, "errored");
}
