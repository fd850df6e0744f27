//! Resources and their versions.

use std::time::Duration;

use serde_json::{Value, json};
use whistlestop::base::id::{BuildId, TeamId};
use whistlestop::base::version::{MetadataField, Version};
use whistlestop::store::build::Status;

use super::builds::events;
use super::pipelines::kitchen;
use crate::world::{NOW, World};

const CODE: &str = "/api/v1/teams/alpha/pipelines/kitchen/resources/code";

/// Gives `code` three versions, as checks would.
async fn checked(world: &World) {
    let write = world.app().store.write(|tx| {
        let team = tx.find_team("alpha")?.map_or(TeamId(0), |t| t.id);
        let scope = tx.find_or_create_scope("code", team)?;
        let found = tx.resources()?.into_iter().find(|r| r.name == "code").unwrap();
        tx.set_scope(found.id, scope.id)?;
        let versions = ["v1", "v2", "v3"].map(|v| Version::from([("version", v)]));
        tx.save_checked(scope.id, &versions)?;
        let author = MetadataField { name: "author".into(), value: "ann".into() };
        tx.save_metadata(scope.id, &versions[2], &[author])
    });
    write.await.unwrap();
}

#[tokio::test]
async fn versions_are_listed_filtered_pinned_and_disabled() {
    let (world, ann) = kitchen().await;
    checked(&world).await;
    let all = ann.get(&format!("{CODE}/versions")).await.text().await.unwrap();
    let expected = r#"[{"id":3,"metadata":[{"name":"author","value":"ann"}],"version":{"version":"v3"},"enabled":true},{"id":2,"version":{"version":"v2"},"enabled":true},{"id":1,"version":{"version":"v1"},"enabled":true}]"#;
    assert_eq!(all.trim(), expected);
    let filtered = ann.json(&format!("{CODE}/versions?filter=version:v2")).await;
    assert_eq!(filtered.as_array().unwrap().len(), 1);
    let page = ann.get(&format!("{CODE}/versions?limit=1")).await;
    assert_eq!(
        page.headers()["link"],
        format!("<{}?to=2&limit=1>; rel=\"next\"", world.url(&format!("{CODE}/versions")))
    );

    let put = |path: &str| ann.put(&format!("{CODE}/{path}")).send();
    assert_eq!(put("versions/2/disable").await.unwrap().status(), 200);
    assert_eq!(ann.json(&format!("{CODE}/versions/2")).await["enabled"], false);
    assert_eq!(put("versions/2/enable").await.unwrap().status(), 200);
    assert_eq!(put("versions/99/enable").await.unwrap().status(), 404);
    assert_eq!(put("versions/1/pin").await.unwrap().status(), 200);
    let comment = ann.put(&format!("{CODE}/pin_comment")).json(&json!({"pin_comment": "why"})).send().await.unwrap();
    assert_eq!(comment.status(), 200);
    let shown = ann.json(CODE).await;
    assert_eq!((&shown["pinned_version"], &shown["pin_comment"]), (&json!({"version": "v1"}), &json!("why")));
    assert_eq!(put("unpin").await.unwrap().status(), 200);
    assert_eq!(ann.json(CODE).await.get("pinned_version"), None);
    assert_eq!(ann.json(&format!("{CODE}/versions/3/input_to")).await, json!([]));
}

#[tokio::test]
async fn metadata_of_an_exposed_pipeline_stay_with_the_team() {
    let (world, ann) = kitchen().await;
    checked(&world).await;
    ann.put("/api/v1/teams/alpha/pipelines/kitchen/expose").send().await.unwrap();
    let shown = world.anonymous().json(&format!("{CODE}/versions/3")).await;
    assert_eq!((shown.get("metadata"), &shown["version"]["version"]), (None, &json!("v3")));
}

