//! `get-wall`, `set-wall`, `clear-wall`: the message every page shows.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::Fly;
use super::client::ApiError;
use super::failure::{Failure, Outcome};
use crate::base::duration;

/// Arguments of `get-wall`.
#[derive(Debug, Clone, clap::Args)]
pub struct Get {}

impl Get {
    /// Shows it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let wall: Value = session.client.get(&["wall"]).fetch().await.map_err(|e| wrap(e, "get"))?;
        let Some(message) = wall["message"].as_str().filter(|m| !m.is_empty()) else {
            return fly.say("No wall message is currently set");
        };
        fly.console.say(format!("Wall Message: {message}"))?;
        match wall["TTL"].as_u64().filter(|ttl| *ttl > 0) {
            None => fly.say("No expiration set"),
            Some(ttl) => fly.say(format!("Expires in: {}", duration::exact(Duration::from_nanos(ttl)))),
        }
    }
}

/// Arguments of `set-wall`.
#[derive(Debug, Clone, clap::Args)]
pub struct Set {
    /// Message to display on the wall
    #[arg(short, long)]
    message: String,
    /// Time-to-live for the message, e.g. 1h
    #[arg(long, value_parser = duration::nanos)]
    ttl: Option<i64>,
}

impl Set {
    /// Puts it up.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let mut wall = json!({"message": self.message});
        let ttl = self.ttl.filter(|t| *t != 0);
        if let Some(ttl) = ttl {
            wall["TTL"] = json!(ttl);
        }
        session.client.put(&["wall"]).json(&wall).done().await.map_err(|e| wrap(e, "set"))?;
        fly.console.say("Wall message set successfully")?;
        match ttl {
            None => fly.say("No expiration set"),
            Some(ttl) => {
                let sign = if ttl < 0 { "-" } else { "" };
                fly.say(format!(
                    "Message will expire in {sign}{}",
                    duration::exact(Duration::from_nanos(ttl.unsigned_abs()))
                ))
            }
        }
    }
}

/// Arguments of `clear-wall`.
#[derive(Debug, Clone, clap::Args)]
pub struct Clear {}

impl Clear {
    /// Takes it down.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        session.client.call(Method::DELETE, &["wall"]).done().await.map_err(|e| wrap(e, "clear"))?;
        fly.say("Wall message cleared successfully")
    }
}

fn wrap(error: ApiError, verb: &str) -> Failure {
    match error {
        ApiError::Unauthorized => ApiError::Unauthorized.into(),
        e => Failure::said(format!("failed to {verb} wall message: {e}")),
    }
}
