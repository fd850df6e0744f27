//! What concerns the whole installation, and containers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use whistlestop::base::clock::Time;
use whistlestop::front::Routes;
use whistlestop::runtime::fake::Fake;
use whistlestop::runtime::{ContainerHandle, ContainerSpec, Image, Limits, Process, Runtime};
use whistlestop::store::audit::AuditQuery;
use whistlestop::store::container::Container;

use super::pipelines::kitchen;
use crate::world::World;

#[tokio::test]
async fn no_action_is_forgotten() {
    let world = World::new().await;
    let routes = whistlestop::api::routes(Routes::new(world.app().clone()));
    assert_eq!(routes.missing(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_wall_says_what_it_was_told_until_it_ends() {
    let world = World::new().await;
    let admin = world.admin().await;
    assert_eq!(admin.json("/api/v1/wall").await, json!({}));
    let set = admin.put("/api/v1/wall").json(&json!({"message": "x", "TTL": 60_000_000_000_i64})).send().await.unwrap();
    assert_eq!(set.status(), 200);
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(world.anonymous().json("/api/v1/wall").await, json!({"message": "x", "TTL": 40_000_000_000_i64}));
    world.clock.advance(Duration::from_secs(40));
    assert_eq!(admin.json("/api/v1/wall").await, json!({}));
}

#[tokio::test]
async fn health_users_workers_and_log_level() {
    let world = World::new().await;
    let admin = world.admin().await;
    let health = world.anonymous().json("/api/v1/health").await;
    assert_eq!((&health["status"], &health["timestamp"]), (&json!("ok"), &json!("2026-11-22T12:00:00Z")));
    let users = admin.json("/api/v1/users?since=2026-11-22").await;
    assert_eq!((&users[0]["username"], &users[0]["connector"]), (&json!("admin"), &json!("local")));
    assert_eq!(admin.json("/api/v1/users?since=2026-11-23").await, json!([]));
    assert_eq!(admin.get("/api/v1/users?since=zz").await.status(), 400);
    let worker = &admin.json("/api/v1/workers").await[0];
    assert_eq!((&worker["state"], &worker["platform"]), (&json!("running"), &json!("linux")));
    assert_eq!(world.sign_in("eve").await.get("/api/v1/workers").await.status(), 403);
    assert_eq!(admin.put("/api/v1/log-level").body("=!=").send().await.unwrap().status(), 400);
    assert_eq!(admin.put("/api/v1/log-level").body("warn").send().await.unwrap().status(), 200);
    assert_eq!(admin.get("/api/v1/log-level").await.text().await.unwrap(), "warn");
}

#[tokio::test]
async fn the_client_is_this_program() {
    let world = World::new().await;
    let anybody = world.anonymous();
    assert_eq!(anybody.get("/api/v1/cli").await.status(), 400);
    assert_eq!(anybody.get("/api/v1/cli?platform=plan9&arch=mips").await.status(), 404);
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let answer = anybody.get(&format!("/api/v1/cli?platform=linux&arch={arch}")).await;
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=fly");
    let length: u64 = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, std::fs::metadata("/proc/self/exe").unwrap().len());
}

/// A container of a task, as the engine would have made it.
pub async fn container(world: &World, runtime: &Fake, handle: &str, kind: &str) {
    let row = Container {
        handle: handle.to_owned(),
        team_id: world.app().store.read(|tx| Ok(tx.find_team("alpha")?.unwrap().id)).await.unwrap(),
        build_id: None,
        plan_id: "1".into(),
        kind: kind.to_owned(),
        step_name: "test".into(),
        attempt: String::new(),
        user: String::new(),
        working_directory: "/tmp/build/x".into(),
        created_at: Time(0),
        hijacked_until: Time(0),
        resource_id: None,
    };
    world.app().store.write(move |tx| tx.insert_container(&row)).await.unwrap();
    let spec = ContainerSpec {
        team: "alpha".into(),
        labels: Default::default(),
        image: Image::Host,
        privileged: false,
        hermetic: false,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: Process::default(),
    };
    runtime.start(&ContainerHandle(handle.to_owned()), &spec).await.unwrap();
}

#[tokio::test]
async fn a_step_beside_the_engine_is_asked_where_it_ran() {
    let natives = Arc::new(Fake::new());
    let world = World::beside(natives.clone()).await;
    world.team("alpha", "ann").await;
    let token = world.sign_in("ann").await.token.unwrap();
    container(&world, &natives, "c1", "get").await;
    let spec = json!({"path": "cat", "args": [], "tty": null});
    let heard = hijack(&world, &token, "c1", &[spec, json!({"stdin": "aGVsbG8K"}), json!({"closed": true})]).await;
    assert_eq!(heard[..2], [json!({"stdout": "aGVsbG8K"}), json!({"exit_status": 0})]);
}

#[tokio::test]
async fn who_types_nothing_for_long_is_let_go() {
    let world = World::with(&["--intercept-idle-timeout", "50ms"]).await;
    world.team("alpha", "ann").await;
    let token = world.sign_in("ann").await.token.unwrap();
    container(&world, &world.runtime, "c1", "task").await;
    let heard = hijack(&world, &token, "c1", &[json!({"path": "cat", "args": [], "tty": null})]).await;
    assert_eq!(heard[0], json!({"error": "idle timeout (50ms) reached\n"}));
}

async fn hijack(world: &World, token: &str, handle: &str, messages: &[Value]) -> Vec<Value> {
    let path = world.url(&format!("/api/v1/teams/alpha/containers/{handle}/hijack")).replace("http://", "ws://");
    let mut request = path.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    for message in messages {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    let mut heard = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => heard.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => heard.push(json!({"close": frame.map(|f| u16::from(f.code))})),
            _ => {}
        }
    }
    heard
}

#[tokio::test]
async fn a_container_is_entered_over_a_websocket() {
    let (world, ann) = kitchen().await;
    container(&world, &world.runtime, "c1", "task").await;
    container(&world, &world.runtime, "c2", "check").await;
    let token = ann.token.clone().unwrap();
    let spec = json!({"path": "cat", "args": [], "tty": null});
    let heard = hijack(&world, &token, "c1", &[spec, json!({"stdin": "aGVsbG8K"}), json!({"closed": true})]).await;
    assert_eq!(heard[..2], [json!({"stdout": "aGVsbG8K"}), json!({"exit_status": 0})]);
    let heard = hijack(&world, &token, "c1", &[json!({"path": "no-such"})]).await;
    assert_eq!(heard[0], json!({"executable_not_found": true}));
    let heard = hijack(&world, &token, "c1", &[json!(3)]).await;
    assert_eq!(heard[0], json!({"close": 1003}));

    let entered = AuditQuery { action: Some("HijackContainer".into()), limit: 9, ..AuditQuery::default() };
    let rows = world.app().store.read(move |tx| tx.audit_entries(&entered)).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|r| (r.user.as_str(), r.object.as_str(), r.status)).collect();
    assert_eq!(rows, [("ann", "id c1", 101); 3], "who entered is written down");

    let path = |id: &str| format!("/api/v1/teams/alpha/containers/{id}/hijack");
    assert_eq!(ann.get(&path("c1")).await.status(), 400);
    assert_eq!(ann.get(&path("c2")).await.status(), 403, "a check's container is the administrator's");
    assert_eq!(ann.get(&path("c3")).await.status(), 404);
    let listed = ann.json("/api/v1/teams/alpha/containers?type=task").await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["expires_in"]), (1, &json!("5m0s")));
    assert_eq!(ann.json("/api/v1/teams/alpha/containers?step_name=zz").await, json!([]));
    assert_eq!(ann.json("/api/v1/teams/alpha/containers/c1").await["working_directory"], "/tmp/build/x");
}
