//! What a build makes of itself while it runs: variables from files, steps for combinations of values, other pipelines.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, end, task};

/// A task that leaves files in an artifact.
fn write(artifact: &str, files: &[(&str, &str)]) -> Value {
    let words: Vec<String> = files.iter().map(|(name, text)| format!("write:/made:{name}:{text}")).collect();
    let mut step = task("write", &words.iter().map(String::as_str).collect::<Vec<_>>());
    step["config"]["outputs"] = json!([{"name": artifact, "path": "/made"}]);
    step
}

/// Everything a build's steps wrote, in order.
fn log(events: &[Value]) -> String {
    events.iter().filter(|e| e["event"] == "log").map(|e| e["data"]["payload"].as_str().unwrap()).collect()
}

/// What came after the last variable was loaded.
fn said(events: &[Value]) -> String {
    log(events).rsplit("to build.\n").next().unwrap().to_owned()
}

fn errors(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|e| e["event"] == "error").map(|e| e["data"]["message"].as_str().unwrap()).collect()
}

fn named<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events.iter().filter(|e| e["event"] == name).map(|e| &e["data"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_variable_that_only_revealed_is_seen() {
    let bench = Bench::new().await;
    let files = [("d.json", r#"{"who":"ann-and-bob","n":3}"#), ("note.txt", " hello \n")];
    let plan = json!([
        write("out", &files),
        {"load_var": "d", "file": "out/d.json"},
        {"load_var": "note", "file": "out/note.txt", "reveal": true},
        task("show", &["out:((.:d.who)) ((.:d.n)) ((.:note))"]),
        {"load_var": "bad", "file": "out/note.txt", "format": "json"},
    ]);
    bench.job(json!({"name": "j", "plan": plan})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("errored", &["write", "show"]));
    let events = bench.events(id).await;
    let want =
        "var d fetched.\nadded var d to build.\nvar note fetched.\nadded var note to build.\n((redacted)) 3 hello";
    assert!(log(&events).starts_with(want), "{}", log(&events));
    assert_eq!(errors(&events), ["failed to parse out/note.txt in format json: expected value at line 1 column 2"]);
    let (_, spec) = bench.world.runtime.started().pop().unwrap();
    assert_eq!(spec.process.args, ["out:ann-and-bob 3 hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_runs_across_all_combinations() {
    let bench = Bench::new().await;
    let mut cell = task("cell-((.:go))", &["out:((.:go)) ((.:os))"]);
    cell["params"] = json!({"OS": "((.:os))"});
    cell["across"] = json!([
        {"var": "go", "values": ["1.1", "1.2"]},
        {"var": "os", "values": "((.:list))", "max_in_flight": "all"},
    ]);
    let list = json!({"load_var": "list", "file": "out/list.yml"});
    bench.job(json!({"name": "j", "plan": [write("out", &[("list.yml", "[linux, 4]")]), list, cell]})).await;
    let id = bench.trigger("j").await;
    let ended = bench.ended(id).await;
    let events = bench.events(id).await;
    assert_eq!((ended.status.as_str(), ended.ran.len()), ("succeeded", 5), "{events:#?}");
    assert_eq!(ended.ran[1..], ["cell-1.1", "cell-1.1", "cell-1.2", "cell-1.2"]);
    let steps = named(&events, "across-substeps");
    let shown: Vec<_> = steps[0]["substeps"].as_array().unwrap().iter().map(|s| &s["values"]).collect();
    assert_eq!(json!(shown), json!([["1.1", "linux"], ["1.1", 4], ["1.2", "linux"], ["1.2", 4]]));
    let across = steps[0]["origin"]["id"].as_str().unwrap();
    assert_eq!(steps[0]["substeps"][3]["step"]["id"], format!("{across}/3/0"));
    assert_eq!(named(&events, "finish").last().unwrap()["succeeded"], true);
    let specs = bench.world.runtime.started();
    let last = specs.iter().rfind(|(_, s)| s.labels["step"] == "cell-1.2").unwrap();
    assert!(last.1.process.env.contains(&"OS=4".to_owned()) || last.1.process.env.contains(&"OS=linux".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_across_stops_early_where_it_should_and_tells_its_own_error() {
    let bench = Bench::new().await;
    let across = |words: &[&str], fail_fast: bool| {
        let mut step = task("t-((.:x))", words);
        step["across"] = json!([{"var": "x", "values": ["a", "b"]}]);
        step["fail_fast"] = json!(fail_fast);
        step["on_failure"] = task("told", &[]);
        step
    };
    bench.job(json!({"name": "j", "plan": [across(&["exit:1"], false)]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["t-a", "t-b", "told"]));
    bench.job(json!({"name": "j", "plan": [across(&["exit:1"], true)]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["t-a", "told"]));
    bench.job(json!({"name": "j", "plan": [across(&["lost:gone"], false)]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("errored", &["t-a", "t-b"]));
    let events = bench.events(id).await;
    assert_eq!(errors(&events).len(), 3, "one for each step and one of the across: {events:#?}");
    assert!(named(&events, "finish").is_empty());

    let mut wrong = task("t", &[]);
    wrong["across"] = json!([{"var": "x", "values": "((.:none))"}]);
    bench.job(json!({"name": "j", "plan": [wrong]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(errors(&bench.events(id).await), ["undefined vars: .:none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_artifacts_of_one_combination_stay_within() {
    let bench = Bench::new().await;
    let inner = json!([
        write("of-((.:x))", &[("v", "value-((.:x))")]),
        {"load_var": "v", "file": "of-((.:x))/v", "reveal": true},
        task("seen-((.:x))", &["out:((.:v))"]),
    ]);
    let across = json!({"do": inner, "across": [{"var": "x", "values": ["a", "b"]}]});
    bench.job(json!({"name": "j", "plan": [across, {"load_var": "w", "file": "of-a/v"}]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("errored", &["write", "seen-a", "write", "seen-b"]));
    let events = bench.events(id).await;
    assert!(log(&events).contains("value-a") && log(&events).contains("value-b"), "{}", log(&events));
    assert_eq!(errors(&events), ["unknown artifact source: 'of-a' in file path 'v'"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_composite_is_told_by_the_step_that_runs() {
    let bench = Bench::new().await;
    let steps = json!([task("slow", &["hang"]), task("never", &[])]);
    let plan = json!([{"do": steps, "timeout": "3s", "on_failure": task("told", &[]), "on_abort": task("no", &[])}]);
    bench.job(json!({"name": "j", "plan": plan})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("failed", &["slow", "told"]));
    assert_eq!(errors(&bench.events(id).await), ["timeout exceeded"]);
    let side =
        json!({"in_parallel": [task("slow", &["hang"])], "on_error": task("told", &[]), "on_failure": task("no", &[])});
    bench.job(json!({"name": "j", "plan": [{"do": [side], "timeout": "3s"}]})).await;
    assert_eq!(bench.run("j").await, end("failed", &["slow", "told"]), "inside, its end is an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_step_says_what_it_does_not_do() {
    let bench = Bench::new().await;
    bench
        .set(json!({
            "prototypes": [{"name": "proto", "type": "mock", "source": {}, "defaults": {"a": 1}}],
            "jobs": [{"name": "j", "plan": [{"run": "hello", "type": "proto", "params": {"b": 2}}]}],
        }))
        .await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("succeeded", &[]));
    assert!(log(&bench.events(id).await).contains("pretending to run hello on prototype proto..."));
}

impl Bench {
    /// The configuration of a pipeline of main, if it is there and not archived.
    async fn config(&self, pipeline: &str) -> Option<Value> {
        let answer = self.admin.get(&format!("/api/v1/teams/main/pipelines/{pipeline}/config")).await;
        if answer.status() == 404 { None } else { Some(answer.json::<Value>().await.unwrap()["config"].clone()) }
    }

    /// Waits until a pipeline is archived.
    async fn archived(&self, pipeline: &str) {
        let gone = async {
            while self.config(pipeline).await.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), gone).await.expect("it is archived");
    }
}

/// Written by a task, whose own variables are filled in: two parentheses must come from one of them.
const CHILD: &str =
    "jobs: [{name: born, plan: [{task: t, file: a/b, params: {WHO: ((.:open))who)), LATER: ((.:open))later))}}]}]";

/// Steps that leave files, in which `((.:open))` stands for two parentheses.
fn write_child(artifact: &str, files: &[(&str, &str)]) -> Value {
    json!({"do": [write("open", &[("it", "((")]), {"load_var": "open", "file": "open/it", "reveal": true}, write(artifact, files)]})
}

fn setting(name: &str) -> Value {
    json!({"name": "j", "plan": [
        write_child("out", &[("child.yml", CHILD), ("vars.yml", "who: file")]),
        {"set_pipeline": name, "file": "out/child.yml", "vars": {"who": "ann"}, "var_files": ["out/vars.yml"]},
    ]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_set_once_and_left_alone_while_nothing_changes() {
    let bench = Bench::new().await;
    bench.job(setting("child")).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded");
    let events = bench.events(id).await;
    let text = said(&events);
    assert!(text.contains("job born has been added:") && text.ends_with("setting pipeline: child\ndone\n"), "{text}");
    assert_eq!(named(&events, "set-pipeline-changed")[0]["changed"], true);
    let params = bench.config("child").await.unwrap()["jobs"][0]["plan"][0]["params"].clone();
    assert_eq!(params, json!({"WHO": "ann", "LATER": "((later))"}));
    let shown: Value = bench.admin.get("/api/v1/teams/main/pipelines/child").await.json().await.unwrap();
    assert_eq!((&shown["paused"], &shown["parent_build_id"]), (&json!(false), &json!(id)));

    let second = bench.trigger("j").await;
    let events = {
        bench.ended(second).await;
        bench.events(second).await
    };
    assert_eq!(said(&events), "no changes to apply.\n");
    assert_eq!(named(&events, "set-pipeline-changed")[0]["changed"], false);
    let shown: Value = bench.admin.get("/api/v1/teams/main/pipelines/child").await.json().await.unwrap();
    assert_eq!(shown["parent_build_id"], second);
}

#[tokio::test(flavor = "multi_thread")]
async fn self_instances_and_what_is_wrong_with_a_file() {
    let bench = Bench::new().await;
    let own = json!({"jobs": [{"name": "j", "plan": [{"in_parallel": {"limit": 1, "steps": []}}]}]}).to_string();
    let step = |more: Value| {
        let files =
            [("own.yml", own.as_str()), ("child.yml", CHILD), ("bad.yml", "jobs: [{name: x, plan: [{get: none}]}]")];
        let mut set = json!({"file": "out/child.yml"});
        set.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": "j", "plan": [write_child("out", &files), set]})
    };
    bench.job(step(json!({"set_pipeline": "inst", "instance_vars": {"who": "bob", "n": 2}}))).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded");
    assert!(log(&bench.events(id).await).contains("setting pipeline: inst/n:2,who:bob\n"));

    bench.job(step(json!({"set_pipeline": "child", "file": "out/bad.yml"}))).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "failed");
    let text = said(&bench.events(id).await);
    assert!(
        text.starts_with("invalid pipeline:\n- invalid jobs:") && text.contains("unknown resource 'none'"),
        "{text}"
    );

    bench.job(step(json!({"set_pipeline": "child", "file": "out/none.yml"}))).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "errored");
    assert_eq!(errors(&bench.events(id).await), ["file 'none.yml' not found within artifact 'out'"]);

    bench.job(step(json!({"set_pipeline": "self", "file": "out/own.yml"}))).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert!(bench.config("p").await.unwrap()["jobs"][0]["plan"][0]["in_parallel"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_main_sets_pipelines_of_other_teams() {
    let bench = Bench::new().await;
    bench.world.team("other", "somebody").await;
    let mut job = setting("child");
    job["plan"][1]["team"] = json!("other");
    bench.job(job.clone()).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(bench.admin.get("/api/v1/teams/other/pipelines/child/config").await.status(), 200);
    job["plan"][1]["team"] = json!("nobody");
    bench.job(job.clone()).await;
    let id = bench.trigger("j").await;
    assert_eq!(errors(&bench.events(id).await), ["team nobody not found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_sets_any_more_is_archived_with_its_children() {
    let bench = Bench::new().await;
    bench.job(setting("child")).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    let failing = json!({"name": "j", "plan": [task("no", &["exit:1"])]});
    bench.job(failing).await;
    assert_eq!(bench.run("j").await.status, "failed");
    assert!(bench.config("child").await.is_some(), "a build that failed may not have come so far");
    bench.job(json!({"name": "j", "plan": [task("yes", &[])]})).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    bench.archived("child").await;

    bench.job(setting("child")).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert!(bench.config("child").await.is_some(), "set again, it is back");
    bench.job(json!({"name": "k", "plan": []})).await;
    bench.archived("child").await;
}
