//! `order-pipelines` and `order-instanced-pipelines`: the order in which lists show them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Fly;
use super::client::{ApiError, Call};
use super::failure::{Failure, Outcome};
use super::reference::InstanceVars;
use super::team::Team;

/// Arguments of `order-pipelines`.
#[derive(Debug, Clone, clap::Args)]
pub struct Order {
    /// Order all pipelines alphabetically
    #[arg(short, long)]
    alphabetical: bool,
    /// Name of pipeline to order
    #[arg(short, long)]
    pipeline: Vec<String>,
    /// Name of the team to which the pipelines belong, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl Order {
    /// Puts the named pipelines first, or all in the order of the alphabet.
    pub async fn run(self, fly: &Fly) -> Outcome {
        if !self.alphabetical && self.pipeline.is_empty() {
            return Err(Failure::bare("error: either --pipeline or --alphabetical are required"));
        }
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let names = if self.alphabetical {
            let mut names: Vec<_> = team.pipelines().await?.into_iter().map(|p| p.name).collect();
            names.sort();
            names.dedup();
            names
        } else {
            if let Some(name) = self.pipeline.iter().find(|n| n.contains('/')) {
                return Err(Failure::said(format!("pipeline name {name:?} cannot contain '/'")));
            }
            self.pipeline
        };
        let call = team.call(Method::PUT, &["pipelines", "ordering"]).json(&json!(names));
        send(&team, call)
            .await
            .map_err(|e| Failure::bare(format!("failed to order pipelines: {e}")).see("pipelines"))?;
        fly.console.say("ordered pipelines ")?;
        names.iter().try_for_each(|name| fly.console.say(format!("  - {name} ")))?;
        Ok(0)
    }
}

/// Arguments of `order-instanced-pipelines`.
#[derive(Debug, Clone, clap::Args)]
pub struct OrderInstanced {
    /// Name of the instance group
    #[arg(short, long)]
    group: String,
    /// Instance vars identifying pipeline
    #[arg(short, long, required = true)]
    pipeline: Vec<InstanceVars>,
    /// Name of the team to which the instance group belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl OrderInstanced {
    /// Puts the named instances first in their group.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let vars: Vec<Value> = self.pipeline.iter().map(|v| Value::Object(v.0.clone())).collect();
        let call = team.call(Method::PUT, &["pipelines", &self.group, "ordering"]).json(&Value::Array(vars));
        send(&team, call)
            .await
            .map_err(|e| Failure::bare(format!("failed to order instanced pipelines: {e}")).see("pipelines"))?;
        fly.console.say("ordered instanced pipelines ")?;
        self.pipeline.iter().try_for_each(|vars| fly.console.say(format!("  - {vars} ")))?;
        Ok(0)
    }
}

/// Sends an order; refusals are told in the server's words.
async fn send(team: &Team<'_>, call: Call<'_>) -> Result<(), Failure> {
    let answer = call.send().await?;
    match answer.status {
        StatusCode::OK => Ok(()),
        StatusCode::FORBIDDEN => Err(Failure::said(format!("you do not have a role on team '{}'", team.name))),
        StatusCode::BAD_REQUEST => Err(Failure::said(answer.text())),
        StatusCode::UNAUTHORIZED => Err(ApiError::Unauthorized.into()),
        _ => Err(answer.unexpected().into()),
    }
}
