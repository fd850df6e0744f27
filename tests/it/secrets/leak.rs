//! When a secret got into a log: who could have seen it, and out with it.

use serde_json::{Value, json};

use super::{Home, OWN, bench, everything, press, put, task};

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

    // By name: who of them has been here. Strangers are not among them.
    bench.world.sign_in("bob").await;
    let account = json!({"name": "bot", "role": "viewer"});
    bench.admin.post("/api/v1/teams/main/service-accounts").json(&account).send().await.unwrap();
    let seen = bench.admin.json(&format!("/api/v1/builds/{id}/secrets")).await;
    let people = seen["readers"]["people"].as_array().unwrap();
    let people: Vec<_> = people.iter().map(|p| (p["name"].as_str().unwrap(), p["role"].as_str().unwrap())).collect();
    assert_eq!(people, [("admin", "owner"), ("bot", "viewer")]);

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

#[tokio::test(flavor = "multi_thread")]
async fn buttons_and_commands_cure_it_too() {
    let bench = bench(&[]).await;
    put(&bench.admin, "p", "key", "given-to-the-build").await;
    let mut say = task("t", json!({"K": "((key))"}));
    say["config"]["run"]["args"] = json!(["out:one-typed-text another-typed-text a-third\n"]);
    bench.job(json!({"name": "j", "plan": [say]})).await;
    let (id, other) = (bench.trigger("j").await, bench.trigger("j").await);
    bench.ended(id).await;
    bench.ended(other).await;
    let log = async |id: i64| bench.admin.get(&format!("/builds/{id}/log.txt")).await.text().await.unwrap();

    let page = bench.admin.get(&format!("/builds/{id}/leak")).await.text().await.unwrap();
    assert!(page.contains("Every member of team main") && page.contains("main/p/key"), "{page}");
    let path = format!("/builds/{id}/log/redact");
    assert_eq!(press(&bench, &path, "wrong", &[("texts", "one-typed-text")]).await, 302);
    assert!(log(id).await.contains("one-typed-text"));
    assert_eq!(press(&bench, &path, "c", &[("texts", "one-typed-text\r\n")]).await, 303);
    let text = log(id).await;
    assert!(!text.contains("one-typed-text") && text.contains("another-typed-text"), "{text}");

    let home = Home::of(&bench);
    let (id_text, other_text) = (id.to_string(), other.to_string());
    let (code, text) = home.run(OWN, &["secrets", "redact-log", &id_text], Some("another-typed-text\n"));
    assert!(code == Some(0) && text.contains("events of build"), "{text}");
    let text = log(id).await;
    assert!(!text.contains("another-typed-text") && text.contains("a-third"), "{text}");
    let (code, text) = home.run(OWN, &["secrets", "who-saw", &id_text], None);
    assert!(
        code == Some(0) && text.contains("key  main/p/key") && text.contains("team main, owner: local:admin"),
        "{text}"
    );
    assert!(text.lines().any(|l| l.starts_with("admin") && l.contains("local  owner")), "{text}");
    let (code, text) = home.run(OWN, &["secrets", "uses", "key"], None);
    assert!(
        code == Some(0) && text.contains(&id_text) && text.contains(&other_text) && text.contains("p/j/1"),
        "{text}"
    );
    let (code, text) = home.run(OWN, &["secrets", "delete-log", &other_text], None);
    assert!(code == Some(0) && text.contains("is removed"), "{text}");
    assert!(!log(other).await.contains("typed"));
    assert_eq!(press(&bench, &format!("/builds/{id}/log/remove"), "c", &[]).await, 303);
    assert!(!log(id).await.contains("a-third"));

    // A build that asks for what is not there is not set at all, if that is asked for.
    let file = home.path().join("p.yml");
    std::fs::write(
        &file,
        json!({"jobs": [{"name": "j", "plan": [task("t", json!({"K": "((absent))"}))]}]}).to_string(),
    )
    .unwrap();
    let set = ["fly", "-t", "cd-main", "set-pipeline", "-n", "--check-creds", "-p", "p", "-c", file.to_str().unwrap()];
    let (code, text) = home.run(OWN, &set, None);
    assert!(code == Some(1) && text.contains("undefined vars: absent") && text.contains("main/p/absent"), "{text}");
}