#[tokio::test]
async fn a_check_is_a_build_and_a_webhook_needs_its_token() {
    let (world, ann) = kitchen().await;
    let check = |body: Value| ann.post(&format!("{CODE}/check")).json(&body).send();
    let build: Value = check(json!({"from": null, "shallow": false})).await.unwrap().json().await.unwrap();
    assert_eq!((&build["name"], &build["resource_name"]), (&json!("check"), &json!("code")));
    assert_eq!(ann.post(&format!("{CODE}/check")).send().await.unwrap().status(), 400);
    for (query, status) in [("", 400), ("?webhook_token=zz", 401), ("?webhook_token=hook", 201)] {
        let hook = world.anonymous().post(&format!("{CODE}/check/webhook{query}")).send().await.unwrap();
        assert_eq!(hook.status(), status, "{query}");
    }
    let missing = "/api/v1/teams/alpha/pipelines/kitchen/resources/zz/check/webhook?webhook_token=x";
    assert_eq!(world.anonymous().post(missing).send().await.unwrap().status(), 401, "as with a wrong token");
}

#[tokio::test]
async fn a_webhooks_token_may_be_a_variable() {
    let (world, ann) = kitchen().await;
    let file = r#"{"resources": [
        {"name": "r", "type": "mock", "webhook_token": "((hook))"},
        {"name": "part", "type": "mock", "webhook_token": "a-((hook))"},
        {"name": "none", "type": "mock", "webhook_token": "((nowhere))"}
    ], "jobs": [{"name": "j", "plan": [{"get": "r"}, {"get": "part"}, {"get": "none"}]}]}"#;
    ann.set_pipeline("alpha", "hooks", file).await;
    let secret = json!({"value": "s3cret"});
    let saved = ann.put("/api/v1/teams/alpha/secrets?pipeline=hooks&name=hook").json(&secret).send().await.unwrap();
    assert!(saved.status().is_success(), "{}", saved.status());
    for (resource, token, status) in [
        ("r", "s3cret", 201),
        ("r", "((hook))", 401),
        ("r", "other", 401),
        ("part", "a-s3cret", 201),
        ("part", "s3cret", 401),
        ("none", "((nowhere))", 401),
    ] {
        let path = format!("/api/v1/teams/alpha/pipelines/hooks/resources/{resource}/check/webhook");
        let hook = world.anonymous().post(&path).query(&[("webhook_token", token)]).send().await.unwrap();
        assert_eq!(hook.status(), status, "{resource} {token}");
    }
}

/// Counts a check of `code` that nobody asked for, which ended in that way; its id.
async fn passing_check(world: &World, error: Option<&'static str>) -> i64 {
    let write = world.app().store.write(move |tx| {
        let found = tx.resources()?.into_iter().find(|r| r.name == "code").unwrap();
        let scope = tx.find_or_create_scope("code", found.team_id)?.id;
        tx.set_scope(found.id, scope)?;
        tx.check_started(scope, NOW)?;
        tx.number_check(scope)?;
        tx.check_ended(scope, error, NOW.plus(Duration::from_secs(2)))?;
        Ok(tx.resource(found.id)?.unwrap().last_check_id.unwrap().0)
    });
    write.await.unwrap()
}

