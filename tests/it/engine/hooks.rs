//! Which hooks run when, and what becomes of the build.

use serde_json::{Value, json};

use super::{Bench, end, task};

/// A job whose one step has every hook, each a task of that name.
fn hooked(step: Value, hooks: &[(&str, &[&str])]) -> Value {
    let mut step = step;
    for (name, words) in hooks {
        step[name] = task(name, words);
    }
    json!({"name": "j", "plan": [step]})
}

const ALL: &[(&str, &[&str])] =
    &[("on_success", &[]), ("on_failure", &[]), ("on_error", &[]), ("on_abort", &[]), ("ensure", &[])];

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_runs_its_hook_and_ensure() {
    let bench = Bench::new().await;
    let cases: [(&[&str], &str, &str); 3] = [
        (&[], "succeeded", "on_success"),
        (&["exit:1"], "failed", "on_failure"),
        (&["lost:gone"], "errored", "on_error"),
    ];
    for (words, status, hook) in cases {
        bench.job(hooked(task("t", words), ALL)).await;
        assert_eq!(bench.run("j").await, end(status, &["t", hook, "ensure"]), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_stops_the_step_and_runs_on_abort_and_ensure() {
    let bench = Bench::new().await;
    bench.job(hooked(task("t", &["out:waiting", "hang"]), ALL)).await;
    let id = bench.trigger("j").await;
    bench.until(id, "log").await;
    let answer = bench.admin.put(&format!("/api/v1/builds/{id}/abort")).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(bench.ended(id).await, end("aborted", &["t", "on_abort", "ensure"]));
    let events = bench.events(id).await;
    let errors: Vec<_> = events.iter().filter(|e| e["event"] == "error").map(|e| &e["data"]["message"]).collect();
    assert_eq!(errors, ["interrupted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_does_to_the_outcome() {
    let bench = Bench::new().await;
    let fails: &[&str] = &["exit:1"];
    let errs: &[&str] = &["lost:gone"];
    type Case<'a> = (&'a [&'a str], &'a str, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 8] = [
        (&[], "on_success", fails, "failed"),
        (&[], "on_success", errs, "errored"),
        (fails, "on_failure", fails, "failed"),
        (fails, "on_failure", errs, "errored"),
        (errs, "on_error", fails, "errored"),
        (&[], "ensure", fails, "failed"),
        (&[], "ensure", errs, "errored"),
        (fails, "ensure", errs, "errored"),
    ];
    for (step, hook, words, status) in cases {
        bench.job(hooked(task("t", step), &[(hook, words)])).await;
        assert_eq!(bench.run("j").await, end(status, &["t", hook]), "{step:?} {hook} {words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_of_the_job_enclose_its_whole_plan() {
    let bench = Bench::new().await;
    let job = json!({
        "name": "j",
        "plan": [task("a", &[]), task("b", &["exit:2"]), task("c", &[])],
        "on_failure": task("tell", &[]),
        "ensure": task("tidy", &[]),
    });
    bench.job(job).await;
    assert_eq!(bench.run("j").await, end("failed", &["a", "b", "tell", "tidy"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensure_inside_still_runs_when_a_sibling_failed_fast() {
    let bench = Bench::new().await;
    let mut slow = task("slow", &["hang"]);
    slow["ensure"] = task("tidy", &[]);
    let steps = json!({"in_parallel": {"fail_fast": true, "steps": [slow, task("bad", &["exit:1"])]}});
    bench.job(json!({"name": "j", "plan": [steps]})).await;
    let ended = bench.run("j").await;
    assert_eq!(ended.status, "failed");
    assert!(ended.ran.contains(&"tidy".to_owned()) || !ended.ran.contains(&"slow".to_owned()), "{ended:?}");
}
