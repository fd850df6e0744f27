//! `get-components`: the periodic work of the server.

use std::time::Duration;

use serde_json::Value;

use super::failure::Outcome;
use super::table::{Cell, Table};
use super::{Fly, local};
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
        let answer: Value = session.client.get(&["components"]).fetch().await?;
        if self.json {
            return fly.json(&answer);
        }
        let mut table = Table::new(["name", "interval", "last ran", "paused"]);
        for component in answer.as_array().into_iter().flatten() {
            let interval = Duration::from_nanos(component["interval"].as_u64().unwrap_or(0));
            table.push(vec![
                Cell::from(component["name"].as_str().unwrap_or_default()),
                Cell::from(duration::format(interval)),
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
