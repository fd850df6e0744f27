//! When a secret got into a log: who could have seen it, and out with it.

use serde_json::{Value, json};

use super::{bench, everything, put, task};

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_secret_is_taken_out_of_one_log() {
    let bench = bench(&[]).await;
    put(&bench.admin, "p", "key", "given-to-the-build").await;
    let mut say = task("t", json!({"K": "((key))"}));
    // What was typed into the pipeline is no secret to the server.
    say["config"]["run"]["args"] = json!(["out:the password is typed-", "out:into-the-file\n", "out:fine\n"]);
    bench.job(json!({"name": "j", "plan": [say]})).await;
    let (id, other) = (bench.trigger("j").await, bench.trigger("j").await);
    bench.ended(id).await;
    bench.ended(other).await;
    let log = async |id: i64| bench.admin.get(&format!("/builds/{id}/log.txt")).await.text().await.unwrap();
    assert!(log(id).await.contains("typed-into-the-file"));

    let seen = bench.admin.json(&format!("/api/v1/builds/{id}/secrets")).await;
    assert_eq!(seen["secrets"], json!([{"name": "key", "path": "main/p/key"}]));
    assert_eq!(
        (&seen["readers"]["everybody"], &seen["readers"]["members"][0]["team"]),
        (&json!(false), &json!("main"))
    );

    let body = json!({"texts": ["typed-into-the-file"]});
    let answer = bench.admin.put(&format!("/api/v1/builds/{id}/log")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.json::<Value>().await.unwrap()["events"].as_i64().unwrap() >= 1);
    let text = log(id).await;
    assert!(!text.contains("typed-into-the-file") && text.contains("((redacted))") && text.contains("fine"), "{text}");
    assert!(log(other).await.contains("typed-into-the-file"), "one log only");

    let answer =
        bench.admin.request(reqwest::Method::DELETE, &format!("/api/v1/builds/{other}/log")).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert!(!log(other).await.contains("typed"), "{}", log(other).await);
    let audit = bench.world.app().store.read(|tx| tx.audit_entries(&everything())).await.unwrap();
    let actions: Vec<&str> = audit.iter().map(|e| e.action.as_str()).collect();
    assert!(actions.contains(&"RedactBuildLog") && actions.contains(&"DeleteBuildLog"), "{actions:?}");
    assert!(!format!("{audit:?}").contains("typed-into"));

    bench.world.team("other", "ann").await;
    let ann = bench.world.sign_in("ann").await;
    for (method, path) in
        [(reqwest::Method::PUT, "log"), (reqwest::Method::DELETE, "log"), (reqwest::Method::GET, "secrets")]
    {
        let answer = ann.request(method, &format!("/api/v1/builds/{id}/{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "another team's build is not even there");
    }
}
