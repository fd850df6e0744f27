//! `destroy-pipeline`.

use reqwest::Method;

use super::client::Found;
use super::failure::Outcome;
use super::reference::PipelineRef;
use super::{Fly, prompt};

/// Arguments of `destroy-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct DestroyPipeline {
    /// Pipeline to destroy
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Destroy the pipeline without confirmation
    #[arg(short, long)]
    non_interactive: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl DestroyPipeline {
    /// Asks, then deletes it with its builds.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.pipeline.named()?;
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let pipeline = &self.pipeline;
        if team.pipeline(pipeline).await?.is_none() {
            return fly.say(format!("`{pipeline}` does not exist"));
        }
        fly.console.say(format!("!!! this will remove all data for pipeline `{pipeline}`\n"))?;
        if !self.non_interactive {
            let answer = prompt::confirm("are you sure?");
            if !matches!(answer, Ok(true)) {
                fly.console.say("bailing out")?;
                return answer.map(|_| 0).map_err(Into::into);
            }
        }
        team.on_pipeline(Method::DELETE, pipeline, &[]).done().await.found()?;
        fly.say(format!("`{pipeline}` deleted"))
    }
}
