//! What a pipeline means, from its file to its builds, on a runtime whose processes are words.

mod chain;
mod dynamic;
mod going_on;
mod hooks;
mod keeping;
mod operator;
mod steps;
mod variables;

use serde_json::{Value, json};

use crate::world::{Caller, WHOLE, World};

/// A whole server with a way to set pipelines and to run their jobs to the end.
pub struct Bench {
    /// The server.
    pub world: World,
    /// Its administrator.
    pub admin: Caller,
}

/// How a build ended and what ran in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// `succeeded`, …
    pub status: String,
    /// The tasks whose processes were started, in order.
    pub ran: Vec<String>,
}

/// A task that does what the words say (see `runtime::fake`).
pub fn task(name: &str, words: &[&str]) -> Value {
    json!({"task": name, "config": {"platform": "linux", "rootfs_uri": "host:///", "run": {"path": "do", "args": words}}})
}

impl Bench {
    /// Nothing is set yet. Native gets answer version 1.
    pub async fn new() -> Bench {
        let world = World::with(WHOLE).await;
        world.runtime.script("whistlestop", &[r#"answer:{"version":{"version":"1"}}"#]);
        let admin = world.admin().await;
        Bench { world, admin }
    }

    /// Sets the pipeline `p` and lets it go.
    pub async fn set(&self, pipeline: Value) {
        self.admin.set_pipeline("main", "p", &pipeline.to_string()).await;
        let answer = self.admin.put("/api/v1/teams/main/pipelines/p/unpause").send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// One job with this plan, hooks and all.
    pub async fn job(&self, job: Value) {
        self.set(json!({"jobs": [job]})).await;
    }

    /// Triggers a job and gives the build's id.
    pub async fn trigger(&self, job: &str) -> i64 {
        let path = format!("/api/v1/teams/main/pipelines/p/jobs/{job}/builds");
        let answer = self.admin.post(&path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap()
    }

    /// Triggers a job and waits for the build's end.
    pub async fn run(&self, job: &str) -> Ended {
        let id = self.trigger(job).await;
        self.ended(id).await
    }

    /// Waits for a build's end.
    pub async fn ended(&self, id: i64) -> Ended {
        let events = self.events(id).await;
        let status = events.last().map(|e| e["data"]["status"].as_str().unwrap_or_default().to_owned());
        let prefix = format!("b{id}-");
        let started = self.world.runtime.started();
        let ran = started.iter().filter(|(handle, _)| handle.0.starts_with(&prefix));
        Ended {
            status: status.unwrap_or_default(),
            ran: ran.filter_map(|(_, spec)| spec.labels.get("step").cloned()).collect(),
        }
    }

    /// All events of a build, to its end.
    pub async fn events(&self, id: i64) -> Vec<Value> {
        let mut follower = self.world.app().feed.follow(whistlestop::base::id::BuildId(id), 0);
        let mut events = Vec::new();
        let all = async {
            while let Some(batch) = follower.next().await {
                events.extend(batch.frames.iter().map(|f| serde_json::from_slice::<Value>(&f.json()).unwrap()));
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("the build ends");
        events
    }

    /// Waits for a build's event of that name.
    pub async fn until(&self, id: i64, event: &str) {
        let mut follower = self.world.app().feed.follow(whistlestop::base::id::BuildId(id), 0);
        let found = async {
            while let Some(batch) = follower.next().await {
                let named = |f: &whistlestop::engine::feed::Frame| {
                    serde_json::from_slice::<Value>(&f.json()).unwrap()["event"] == event
                };
                if batch.frames.iter().any(named) {
                    return;
                }
            }
            panic!("the build ended without {event}");
        };
        tokio::time::timeout(std::time::Duration::from_secs(120), found).await.expect("the event comes");
    }

    /// A build of a job by name, once it is there.
    pub async fn build(&self, job: &str, name: &str) -> Value {
        let path = format!("/api/v1/teams/main/pipelines/p/jobs/{job}/builds/{name}");
        for _ in 0..20_000 {
            let answer = self.admin.get(&path).await;
            if answer.status() == 200 {
                return answer.json().await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{job} has no build {name}");
    }
}

/// What an end is expected to be.
pub fn end(status: &str, ran: &[&str]) -> Ended {
    Ended { status: status.to_owned(), ran: ran.iter().map(|r| (*r).to_owned()).collect() }
}
