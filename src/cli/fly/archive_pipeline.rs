//! `archive-pipeline`: removes a pipeline's configuration and keeps its builds.

use super::failure::{Failure, Outcome};
use super::pause_pipeline::not_found;
use super::reference::PipelineRef;
use super::shapes::Pipeline;
use super::table::{Cell, Table};
use super::{Fly, prompt};

/// Arguments of `archive-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct ArchivePipeline {
    /// Pipeline to archive
    #[arg(short, long)]
    pipeline: Option<PipelineRef>,
    /// Archive all pipelines
    #[arg(short, long)]
    all: bool,
    /// Skips interactions, uses default values
    #[arg(short, long)]
    non_interactive: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl ArchivePipeline {
    /// Asks, then archives.
    pub async fn run(self, fly: &Fly) -> Outcome {
        match (&self.pipeline, self.all) {
            (None, false) => {
                return Err(Failure::bare("one of the flags '-p, --pipeline' or '-a, --all' is required"));
            }
            (Some(_), true) => {
                return Err(Failure::bare("only one of the flags '-p, --pipeline' or '-a, --all' is allowed"));
            }
            (Some(pipeline), false) => pipeline.named()?,
            (None, true) => {}
        }
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let pipelines: Vec<PipelineRef> = match &self.pipeline {
            Some(pipeline) => vec![pipeline.clone()],
            None => team.pipelines().await?.iter().filter(|p| !p.archived).map(Pipeline::reference).collect(),
        };
        if pipelines.is_empty() {
            return fly.say("there are no unarchived pipelines\nbailing out");
        }
        if !self.confirm(fly, &pipelines)? {
            return fly.say("bailing out");
        }
        for pipeline in pipelines {
            if !team.change_pipeline(&pipeline, "archive").await? {
                return Err(not_found(&pipeline));
            }
            fly.console.say(format!("archived '{pipeline}'"))?;
        }
        Ok(0)
    }

    fn confirm(&self, fly: &Fly, pipelines: &[PipelineRef]) -> Result<bool, Failure> {
        if self.non_interactive {
            return Ok(true);
        }
        let question = match pipelines {
            [one] => format!("archive pipeline '{one}'?"),
            many => {
                let mut table = Table::new(["pipelines"]);
                many.iter().for_each(|p| table.push(vec![Cell::from(p.to_string())]));
                fly.console.say(table.render(fly.console.is_terminal(), true))?;
                format!("archive {} pipelines?", many.len())
            }
        };
        fly.console
            .say("!!! archiving the pipeline will remove its configuration. Build history will be retained.\n")?;
        Ok(prompt::confirm(&question).unwrap_or(false))
    }
}
