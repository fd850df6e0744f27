//! `status`: whether the saved token still works.

use serde_json::Value;

use super::Fly;
use super::failure::{Failure, Outcome};
use super::target::Token;

/// Arguments of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {}

impl Status {
    /// Asks who we are.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.saved()?;
        if session.target.token.as_ref().is_none_or(Token::is_empty) {
            return Err(Failure::bare("logged out").then("log in with `{fly} login`"));
        }
        match session.client.get(&["user"]).fetch::<Value>().await {
            Ok(_) => fly.say("logged in successfully"),
            Err(e) => Err(Failure::bare(format!("please login again.\n\ntoken validation failed with error: {e}"))),
        }
    }
}
