//! Secrets: where they come from, what it costs, and that they never leave.

mod canary;
mod leak;
mod local;
pub mod moto;
mod platform;
mod ssm;
mod team_user;
mod vault;

use std::io::Write;
use std::process::{Command, Stdio};

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

/// The program under test.
pub const OWN: &str = env!("CARGO_BIN_EXE_whistlestop");

/// The home directory of somebody who is logged in as target `cd-main`.
pub struct Home(tempfile::TempDir);

impl Home {
    /// The administrator's.
    pub fn of(bench: &Bench) -> Home {
        let home = tempfile::tempdir().unwrap();
        let token = json!({"type": "bearer", "value": bench.admin.token});
        let target = json!({"api": bench.world.url(""), "team": "main", "token": token});
        std::fs::write(home.path().join(".flyrc"), json!({"targets": {"cd-main": target}}).to_string()).unwrap();
        Home(home)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    /// Runs a program; its exit code and all it printed.
    pub fn run(&self, program: &str, args: &[&str], stdin: Option<&str>) -> (Option<i32>, String) {
        let mut command = Command::new(program);
        command.args(args).env("HOME", self.path()).env_remove("FLY_HOME");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::block_in_place(|| {
            let mut child = command.spawn().unwrap();
            // Some mistakes end it before it has read anything.
            drop(child.stdin.take().unwrap().write_all(stdin.unwrap_or_default().as_bytes()));
            child.wait_with_output().unwrap()
        });
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// Presses a button of a page as the administrator's browser; `c` stands for its token for forms.
pub async fn press(bench: &Bench, path: &str, token: &str, form: &[(&str, &str)]) -> u16 {
    let session = bench.admin.token.as_deref().unwrap();
    let cookies = format!("skymarshal_auth=\"bearer {session}\"");
    let own = whistlestop::front::csrf_of(session);
    let token = if token == "c" { &own } else { token };
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form: Vec<(&str, &str)> = form.iter().copied().chain([("csrf_token", token)]).collect();
    let request = client.post(bench.world.url(path)).header("cookie", cookies).header("accept", "text/html");
    request.form(&form).send().await.unwrap().status().as_u16()
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
