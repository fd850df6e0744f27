//! What goes on long after it was allowed ends when it is no longer: logs that are followed, containers, uploads.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::installation::container;
use super::pipelines::kitchen;
use crate::world::{Caller, World};

/// As long as anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a stream comes to its end, without having said that the build did.
async fn ends(answer: reqwest::Response) {
    assert_eq!(answer.status(), 200);
    let text = tokio::time::timeout(PATIENCE, answer.text()).await.expect("the stream ends").unwrap();
    assert!(!text.contains("event: end"), "{text}");
}

async fn own(world: &World, team: &str, user: &str) {
    let auth = json!({"auth": {"owner": {"users": [format!("local:{user}")], "groups": []}}});
    let answer = world.admin().await.put(&format!("/api/v1/teams/{team}")).json(&auth).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

async fn follow(caller: &Caller) -> reqwest::Response {
    caller.get("/api/v1/builds/1/events").await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_role_or_token_hears_no_more_of_a_build() {
    let (world, ann) = kitchen().await;
    ann.post("/api/v1/teams/alpha/pipelines/kitchen/jobs/unit/builds").send().await.unwrap();
    let admin = world.admin().await;
    let (by_role, by_token) = (follow(&ann).await, follow(&admin).await);
    own(&world, "alpha", "bob").await;
    ends(by_role).await;
    let sessions = admin.json("/api/v1/user/sessions").await;
    let current = sessions.as_array().unwrap().iter().find(|s| s["current"] == true).unwrap()["id"].as_i64().unwrap();
    let path = format!("/api/v1/user/sessions/{current}");
    assert_eq!(admin.request(reqwest::Method::DELETE, &path).send().await.unwrap().status(), 204);
    ends(by_token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_their_role_is_put_out_of_the_container() {
    let (world, ann) = kitchen().await;
    container(&world, &world.runtime, "c1", "task").await;
    let path = world.url("/api/v1/teams/alpha/containers/c1/hijack").replace("http://", "ws://");
    let mut request = path.into_client_request().unwrap();
    let bearer = format!("Bearer {}", ann.token.clone().unwrap());
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    for message in [json!({"path": "cat", "args": [], "tty": null}), json!({"stdin": "aGVsbG8K"})] {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    let first = socket.next().await.unwrap().unwrap();
    assert_eq!(first.to_text().unwrap().trim(), r#"{"stdout":"aGVsbG8K"}"#);
    own(&world, "alpha", "bob").await;
    let told = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it ends").unwrap().unwrap();
    assert!(told.to_text().unwrap().contains("you may no longer be in this container"), "{told}");
    let closed = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it is closed");
    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(frame.code), 1011);
}

#[tokio::test]
async fn nothing_is_uploaded_to_a_full_disk() {
    let (world, ann) = kitchen().await;
    let upload = async || ann.post("/api/v1/teams/alpha/artifacts").body(vec![0; 1024]).send().await.unwrap();
    assert_eq!(upload().await.status(), 201);
    world.app().hold.set(Some("Low disk space: make room".to_owned()));
    let answer = upload().await;
    assert_eq!(answer.status(), 503);
    let text = answer.text().await.unwrap();
    assert!(text.contains("nothing can be uploaded now: Low disk space: make room"), "{text}");
}

#[tokio::test]
async fn a_webhook_says_nothing_of_an_archived_pipeline_without_its_token() {
    let (world, ann) = kitchen().await;
    let file =
        "resources: [{name: r, type: mock, source: {}, webhook_token: hook}]\njobs: [{name: j, plan: [{get: r}]}]";
    ann.set_pipeline("alpha", "old", file).await;
    assert_eq!(ann.put("/api/v1/teams/alpha/pipelines/old/archive").send().await.unwrap().status(), 200);
    let nobody = world.anonymous();
    let call = async |pipeline: &str, token: &str| {
        let path = format!("/api/v1/teams/alpha/pipelines/{pipeline}/resources/r/check/webhook?webhook_token={token}");
        let answer = nobody.post(&path).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(call("old", "wrong").await, call("absent", "wrong").await);
    assert_eq!(call("old", "wrong").await.0, 401);
}
