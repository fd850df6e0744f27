//! What was begun ends, and is written down, whatever becomes of who asked or of the handler.

use axum::body::Body;
use axum::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;
use whistlestop::auth::Action;
use whistlestop::front::{Answer, Routes};
use whistlestop::store::audit::{AuditEntry, AuditQuery};

use super::pipelines::kitchen;
use crate::world::World;

async fn rows(world: &World, action: &str) -> Vec<AuditEntry> {
    let wanted = AuditQuery { action: Some(action.to_owned()), limit: 9, ..AuditQuery::default() };
    world.app().store.read(move |tx| tx.audit_entries(&wanted)).await.unwrap()
}

/// The first row of an action that comes.
async fn row(world: &World, action: &str) -> AuditEntry {
    for _ in 0..3000 {
        if let Some(row) = rows(world, action).await.pop() {
            return row;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{action} left no row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_leaves_its_row_though_nobody_waits_for_the_answer() {
    let (world, ann) = kitchen().await;
    let token = ann.token.clone().unwrap();
    // As long as this goes on nothing is written: the request gets no further than to its change.
    let (held, holding) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let store = world.app().store.clone();
    let hold = tokio::spawn(async move {
        store
            .write(move |_| {
                held.send(()).unwrap();
                released.recv().unwrap();
                Ok(())
            })
            .await
    });
    holding.await.unwrap();
    let address = world.url("").replace("http://", "");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let body = r#"{"name":"galley"}"#;
    let request = format!(
        "PUT /api/v1/teams/alpha/pipelines/kitchen/rename HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    // The handler has begun once it asks for the body; a request that has not may be dropped, with nothing done.
    let mut asked = [0; 25];
    socket.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(body.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    // The server closes its end too, and has forgotten the request as far as the connection goes.
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    release.send(()).unwrap();
    hold.await.unwrap().unwrap();
    let row = row(&world, "RenamePipeline").await;
    assert_eq!((row.user.as_str(), row.team.as_str(), row.status), ("ann", "alpha", 200));
    assert_eq!(ann.json("/api/v1/teams/alpha/pipelines/galley").await["name"], "galley");
}

async fn broken() -> Answer {
    panic!("on purpose")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_leaves_a_row_too() {
    let (world, ann) = kitchen().await;
    let routes = Routes::new(world.app().clone()).on(Action::PausePipeline, |_, _| broken());
    let request = Request::put("/api/v1/teams/alpha/pipelines/kitchen/pause")
        .header("authorization", format!("Bearer {}", ann.token.unwrap()))
        .body(Body::empty());
    let answer = routes.finish().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 500);
    let row = row(&world, "PausePipeline").await;
    assert_eq!((row.user.as_str(), row.team.as_str(), row.status), ("ann", "alpha", 500));
}
