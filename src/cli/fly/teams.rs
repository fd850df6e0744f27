//! `teams`, `get-team`, `rename-team`, `destroy-team`.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ApiError, Found};
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::shapes::{SaveAnswer, TeamInfo};
use super::table::{Cell, Table};
use super::{Fly, printed, prompt};

/// Arguments of `teams`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Print authentication configuration
    #[arg(short, long)]
    details: bool,
}

impl List {
    /// Lists the teams one may see.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.client.get(&["teams"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::TEAM, &answer);
        }
        let teams: Option<Vec<TeamInfo>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        let teams = teams.unwrap_or_default();
        if self.details {
            return fly.table(&roles(&teams));
        }
        let mut table = Table::new(["name"]);
        for team in teams {
            table.push(vec![Cell::from(team.name)]);
        }
        table.sort();
        fly.table(&table)
    }
}

/// Who has which role.
fn roles(teams: &[TeamInfo]) -> Table {
    let mut table = Table::new(["name/role", "users", "groups"]);
    for team in teams {
        for (role, auth) in &team.auth {
            let names = |kind: &str| auth.get(kind).map(|n| n.join(",")).unwrap_or_default();
            let (users, groups) = (names("users"), names("groups"));
            let users = match (users.is_empty(), groups.is_empty()) {
                (true, true) => Cell::styled("all", Style::Faint),
                _ => Cell::or_none(users),
            };
            table.push(vec![Cell::from(format!("{}/{role}", team.name)), users, Cell::or_none(groups)]);
        }
    }
    table.sort();
    table
}

/// Arguments of `get-team`.
#[derive(Debug, Clone, clap::Args)]
pub struct Get {
    /// Get configuration of this team
    #[arg(short = 'n', long, value_name = "TEAM")]
    team_name: String,
    /// Print command result as JSON
    #[arg(short, long)]
    json: bool,
}

impl Get {
    /// Shows one team.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let name = &self.team_name;
        let answer: Value = match session.client.get(&["teams", name]).fetch().await {
            Ok(answer) => answer,
            Err(ApiError::Forbidden(_)) => {
                return Err(Failure::said(format!("you do not have a role on team '{name}'")));
            }
            Err(ApiError::NotFound(_)) => {
                return Err(Failure::said(format!("team '{name}' does not exist")).see("teams"));
            }
            Err(e) => return Err(e.into()),
        };
        if self.json {
            return fly.json_of(printed::TEAM, &answer);
        }
        let team: TeamInfo = serde_json::from_value(answer).map_err(ApiError::from)?;
        fly.table(&roles(&[team]))
    }
}

/// Arguments of `rename-team`.
#[derive(Debug, Clone, clap::Args)]
pub struct Rename {
    /// Current team name
    #[arg(short, long)]
    old_name: String,
    /// New team name
    #[arg(short, long)]
    new_name: String,
}

impl Rename {
    /// Gives a team another name.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let call = session.client.put(&["teams", &self.old_name, "rename"]).json(&json!({"name": self.new_name}));
        let Some(answer) = call.send().await?.success().found()? else {
            return Err(Failure::bare(format!("Team '{}' not found\n", self.old_name)).see("teams"));
        };
        let saved: SaveAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        fly.show_warnings(&saved.warnings)?;
        fly.say(format!("Team successfully renamed to {}", self.new_name))
    }
}

/// Arguments of `destroy-team`.
#[derive(Debug, Clone, clap::Args)]
pub struct Destroy {
    /// The team to delete
    #[arg(short = 'n', long, value_name = "TEAM")]
    team_name: String,
    /// Force apply configuration
    #[arg(long)]
    non_interactive: bool,
}

impl Destroy {
    /// Deletes a team once its name was typed.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let name = &self.team_name;
        fly.console.say(format!("!!! this will remove all data for team `{name}`\n"))?;
        if !self.non_interactive && prompt::line("please type the team name to confirm")? != *name {
            return Err(Failure::said("incorrect team name; bailing out"));
        }
        match session.client.call(Method::DELETE, &["teams", name]).done().await {
            // A refusal without a reason is this one.
            Err(ApiError::Forbidden(reason)) if reason.is_empty() => {
                let told = fly.console.paint(Style::Red, &format!("could not destroy `{name}`"));
                let why = "either your team is not an admin or it is the last admin team";
                fly.console.say(format!("\n{told}\n\n{why}"))?;
                Ok(1)
            }
            Err(error @ ApiError::NotFound(_)) => Err(Failure::from(error).see("teams")),
            done => {
                done?;
                fly.say(format!("\n`{name}` deleted"))
            }
        }
    }
}
