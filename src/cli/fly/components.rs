//! `get-components`, `pause-component` and `unpause-component`: the periodic work of the server.

use std::time::Duration;

use serde_json::Value;

use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::table::{Cell, Table};
use super::{Fly, local, printed};
use crate::base::duration;

/// Arguments of `get-components`.
#[derive(Debug, Clone, clap::Args)]
pub struct Get {
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Get {
    /// Lists it by name.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.client.get(&["components"]).fetch().await.map_err(refused)?;
        if self.json {
            return fly.json_of(printed::COMPONENT, &answer);
        }
        let mut table = Table::new(["name", "interval", "last ran", "paused"]);
        for component in answer.as_array().into_iter().flatten() {
            let interval = Duration::from_nanos(component["interval"].as_u64().unwrap_or(0));
            table.push(vec![
                Cell::from(component["name"].as_str().unwrap_or_default()),
                Cell::from(duration::exact(interval)),
                Cell::from(last_ran(&component["last_ran"])),
                Cell::from(component["paused"].as_bool().unwrap_or(false).to_string()),
            ]);
        }
        table.sort();
        fly.table(&table)
    }
}

/// A time given in seconds or as text.
fn last_ran(value: &Value) -> String {
    let unix = match value {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second),
        other => other.as_i64(),
    };
    unix.map_or_else(|| "n/a".to_owned(), |unix| local(unix).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// What starts and runs builds.
const RUNTIME: [&str; 3] = ["tracker", "scanner", "scheduler"];
/// What removes what is not needed any more.
const COLLECTORS: [&str; 14] = [
    "reaper",
    "collector_artifacts",
    "collector_builds",
    "collector_check_sessions",
    "collector_checks",
    "collector_containers",
    "collector_resource_cache_uses",
    "collector_resource_caches",
    "collector_task_caches",
    "collector_resource_configs",
    "collector_volumes",
    "collector_workers",
    "collector_pipelines",
    "pipeline_pauser",
];

/// Arguments of `pause-component`.
#[derive(Debug, Clone, clap::Args)]
pub struct Pause {
    /// Pauses all components
    #[arg(short, long)]
    all: bool,
    /// Name of the component(s) to pause. Can specify multiple times to pause multiple components
    #[arg(short, long)]
    name: Vec<String>,
    /// Pauses all components related to starting and running pipelines
    #[arg(long)]
    runtime_components: bool,
    /// Pauses all components related to removing what is not needed any more
    #[arg(long)]
    gc_components: bool,
}

/// Arguments of `unpause-component`.
#[derive(Debug, Clone, clap::Args)]
pub struct Unpause {
    /// Unpauses all components
    #[arg(short, long)]
    all: bool,
    /// Name of the component(s) to unpause. Can specify multiple times to unpause multiple components
    #[arg(short, long)]
    name: Vec<String>,
    /// Unpauses all components related to starting and running pipelines
    #[arg(long)]
    runtime_components: bool,
    /// Unpauses all components related to removing what is not needed any more
    #[arg(long)]
    gc_components: bool,
}

impl Pause {
    /// Pauses them.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let names = named(self.name, self.runtime_components, self.gc_components);
        change(fly, "pause", self.all, &names).await
    }
}

impl Unpause {
    /// Lets them go on.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let names = named(self.name, self.runtime_components, self.gc_components);
        change(fly, "unpause", self.all, &names).await
    }
}

fn named(mut names: Vec<String>, runtime: bool, collectors: bool) -> Vec<String> {
    if runtime {
        names.extend(RUNTIME.map(str::to_owned));
    }
    if collectors {
        names.extend(COLLECTORS.map(str::to_owned));
    }
    names
}

fn refused(error: ApiError) -> Failure {
    match error {
        ApiError::Forbidden(_) => Failure::said("must be an owner of the 'main' team to interact with components"),
        e => e.into(),
    }
}

async fn change(fly: &Fly, verb: &str, all: bool, names: &[String]) -> Outcome {
    let session = fly.session().await?;
    if all {
        session.client.put(&["components", verb]).done().await.map_err(refused)?;
        return fly.say(format!("all components {verb}d"));
    }
    if names.is_empty() {
        return Err(Failure::said("--name or --all must be provided"));
    }
    for name in names {
        session.client.put(&["components", name, verb]).done().await.map_err(|e| match e {
            ApiError::NotFound(_) => Failure::said(format!("component '{name}' not found")).see("get-components"),
            e => refused(e),
        })?;
        fly.say(format!("{verb}d '{name}'"))?;
    }
    Ok(0)
}
