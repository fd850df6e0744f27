//! `abort-build`.

use super::Fly;
use super::client::Found;
use super::failure::{Failure, Outcome};
use super::reference::JobRef;
use super::shapes::Build;

/// Arguments of `abort-build`.
#[derive(Debug, Clone, clap::Args)]
pub struct AbortBuild {
    /// Name of a job to cancel
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: Option<JobRef>,
    /// If job is specified: build number to cancel. If job not specified: build id
    #[arg(short, long)]
    build: String,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl AbortBuild {
    /// Asks the build to stop.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let build: Option<Build> = match &self.job {
            Some(job) => team.job_build(job, &self.build).await?,
            None => session.client.get(&["builds", &self.build]).fetch().await.found()?,
        };
        let build = build.ok_or_else(|| Failure::said("build does not exist").see("builds"))?;
        session.client.put(&["builds", &build.id.to_string(), "abort"]).done().await?;
        fly.say("build successfully aborted")
    }
}
