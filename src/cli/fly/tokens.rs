//! `service-accounts`, `sessions`, `audit` and their changes: what this server has and Concourse has not.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Found;
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::table::{Cell, Table};
use super::{Fly, go_time};

/// Arguments of `service-accounts`.
#[derive(Debug, Clone, clap::Args)]
pub struct Accounts {
    /// Name of the team, if different from the target's
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Accounts {
    /// Lists the team's service accounts.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = self.team.unwrap_or_else(|| session.target.team.clone());
        let answer: Value = session.client.get(&["teams", &team, "service-accounts"]).fetch().await?;
        if self.json {
            return fly.json(&answer);
        }
        let mut table = Table::new(["name", "role", "made by", "last used", "expires"]);
        for account in answer.as_array().into_iter().flatten() {
            let text = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
            let time = |name: &str| go_time(account[name].as_i64().unwrap_or_default());
            table.push(vec![
                Cell::from(text("name")),
                Cell::from(text("role")),
                Cell::from(text("created_by")),
                Cell::or(time("last_used_at"), "never"),
                Cell::from(time("expires_at")),
            ]);
        }
        fly.table(&table)
    }
}

/// Arguments of `create-service-account`.
#[derive(Debug, Clone, clap::Args)]
pub struct Create {
    /// Its name
    #[arg(short = 'n', long, value_name = "NAME")]
    name: String,
    /// What it may do in the team: viewer, pipeline-operator, member or owner
    #[arg(short, long, value_name = "ROLE", default_value = "member")]
    role: String,
    /// How long it is good
    #[arg(long, value_name = "DURATION", default_value = "2160h")]
    expires_in: String,
    /// Name of the team, if different from the target's
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

impl Create {
    /// Makes it and prints its token: alone on standard output, so that a script can keep it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = self.team.unwrap_or_else(|| session.target.team.clone());
        let wanted = json!({"name": self.name, "role": self.role, "expires_in": self.expires_in});
        let call = session.client.call(Method::POST, &["teams", &team, "service-accounts"]);
        let made: Value = call.json(&wanted).fetch().await?;
        fly.console.tell(fly.console.paint(Style::Faint, "this token is shown once; send it as a bearer token"))?;
        fly.say(made["token"].as_str().unwrap_or_default())
    }
}

/// Arguments of `remove-service-account`.
#[derive(Debug, Clone, clap::Args)]
pub struct Remove {
    /// Its name
    #[arg(short = 'n', long, value_name = "NAME")]
    name: String,
    /// Name of the team, if different from the target's
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

impl Remove {
    /// Removes it; its token is worthless from then on.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = self.team.unwrap_or_else(|| session.target.team.clone());
        let path = ["teams", &team, "service-accounts", &self.name];
        let gone = session.client.call(Method::DELETE, &path).done().await.found()?;
        match gone {
            Some(()) => fly.say(format!("removed {}", self.name)),
            None => Err(Failure::said(format!("there is no service account '{}' in team '{team}'", self.name))),
        }
    }
}

/// Arguments of `sessions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Sessions {
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Sessions {
    /// Lists where one is logged in.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.client.get(&["user", "sessions"]).fetch().await?;
        if self.json {
            return fly.json(&answer);
        }
        let mut table = Table::new(["id", "kind", "since", "last used", "from", "expires", "this one"]);
        for found in answer.as_array().into_iter().flatten() {
            let time = |name: &str| Cell::from(go_time(found[name].as_i64().unwrap_or_default()));
            table.push(vec![
                Cell::from(found["id"].as_i64().unwrap_or_default()),
                Cell::from(found["kind"].as_str().unwrap_or_default()),
                time("created_at"),
                time("last_used_at"),
                Cell::from(found["address"].as_str().unwrap_or_default()),
                time("expires_at"),
                Cell::yes_no(found["current"].as_bool().unwrap_or_default()),
            ]);
        }
        fly.table(&table)
    }
}

/// Arguments of `end-session`.
#[derive(Debug, Clone, clap::Args)]
pub struct End {
    /// Its number, as `sessions` shows it
    #[arg(short, long, value_name = "ID")]
    id: i64,
}

impl End {
    /// Ends one login.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let id = self.id.to_string();
        let ended = session.client.call(Method::DELETE, &["user", "sessions", &id]).done().await.found()?;
        match ended {
            Some(()) => fly.say(format!("ended {id}")),
            None => Err(Failure::said(format!("you have no session {id}; see `sessions`"))),
        }
    }
}

/// Arguments of `audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct Audit {
    /// Name of the team, if different from the target's
    #[arg(long, value_name = "TEAM", conflicts_with = "all")]
    team: Option<String>,
    /// Of the whole server, for administrators
    #[arg(long)]
    all: bool,
    /// Only what this user did
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only this action, such as SetTeam
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// At most so many rows
    #[arg(short, long, value_name = "COUNT", default_value_t = 50)]
    count: u32,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    /// Lists who did what, newest first.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = self.team.unwrap_or_else(|| session.target.team.clone());
        let path: Vec<&str> = if self.all { vec!["audit"] } else { vec!["teams", &team, "audit"] };
        let mut call = session.client.get(&path).query("limit", &self.count.to_string());
        for (name, value) in [("user", &self.user), ("action", &self.action)] {
            if let Some(value) = value {
                call = call.query(name, value);
            }
        }
        let answer: Value = call.fetch().await?;
        if self.json {
            return fly.json(&answer);
        }
        let mut table = Table::new(["when", "user", "from", "action", "team", "object", "outcome"]);
        for row in answer.as_array().into_iter().flatten() {
            let text = |name: &str| Cell::from(row[name].as_str().unwrap_or_default());
            let when = go_time(row["at"].as_i64().unwrap_or_default() / 1000);
            let cells = ["user", "address", "action", "team", "object", "outcome"].map(text);
            table.push([Cell::from(when)].into_iter().chain(cells).collect());
        }
        fly.table(&table)
    }
}
