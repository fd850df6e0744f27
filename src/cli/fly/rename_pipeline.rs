//! `rename-pipeline`.

use serde_json::json;

use super::Fly;
use super::client::Found;
use super::failure::{Failure, Outcome};
use super::shapes::SaveAnswer;

/// Arguments of `rename-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct RenamePipeline {
    /// Existing pipeline to rename
    #[arg(short, long)]
    old_name: String,
    /// Name to set as pipeline name
    #[arg(short, long)]
    new_name: String,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl RenamePipeline {
    /// Gives a pipeline, with all its instances, another name.
    pub async fn run(self, fly: &Fly) -> Outcome {
        for (which, name) in [("old", &self.old_name), ("new", &self.new_name)] {
            if name.contains('/') {
                return Err(Failure::said(format!("{which} pipeline name cannot contain '/'")));
            }
        }
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let call = team.call(reqwest::Method::PUT, &["pipelines", &self.old_name, "rename"]);
        let Some(answer) = call.json(&json!({"name": self.new_name})).send().await?.success().found()? else {
            return Err(Failure::bare(format!("pipeline '{}' not found\n", self.old_name)).see("pipelines"));
        };
        let saved: SaveAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        fly.show_warnings(&saved.warnings)?;
        fly.say(format!("pipeline successfully renamed to '{}'", self.new_name))
    }
}
