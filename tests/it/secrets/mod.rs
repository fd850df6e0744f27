//! Secrets: where they come from, what it costs, and that they never leave.

mod canary;
mod leak;
mod local;
mod moto;
mod ssm;
mod vault;

use serde_json::{Value, json};

use crate::engine::Bench;
use crate::world::{Caller, WHOLE, World};

/// A whole server with these flags too.
pub async fn bench(flags: &[&str]) -> Bench {
    let world = World::with(&[WHOLE, flags].concat()).await;
    world.runtime.script("whistlestop", &[r#"answer:{"version":{"version":"1"}}"#]);
    let admin = world.admin().await;
    Bench { world, admin }
}

/// Sets a secret of team main, which must succeed.
pub async fn put(admin: &Caller, pipeline: &str, name: &str, value: &str) -> Value {
    let path = format!("/api/v1/teams/main/secrets?pipeline={pipeline}&name={name}");
    let answer = admin.put(&path).json(&json!({"value": value})).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A task that says what it was given.
pub fn task(name: &str, params: Value) -> Value {
    json!({"task": name, "config": {"platform": "linux", "rootfs_uri": "host:///", "params": params,
        "run": {"path": "do", "args": ["out:ran"]}}})
}

/// What a task's process had in its environment.
pub fn given(bench: &Bench, step: &str, name: &str) -> Option<String> {
    let started = bench.world.runtime.started();
    let mine = started.iter().rev().find(|(_, spec)| spec.labels.get("step").is_some_and(|s| s == step));
    let env = &mine?.1.process.env;
    env.iter().find_map(|p| p.strip_prefix(&format!("{name}=")).map(str::to_owned))
}

/// The texts of a build's error events, together.
pub fn errors(events: &[Value]) -> String {
    let errors = events.iter().filter(|e| e["event"] == "error");
    errors.map(|e| e["data"]["message"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Asks for the newest hundred rows of the audit trail, whoever's they are.
fn everything() -> whistlestop::store::audit::AuditQuery {
    whistlestop::store::audit::AuditQuery { team: None, user: None, action: None, before: None, limit: 100 }
}
