//! `pause-pipeline`, `unpause-pipeline`, `expose-pipeline`, `hide-pipeline`: one switch each.

use super::Fly;
use super::failure::{Failure, Outcome};
use super::reference::PipelineRef;

/// One pipeline, or all of a team.
#[derive(Debug, Clone, clap::Args)]
struct Chosen {
    /// The pipeline
    #[arg(short, long)]
    pipeline: Option<PipelineRef>,
    /// All pipelines
    #[arg(short, long)]
    all: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// One pipeline.
#[derive(Debug, Clone, clap::Args)]
struct One {
    /// The pipeline
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `pause-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Pause {
    #[command(flatten)]
    of: Chosen,
}

/// Arguments of `unpause-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Unpause {
    #[command(flatten)]
    of: Chosen,
}

/// Arguments of `expose-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Expose {
    #[command(flatten)]
    of: One,
}

/// Arguments of `hide-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Hide {
    #[command(flatten)]
    of: One,
}

impl Pause {
    /// Stops checks and builds.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "pause", "paused").await
    }
}

impl Unpause {
    /// Lets them go on.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "unpause", "unpaused").await
    }
}

impl Expose {
    /// Shows the pipeline to everybody.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "expose", "exposed").await
    }
}

impl Hide {
    /// Shows it to the team only.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "hide", "hid").await
    }
}

impl Chosen {
    async fn change(self, fly: &Fly, verb: &str, done: &str) -> Outcome {
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
        let pipelines = match self.pipeline {
            Some(pipeline) => vec![pipeline],
            None => team.pipelines().await?.iter().map(super::shapes::Pipeline::reference).collect(),
        };
        for pipeline in pipelines {
            if !team.change_pipeline(&pipeline, verb).await? {
                return Err(not_found(&pipeline));
            }
            fly.console.say(format!("{done} '{pipeline}'"))?;
        }
        Ok(0)
    }
}

impl One {
    async fn change(self, fly: &Fly, verb: &str, done: &str) -> Outcome {
        self.pipeline.named()?;
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        if !team.change_pipeline(&self.pipeline, verb).await? {
            return Err(not_found(&self.pipeline));
        }
        fly.say(format!("{done} '{}'", self.pipeline))
    }
}

/// What fly says of a pipeline that is not there.
pub fn not_found(pipeline: &PipelineRef) -> Failure {
    Failure::bare(format!("pipeline '{pipeline}' not found\n")).see("pipelines")
}
