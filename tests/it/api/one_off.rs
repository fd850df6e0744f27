//! Builds without a job: uploads go in, outputs come out, and nobody gets at another team's.

use std::io::Read;

use serde_json::{Value, json};

use crate::world::{Caller, WHOLE, World};

fn archive(name: &str, text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

async fn upload(caller: &Caller, team: &str, body: Vec<u8>) -> reqwest::Response {
    caller.post(&format!("/api/v1/teams/{team}/artifacts?platform=linux")).body(body).send().await.unwrap()
}

fn plan(artifact: &Value) -> Value {
    let config = json!({"platform": "linux", "rootfs_uri": "host:///", "inputs": [{"name": "in"}],
        "outputs": [{"name": "out", "path": "/out"}], "run": {"path": "do", "args": ["write:/out:f:made"]}});
    json!({"id": "7", "ensure": {
        "step": {"id": "5", "do": [
            {"id": "2", "in_parallel": {"steps": [{"id": "1", "artifact_input": {"artifact_id": artifact, "name": "in"}}]}},
            {"id": "3", "task": {"name": "one-off", "privileged": false, "hermetic": false, "config": config}}]},
        "ensure": {"id": "6", "in_parallel": {"steps": [{"id": "4", "artifact_output": {"name": "out"}}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_is_an_input_and_an_output_comes_down() {
    let world = World::with(WHOLE).await;
    let admin = world.admin().await;
    let answer = upload(&admin, "main", archive("f", "hello")).await;
    assert_eq!(answer.status(), 201);
    let artifact: Value = answer.json().await.unwrap();
    assert_eq!((&artifact["name"], &artifact["build_id"]), (&json!(""), &json!(0)));

    let made = admin.post("/api/v1/teams/main/builds").json(&plan(&artifact["id"])).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let build: Value = made.json().await.unwrap();
    assert_eq!((&build["name"], &build["status"], build.get("job_name")), (&json!("1"), &json!("started"), None));
    let id = build["id"].as_i64().unwrap();
    let mut follower = world.app().feed.follow(whistlestop::base::id::BuildId(id), 0);
    while follower.next().await.is_some() {}
    let build = admin.json(&format!("/api/v1/builds/{id}")).await;
    assert_eq!(build["status"], "succeeded");

    let kept = admin.json(&format!("/api/v1/builds/{id}/artifacts")).await;
    assert_eq!((&kept[0]["name"], &kept[0]["build_id"]), (&json!("out"), &json!(id)));
    let path = format!("/api/v1/teams/main/artifacts/{}", kept[0]["id"]);
    let packed = admin.get(&path).await.bytes().await.unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    assert_eq!((entry.path().unwrap().to_str().unwrap(), text.as_str()), ("f", "made"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_a_team_s_uploads_are_its_own() {
    let world = World::with(WHOLE).await;
    world.team("a", "ann").await;
    world.team("b", "bob").await;
    let (ann, bob) = (world.sign_in("ann").await, world.sign_in("bob").await);
    let artifact: Value = upload(&ann, "a", archive("f", "x")).await.json().await.unwrap();
    let id = &artifact["id"];
    assert_eq!(upload(&bob, "a", archive("f", "x")).await.status(), 403);
    assert_eq!(bob.get(&format!("/api/v1/teams/a/artifacts/{id}")).await.status(), 403);
    assert_eq!(bob.get(&format!("/api/v1/teams/b/artifacts/{id}")).await.status(), 404);
    let stolen = bob.post("/api/v1/teams/b/builds").json(&plan(id)).send().await.unwrap();
    assert_eq!(stolen.status(), 400);
    let stranger = bob.post("/api/v1/teams/b/builds").json(&plan(&json!(999))).send().await.unwrap();
    let (theirs, absent) = (stolen.text().await.unwrap(), stranger.text().await.unwrap());
    assert_eq!(theirs.replace(&id.to_string(), "N"), absent.replace("999", "N"));

    for (query, why) in [
        (
            "tags=gpu&tags=arm",
            "no workers satisfying: platform 'linux', tag 'gpu', 'arm': the worker of this server has",
        ),
        ("platform=windows", "no workers satisfying: platform 'windows': this server runs linux containers only"),
    ] {
        let answer = ann.post(&format!("/api/v1/teams/a/artifacts?{query}")).body(archive("f", "x")).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 500);
        let text = answer.text().await.unwrap();
        assert!(text.contains(why), "{query}: {text}");
    }

    let broken = upload(&ann, "a", b"xx".to_vec()).await;
    assert_eq!(broken.status(), 500);
    assert!(broken.text().await.unwrap().starts_with("the upload is no tar archive"));
    let wrong = ann.post("/api/v1/teams/a/builds").json(&json!({"do": [{"task": {"name": 3}}]})).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    assert!(wrong.text().await.unwrap().contains("plan.do[0].task"), "the place is named");
}