#[tokio::test]
async fn a_check_without_a_row_is_told_by_its_id_to_those_who_may() {
    let (world, ann) = kitchen().await;
    world.team("beta", "bob").await;
    let (bob, nobody) = (world.sign_in("bob").await, world.anonymous());
    let first = passing_check(&world, None).await;
    assert_eq!(ann.json(CODE).await["build"]["id"], first);
    let build = ann.json(&format!("/api/v1/builds/{first}")).await;
    let said = ["name", "status", "resource_name", "pipeline_name", "team_name"].map(|n| build[n].as_str().unwrap());
    assert_eq!(said, ["check", "succeeded", "code", "kitchen", "alpha"]);
    let plan = ann.json(&format!("/api/v1/builds/{first}/plan")).await;
    assert_eq!((&plan["schema"], &plan["plan"]["check"]["name"]), (&json!("exec.v2"), &json!("code")));
    let told = async |id: i64| {
        let text = events(&ann, &format!("/api/v1/builds/{id}/events"), None).await;
        let lines = text.lines().filter_map(|l| l.strip_prefix("data: "));
        let events: Vec<Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(text.ends_with(&format!("id: {}\nevent: end\ndata\n\n", events.len())), "{text}");
        events.iter().map(|e| format!("{} {}", e["event"].as_str().unwrap(), e["data"]["status"])).collect::<Vec<_>>()
    };
    let expected = ["status \"started\"", "initialize-check null", "finish null", "status \"succeeded\""];
    assert_eq!(told(first).await, expected);
    let second = passing_check(&world, Some("no such branch")).await;
    let expected = ["status \"started\"", "initialize-check null", "error null", "finish null", "status \"failed\""];
    assert_eq!(told(second).await, expected);
    let text = events(&ann, &format!("/api/v1/builds/{second}/events"), Some("1")).await;
    assert!(text.starts_with("id: 2\nevent: event\n") && text.contains("no such branch"), "{text}");
    for path in ["", "/plan", "/events", "/preparation", "/resources", "/artifacts", "/secrets"] {
        let of = |id: i64| format!("/api/v1/builds/{id}{path}");
        for (caller, who) in [(&bob, "bob"), (&nobody, "nobody")] {
            let (theirs, absent) = (caller.get(&of(second)).await, caller.get(&of(987_654)).await);
            assert_eq!(theirs.status(), absent.status(), "{path} by {who}");
            assert!([401, 404].contains(&theirs.status().as_u16()), "{path} by {who}");
        }
        if ["", "/plan", "/events"].contains(&path) {
            assert_eq!(ann.get(&of(first)).await.status(), 404, "{path}: another check has followed");
        }
    }
    let comment = ann.put(&format!("/api/v1/builds/{second}/comment")).json(&json!({"comment": "x"}));
    assert_eq!(comment.send().await.unwrap().status(), 404);
    assert_eq!(ann.put(&format!("/api/v1/builds/{second}/abort")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_check_by_hand_is_listed_until_the_next_check() {
    let (world, ann) = kitchen().await;
    let check = ann.post(&format!("{CODE}/check")).json(&json!({"from": null})).send().await.unwrap();
    let id = check.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
    let listed = async |path: &str| {
        let list = ann.json(path).await;
        let shown = |b: &Value| (b["id"].as_i64().unwrap(), b["resource_name"].as_str().unwrap_or_default().to_owned());
        list.as_array().unwrap().iter().map(shown).collect::<Vec<_>>()
    };
    let lists = ["/api/v1/builds", "/api/v1/teams/alpha/builds", "/api/v1/teams/alpha/pipelines/kitchen/builds"];
    for path in lists {
        assert_eq!(listed(path).await, [(id, "code".to_owned())], "{path}");
    }
    let end = world.app().store.write(move |tx| tx.finish_build(BuildId(id), Status::Succeeded, NOW));
    end.await.unwrap();
    assert_eq!(listed(lists[0]).await.len(), 1, "the last check is listed");
    passing_check(&world, None).await;
    for path in lists {
        assert_eq!(listed(path).await, [], "{path}");
    }
    assert_eq!(ann.json(&format!("/api/v1/builds/{id}")).await["status"], "succeeded", "and can still be watched");
}

#[tokio::test]
async fn a_webhook_tells_strangers_nothing_of_what_is_there_or_wrong() {
    // Nobody listens there.
    let flags = ["--vault-url", "http://127.0.0.1:1", "--vault-client-token", "x", "--secret-retry-attempts", "1"];
    let world = World::with(&flags).await;
    world.team("alpha", "ann").await;
    let file = r#"{"resources": [{"name": "r", "type": "mock", "webhook_token": "((hook))"}],
        "jobs": [{"name": "j", "plan": [{"get": "r"}]}]}"#;
    world.sign_in("ann").await.set_pipeline("alpha", "hooks", file).await;
    let nobody = world.anonymous();
    let call = async |resource: &str| {
        let path = format!("/api/v1/teams/alpha/pipelines/hooks/resources/{resource}/check/webhook?webhook_token=x");
        let began = std::time::Instant::now();
        let answer = nobody.post(&path).send().await.unwrap();
        let took = began.elapsed();
        assert!(took >= std::time::Duration::from_millis(250), "{resource} is refused as slowly as others: {took:?}");
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let absent = call("absent").await;
    assert_eq!(absent.0, 401);
    assert_eq!(call("r").await, absent, "that its token cannot be looked up is for the log");
}
