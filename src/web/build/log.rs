//! A build's stored log: folded into the tree for a page, or as plain text.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_util::stream;
use serde_json::{Value, json};

use super::tree::Tree;
use crate::base::error::Error;
use crate::base::id::BuildId;
use crate::front::{Answer, App, Call, Failure, Permit};
use crate::plan;
use crate::store::Store;
use crate::store::build::Build;

/// The tree of a build after its events before number `until`, or after all that are stored.
pub async fn read(app: &App, build: &Build, plan: &Value, until: Option<i64>) -> Result<Tree, Failure> {
    let mut tree = Tree::new(plan);
    let wanted = |number: i64| until.is_none_or(|u| number < u);
    if let Some(at) = build.started_at.filter(|_| wanted(0)) {
        tree.apply(&status("started", at.unix()));
    }
    let mut from = 0;
    while let Some(chunk) = app.store.log_chunk(build.id, from).await? {
        for (number, line) in (chunk.first_event..).zip(chunk.text.split(|b| *b == b'\n')) {
            // Numbers on the wire are one higher: `started` comes first.
            if !wanted(number + 1) {
                return Ok(tree);
            }
            if number >= from {
                tree.apply(&serde_json::from_slice(line).map_err(Error::internal)?);
            }
        }
        from = chunk.first_event + chunk.events;
    }
    if let Some(at) = build.ended_at.filter(|_| build.status.is_over() && wanted(tree.next_event)) {
        tree.apply(&status(build.status.as_str(), at.unix()));
    }
    Ok(tree)
}

fn status(word: &str, time: i64) -> Value {
    json!({"event": "status", "data": {"status": word, "time": time}})
}

/// `GET /builds/{build_id}/log.txt`: what every step printed, in the order it came.
pub async fn raw(permit: Permit, call: Call) -> Answer {
    let build = permit.build()?;
    let plan = call.app.store.read(move |tx| tx.build_public_plan(build)).await?;
    let plan = plan.and_then(|text| plan::stored(&text).ok()).unwrap_or(Value::Null);
    let text = Text { store: call.app.store.clone(), build, from: 0, tree: Tree::new(&plan), last: String::new() };
    let pieces = stream::unfold(text, |mut text| async move { text.next().await.map(|piece| (piece, text)) });
    let mut response = Response::new(Body::from_stream(pieces));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The log as text, a chunk at a time.
struct Text {
    store: Store,
    build: BuildId,
    from: i64,
    tree: Tree,
    /// The step that printed last.
    last: String,
}

impl Text {
    async fn next(&mut self) -> Option<Result<Bytes, crate::store::Error>> {
        let chunk = match self.store.log_chunk(self.build, self.from).await {
            Ok(chunk) => chunk?,
            Err(e) => return Some(Err(e)),
        };
        let mut out = String::new();
        for (number, line) in (chunk.first_event..).zip(chunk.text.split(|b| *b == b'\n')) {
            if number >= self.from {
                self.add(&serde_json::from_slice(line).unwrap_or(Value::Null), &mut out);
            }
        }
        self.from = chunk.first_event + chunk.events;
        Some(Ok(Bytes::from(out)))
    }

    fn add(&mut self, event: &Value, out: &mut String) {
        let data = &event["data"];
        let text = match event["event"].as_str() {
            Some("log") => data["payload"].as_str().unwrap_or(""),
            Some("error") => data["message"].as_str().unwrap_or(""),
            _ => {
                // Steps that arrive while the build runs have names too.
                self.tree.apply(event);
                return;
            }
        };
        let id = data["origin"]["id"].as_str().unwrap_or("");
        if id != self.last {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            if let Some(step) = self.tree.steps().iter().find(|s| s.id == id) {
                out.push_str(&format!("== {} {}\n", step.kind, step.name));
            }
            id.clone_into(&mut self.last);
        }
        out.push_str(&text.replace("\r\n", "\n"));
    }
}
