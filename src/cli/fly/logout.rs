//! `logout`: gives the token back and forgets it.

use reqwest::StatusCode;

use super::Fly;
use super::client::Status;
use super::failure::{Failure, Outcome};
use super::target::{Target, Targets, Token};

/// Arguments of `logout`.
#[derive(Debug, Clone, clap::Args)]
pub struct Logout {
    /// Logout of all targets
    #[arg(short, long)]
    all: bool,
}

impl Logout {
    /// Logs out of one target, or of all.
    pub async fn run(self, fly: &Fly) -> Outcome {
        match (fly.target.as_deref().filter(|t| !t.is_empty()), self.all) {
            (Some(name), false) => {
                log_out(fly, name).await?;
                Ok(0)
            }
            (None, true) => {
                let mut failures = Vec::new();
                for name in Targets::load()?.saved.keys() {
                    if let Err(e) = log_out(fly, name).await {
                        failures.push(format!("{name}: {e}"));
                    }
                }
                if failures.is_empty() {
                    fly.say("logged out of all targets")
                } else {
                    Err(Failure::said(failures.join("\n")))
                }
            }
            _ => Err(Failure::said("must specify either --target or --all")),
        }
    }
}

async fn log_out(fly: &Fly, name: &str) -> Result<(), Failure> {
    let mut targets = Targets::load()?;
    let target = targets
        .saved
        .get_mut(name)
        .ok_or_else(|| Failure::said(format!("failed to load target {name:?}: unknown target: {name}")))?;
    if let Some(token) = target.token.clone().filter(|t| !t.is_empty()) {
        target.token = Some(Token::default());
        // The token goes as a browser's would.
        let session = fly.connect(name, Target { token: None, ..target.clone() })?;
        let call = session.client.call_at(reqwest::Method::GET, session.client.outside("/sky/logout"));
        let cookie = format!("skymarshal_auth=\"{} {}\"", token.kind, token.value);
        let answer = call.header("cookie", &cookie).send().await?;
        if answer.status != StatusCode::OK {
            let status = Status(answer.status);
            return Err(Failure::said(format!("failed to logout from API: logout failed with status: {status}")));
        }
    }
    targets.save()?;
    fly.console.say(format!("logged out of target: {name}"))?;
    Ok(())
}
