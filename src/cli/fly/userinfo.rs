//! `userinfo` and `active-users`: who one is, and who else was here.

use serde::Deserialize;
use serde_json::Value;

use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::shapes::UserInfo;
use super::table::{Cell, Table};
use super::{Fly, local, printed};

/// Arguments of `userinfo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Userinfo {
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Userinfo {
    /// Prints the name and the roles.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.client.get(&["user"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::USER_INFO, &answer);
        }
        let user: UserInfo = serde_json::from_value(answer).map_err(ApiError::from)?;
        let teams = user.teams.unwrap_or_default();
        let mut roles: Vec<String> =
            teams.iter().flat_map(|(team, roles)| roles.iter().map(move |role| format!("{team}/{role}"))).collect();
        roles.sort();
        let mut table = Table::new(["username", "team/role"]);
        table.push(vec![Cell::from(user.display_user_id), Cell::from(roles.join(","))]);
        fly.table(&table)
    }
}

/// Arguments of `active-users`.
#[derive(Debug, Clone, clap::Args)]
pub struct ActiveUsers {
    /// Start date range of users' last login, defaults to 2 months from today's date (yyyy-mm-dd)
    #[arg(long)]
    since: Option<String>,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct User {
    username: String,
    connector: String,
    last_login: i64,
}

impl ActiveUsers {
    /// Lists who logged in since then.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let today = fly.now().date();
        let since = match self.since.as_deref().filter(|s| !s.is_empty()) {
            None => today.saturating_sub(jiff::Span::new().months(2)),
            Some(text) => text
                .parse::<jiff::civil::Date>()
                .map_err(|_| Failure::said("since time should be in the format: yyyy-mm-dd"))?,
        };
        if since > today {
            return Err(Failure::said("since time can't be in the future"));
        }
        let call = session.client.get(&["users"]).query("since", &since.to_string());
        let answer: Value = call.header("content-type", "application/json").fetch().await?;
        if self.json {
            return fly.json_of(printed::USER, &answer);
        }
        let users: Option<Vec<User>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        let mut table = Table::new(["username", "connector", "last login"]);
        for user in users.unwrap_or_default() {
            let day = local(user.last_login).strftime("%Y-%m-%d").to_string();
            table.push(vec![Cell::from(user.username), Cell::from(user.connector), Cell::from(day)]);
        }
        fly.table(&table)
    }
}
