//! Setting pipelines and what is shown of them.

use serde_json::{Value, json};

use crate::world::{Caller, World};

const FILE: &str = include_str!("../../data/api/kitchen.yml");
const PIPELINE: &str = "/api/v1/teams/alpha/pipelines/kitchen";

pub async fn kitchen() -> (World, Caller) {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let ann = world.sign_in("ann").await;
    ann.set_pipeline("alpha", "kitchen", FILE).await;
    (world, ann)
}

async fn save(caller: &Caller, kind: &str, version: &str, body: &str) -> (u16, Value) {
    let request = caller.put(&format!("{PIPELINE}/config")).header("content-type", kind);
    let answer = request.header("x-concourse-config-version", version).body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn the_rules_of_saving_a_configuration() {
    let (_world, ann) = kitchen().await;
    let read = ann.get(&format!("{PIPELINE}/config")).await;
    let version = read.headers()["x-concourse-config-version"].to_str().unwrap().to_owned();
    let yaml = "application/x-yaml";
    assert_eq!(save(&ann, yaml, &version, FILE).await, (200, json!({})));
    let stale = "failed to save config: comparison with existing config failed during save";
    assert_eq!(save(&ann, yaml, &version, FILE).await, (500, json!(stale)));
    assert_eq!(save(&ann, "text/plain", "", FILE).await.0, 415);
    let (status, answer) = save(&ann, yaml, "x", FILE).await;
    assert_eq!(status, 400);
    assert!(answer["errors"][0].as_str().unwrap().starts_with("config version is malformed"), "{answer}");
    let (status, answer) = save(&ann, yaml, "", "jobs: []").await;
    assert_eq!(status, 400);
    assert!(answer["errors"][0].as_str().unwrap().contains("pipeline must contain at least one job"), "{answer}");
    let (_, answer) = save(&ann, yaml, "", "jobs: [{name: a, plan: [{gett: x}]}]").await;
    assert!(answer["errors"][0].as_str().unwrap().starts_with("malformed config: "), "{answer}");
}

#[tokio::test]
async fn a_configuration_reads_back_as_it_was_set() {
    let (_world, ann) = kitchen().await;
    let config = &ann.json(&format!("{PIPELINE}/config")).await["config"];
    assert_eq!(config["jobs"][0]["name"], "unit");
    assert_eq!(config["resources"][0]["name"], "code");
    assert_eq!(config["display"]["background_filter"], "opacity(30%)");
}

#[tokio::test]
async fn objects_have_the_members_of_concourse_in_its_order() {
    let (_world, ann) = kitchen().await;
    for (name, path) in [
        ("pipeline", ""),
        ("jobs", "/jobs"),
        ("job", "/jobs/ship"),
        ("resources", "/resources"),
        ("resource-types", "/resource-types"),
    ] {
        let text = ann.get(&format!("{PIPELINE}{path}")).await.text().await.unwrap();
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/api/{name}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn the_states_of_a_pipeline() {
    let (world, ann) = kitchen().await;
    let put = |path: &str| ann.put(&format!("{PIPELINE}/{path}")).send();
    let field = async |name: &str| ann.json(PIPELINE).await[name].clone();
    assert_eq!(field("paused").await, true);
    assert_eq!(put("unpause").await.unwrap().status(), 200);
    assert_eq!(field("paused").await, false);
    put("pause").await.unwrap();
    assert_eq!((field("paused").await, field("paused_by").await), (json!(true), json!("ann")));
    assert_eq!(world.anonymous().get(PIPELINE).await.status(), 401);
    put("expose").await.unwrap();
    assert_eq!(world.anonymous().json(PIPELINE).await["public"], true);
    assert_eq!(world.anonymous().json("/api/v1/pipelines").await.as_array().unwrap().len(), 1);
    assert_eq!(world.anonymous().get(&format!("{PIPELINE}/config")).await.status(), 401);
    put("hide").await.unwrap();
    assert_eq!(world.anonymous().json("/api/v1/pipelines").await, json!([]));

    put("archive").await.unwrap();
    assert_eq!((field("archived").await, field("paused").await), (json!(true), json!(true)));
    assert_eq!(ann.get(&format!("{PIPELINE}/config")).await.status(), 404);
    let refused = put("unpause").await.unwrap();
    assert_eq!(refused.status(), 409);
    assert_eq!(refused.text().await.unwrap(), "action not allowed for an archived pipeline\n");
    ann.set_pipeline("alpha", "kitchen", FILE).await;
    assert_eq!(field("archived").await, false);
}

#[tokio::test]
async fn pipelines_are_ordered_renamed_and_destroyed() {
    let (_world, ann) = kitchen().await;
    ann.set_pipeline("alpha", "second", FILE).await;
    let names = async || {
        let all = ann.json("/api/v1/teams/alpha/pipelines").await;
        all.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let order = |names: Value| ann.put("/api/v1/teams/alpha/pipelines/ordering").json(&names).send();
    assert_eq!(order(json!(["second", "kitchen"])).await.unwrap().status(), 200);
    assert_eq!(names().await, ["second", "kitchen"]);
    assert_eq!(order(json!(["kitchen", "nope"])).await.unwrap().status(), 400);
    assert_eq!(names().await, ["second", "kitchen"]);
    let rename = |to: &str| ann.put(&format!("{PIPELINE}/rename")).json(&json!({ "name": to })).send();
    let renamed = rename("Kitchen").await.unwrap();
    assert_eq!(renamed.status(), 200);
    assert_eq!(renamed.json::<Value>().await.unwrap()["warnings"][0]["type"], "invalid_identifier");
    assert_eq!(names().await, ["second", "Kitchen"]);
    let gone = ann.request(reqwest::Method::DELETE, "/api/v1/teams/alpha/pipelines/second").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(names().await, ["Kitchen"]);
}

#[tokio::test]
async fn instances_are_pipelines_of_their_own() {
    let (_world, ann) = kitchen().await;
    let path = "/api/v1/teams/alpha/pipelines/inst";
    for branch in ["a", "b"] {
        let address = format!("{path}/config?vars.branch=%22{branch}%22");
        let request = ann.put(&address).header("content-type", "application/x-yaml").body(FILE);
        assert_eq!(request.send().await.unwrap().status(), 201);
    }
    assert_eq!(ann.get(path).await.status(), 404);
    let one = ann.json(&format!("{path}?vars.branch=%22a%22")).await;
    assert_eq!(one["instance_vars"], json!({"branch": "a"}));
    assert_eq!(ann.json(&format!("{path}?vars=%7B%22branch%22%3A%22b%22%7D")).await["instance_vars"]["branch"], "b");
    assert_eq!(ann.get(&format!("{path}?vars.branch=a")).await.status(), 400);
}
