//! Variables of a running build: from the pipeline's own sources, and what becomes of their values.

use serde_json::json;

use super::{Bench, end, task};

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_source_reach_the_process_and_not_the_log() {
    let bench = Bench::new().await;
    let mut step = task("t", &["out:seen ((vs:word.inner)) and ((vs:count))"]);
    step["params"] = json!({"W": "((vs:word.inner))", "N": "((vs:count))"});
    bench
        .set(json!({
            "var_sources": [{"name": "vs", "type": "dummy", "config": {"vars": {"word": {"inner": "((other:x))"}, "count": 7}}},
                {"name": "other", "type": "dummy", "config": {"vars": {"x": "hush-hush"}}}],
            "jobs": [{"name": "j", "plan": [step]}],
        }))
        .await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await, end("succeeded", &["t"]));
    let (_, spec) = bench.world.runtime.started().pop().unwrap();
    assert!(spec.process.env.contains(&"W=hush-hush".to_owned()) && spec.process.env.contains(&"N=7".to_owned()));
    let text = serde_json::to_string(&bench.events(id).await).unwrap();
    assert!(text.contains("seen ((redacted)) and 7") && !text.contains("hush"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_named() {
    let bench = Bench::new().await;
    let sources = json!([{"name": "vs", "type": "dummy", "config": {"vars": {"a": 1}}}]);
    for (word, want) in [
        ("((nowhere)) ((.:local))", "failed to interpolate task config: undefined vars: .:local, nowhere"),
        ("((vs:b))", "failed to interpolate task config: undefined vars: vs:b"),
        ("((vault:b))", "failed to interpolate task config: missing source 'vault' in var: vault:b"),
    ] {
        bench.set(json!({"var_sources": sources, "jobs": [{"name": "j", "plan": [task("t", &[word])]}]})).await;
        let id = bench.trigger("j").await;
        assert_eq!(bench.ended(id).await, end("errored", &[]));
        let events = bench.events(id).await;
        let errors: Vec<_> = events.iter().filter(|e| e["event"] == "error").collect();
        assert_eq!(errors.len(), 1, "{events:#?}");
        let message = errors[0]["data"]["message"].as_str().unwrap();
        assert!(message.starts_with(want), "{message}");
    }
}
