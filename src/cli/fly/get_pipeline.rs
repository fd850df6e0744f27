//! `get-pipeline`: a pipeline's configuration as the server has it.

use super::Fly;
use super::console::escape_html;
use super::failure::{Failure, Outcome};
use super::reference::PipelineRef;
use crate::pipeline::yaml::to_yaml;

/// Arguments of `get-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct GetPipeline {
    /// Get configuration of this pipeline
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Print config as json instead of yaml
    #[arg(short, long)]
    json: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl GetPipeline {
    /// Prints it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.pipeline.named()?;
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let found = team.config(&self.pipeline).await?;
        let (config, _) = found.ok_or_else(|| Failure::said("pipeline not found").see("pipelines"))?;
        fly.console.print(if self.json { escape_html(&config.to_string()) } else { to_yaml(&config) })?;
        Ok(0)
    }
}
