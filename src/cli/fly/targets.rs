//! `targets`, `edit-target`, `delete-target`: the list of what one can log in to.

use super::Fly;
use super::failure::{Failure, Outcome};
use super::table::{Cell, Table};
use super::target::{Target, Targets, Token};

/// Arguments of `targets`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {}

impl List {
    /// Lists them by name.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let mut table = Table::new(["name", "url", "team", "expiry"]);
        for (name, target) in Targets::load()?.saved {
            let expiry = expiry(&target);
            table.push(vec![Cell::from(name), Cell::from(target.api), Cell::from(target.team), Cell::from(expiry)]);
        }
        fly.table(&table)
    }
}

fn expiry(target: &Target) -> String {
    match target.token.as_ref().filter(|t| !t.is_empty()).map(Token::expiry) {
        None => "n/a".to_owned(),
        Some(None) => "n/a: invalid token".to_owned(),
        Some(Some(unix)) => {
            let at = jiff::Timestamp::from_second(unix).unwrap_or_default();
            at.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
        }
    }
}

/// Arguments of `delete-target`.
#[derive(Debug, Clone, clap::Args)]
pub struct Delete {
    /// Delete all targets
    #[arg(short, long)]
    all: bool,
}

impl Delete {
    /// Forgets one target, or all.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let name = fly.target_name()?;
        let mut targets = Targets::load()?;
        targets.get(name)?;
        if self.all {
            targets.saved.clear();
            targets.save()?;
            return fly.say("deleted all targets");
        }
        targets.saved.remove(name);
        targets.save()?;
        fly.say(format!("deleted target: {name}"))
    }
}

/// Arguments of `edit-target`.
#[derive(Debug, Clone, clap::Args)]
pub struct Edit {
    /// Update target name
    #[arg(long, value_name = "NAME")]
    target_name: Option<String>,
    /// Update concourse URL
    #[arg(short = 'u', long, value_name = "URL")]
    concourse_url: Option<String>,
    /// Update concourse team
    #[arg(short = 'n', long, value_name = "TEAM")]
    team_name: Option<String>,
}

impl Edit {
    /// Changes what was given; what is empty counts as not given.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let name = fly.target_name()?;
        let mut targets = Targets::load()?;
        let mut target = targets.get(name)?.clone();
        let given = |value: Option<String>| value.filter(|v| !v.is_empty());
        let (new_name, url, team) = (given(self.target_name), given(self.concourse_url), given(self.team_name));
        if new_name.is_none() && url.is_none() && team.is_none() {
            return Err(Failure::said("error: no attributes specified to update"));
        }
        if let Some(url) = url {
            target.api = url;
        }
        if let Some(team) = team {
            target.team = team;
        }
        targets.saved.remove(name);
        targets.saved.insert(new_name.unwrap_or_else(|| name.to_owned()), target);
        targets.save()?;
        fly.say(format!("Updated target: {name}"))
    }
}
