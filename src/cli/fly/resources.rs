//! `resources`.

use reqwest::Method;
use serde_json::Value;

use super::client::ApiError;
use super::console::Style;
use super::failure::Outcome;
use super::reference::PipelineRef;
use super::shapes::{Resource, present_version};
use super::table::{Cell, Table};
use super::{Fly, printed};

/// Arguments of `resources`.
#[derive(Debug, Clone, clap::Args)]
pub struct Resources {
    /// Get resources in this pipeline
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl Resources {
    /// Lists them with their pins and how their last check went.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let answer: Value = team.on_pipeline(Method::GET, &self.pipeline, &["resources"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::RESOURCE, &answer);
        }
        let resources: Option<Vec<Resource>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        let mut table = Table::new(["name", "type", "pinned", "check status"]);
        for resource in resources.unwrap_or_default() {
            let pinned = resource.pinned_version.as_ref().map(present_version).unwrap_or_default();
            let status = match &resource.build {
                Some(build) => Cell::status(&build.status),
                None => Cell::styled("n/a", Style::Faint),
            };
            table.push(vec![Cell::from(resource.name), Cell::from(resource.kind), Cell::or(pinned, "n/a"), status]);
        }
        fly.table(&table)
    }
}
