//! `pipelines` and `paused-pipelines`.

use serde_json::Value;

use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::shapes::Pipeline;
use super::table::{Cell, Table};
use super::{Fly, go_time, printed};

/// Arguments of `pipelines`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    /// Show pipelines across all teams
    #[arg(short, long)]
    all: bool,
    /// Show archived pipelines
    #[arg(long)]
    include_archived: bool,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the team to which the pipelines belong, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `paused-pipelines`.
#[derive(Debug, Clone, clap::Args)]
pub struct Paused {
    /// Show pipelines across all teams
    #[arg(short, long)]
    all: bool,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    /// Lists them in the order the team gave them.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let pipelines = fetch(fly, self.all, self.team.as_deref()).await?;
        let shown = |p: &Pipeline| self.include_archived || !p.archived;
        let pipelines: Vec<_> = pipelines.into_iter().filter(|(_, p)| shown(p)).collect();
        if self.json {
            return fly.json_of(printed::PIPELINE, &pipelines.into_iter().map(|(raw, _)| raw).collect());
        }
        let mut headers = vec!["id", "name"];
        headers.extend(self.all.then_some("team"));
        headers.extend(["paused", "public"]);
        headers.extend(self.include_archived.then_some("archived"));
        headers.push("last updated");
        let mut table = Table::new(headers);
        for (_, p) in pipelines {
            let mut row = vec![Cell::from(p.id), Cell::from(p.reference().to_string())];
            row.extend(self.all.then(|| Cell::from(p.team_name.as_str())));
            row.extend([Cell::yes_no(p.paused), Cell::yes_no(p.public)]);
            row.extend(self.include_archived.then(|| Cell::yes_no(p.archived)));
            row.push(Cell::from(go_time(p.last_updated)));
            table.push(row);
        }
        fly.table(&table)
    }
}

impl Paused {
    /// Lists those that stand still.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let pipelines = fetch(fly, self.all, None).await?;
        let pipelines: Vec<_> = pipelines.into_iter().filter(|(_, p)| p.paused).collect();
        if self.json {
            return fly.json_of(printed::PIPELINE, &pipelines.into_iter().map(|(raw, _)| raw).collect());
        }
        let mut headers = vec!["id", "name"];
        headers.extend(self.all.then_some("team"));
        headers.extend(["paused", "paused_by", "paused_at"]);
        let mut table = Table::new(headers);
        for (_, p) in pipelines {
            let mut row = vec![Cell::from(p.id), Cell::from(p.reference().to_string())];
            row.extend(self.all.then(|| Cell::from(p.team_name.as_str())));
            row.extend(["yes".into(), Cell::or(p.paused_by.as_str(), "n/a"), Cell::or(go_time(p.paused_at), "n/a")]);
            table.push(row);
        }
        fly.table(&table)
    }
}

async fn fetch(fly: &Fly, all: bool, team: Option<&str>) -> Result<Vec<(Value, Pipeline)>, Failure> {
    let session = fly.session().await?;
    if all && team.is_some() {
        return Err(Failure::said("Cannot specify both --all and --team"));
    }
    let team = session.team(team).await?;
    let call = if all { session.client.get(&["pipelines"]) } else { team.call(reqwest::Method::GET, &["pipelines"]) };
    let raw: Option<Vec<Value>> = call.fetch().await?;
    let read = |raw: Value| Ok((raw.clone(), serde_json::from_value(raw).map_err(ApiError::from)?));
    raw.unwrap_or_default().into_iter().map(read).collect()
}
