//! `containers`.

use reqwest::Method;
use serde_json::Value;

use super::client::ApiError;
use super::failure::Outcome;
use super::reference::PipelineRef;
use super::shapes::Container;
use super::table::{Cell, Table};
use super::{Fly, printed};

/// Arguments of `containers`.
#[derive(Debug, Clone, clap::Args)]
pub struct Containers {
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the team to which the containers belong, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl Containers {
    /// Lists the team's containers.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let answer: Value = team.call(Method::GET, &["containers"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::CONTAINER, &answer);
        }
        let containers: Option<Vec<Container>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        let mut table =
            Table::new(["handle", "worker", "pipeline", "job", "build #", "build id", "type", "name", "attempt"]);
        for c in containers.unwrap_or_default() {
            let pipeline = PipelineRef { name: c.pipeline_name, vars: c.pipeline_instance_vars };
            let id = if c.build_id == 0 { String::new() } else { c.build_id.to_string() };
            table.push(vec![
                Cell::from(c.id),
                Cell::from(c.worker_name),
                Cell::or_none(pipeline.to_string()),
                Cell::or_none(c.job_name),
                Cell::or_none(c.build_name),
                Cell::or_none(id),
                Cell::from(c.kind),
                Cell::or_none(format!("{}{}", c.step_name, c.resource_name)),
                Cell::or(c.attempt, "n/a"),
            ]);
        }
        table.sort();
        fly.table(&table)
    }
}
