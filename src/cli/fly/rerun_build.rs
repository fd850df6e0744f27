//! `rerun-build`: repeats a build with the inputs it had.

use reqwest::Method;

use super::Fly;
use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::reference::JobRef;
use super::shapes::Build;
use super::trigger_job::started;

/// Arguments of `rerun-build`.
#[derive(Debug, Clone, clap::Args)]
pub struct RerunBuild {
    /// Name of the job that you want to rerun a build for
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
    /// The number of the build to rerun
    #[arg(short, long)]
    build: String,
    /// Start watching the rerun build output
    #[arg(short, long)]
    watch: bool,
}

impl RerunBuild {
    /// Starts it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.own_team();
        let answer = team.on_job(Method::POST, &self.job, &["builds", &self.build]).fetch().await;
        let build: Build = answer.map_err(|e| match e {
            e @ ApiError::NotFound(_) => Failure::from(e).see(format!("builds -j {}", self.job)),
            e => e.into(),
        })?;
        started(fly, &session, &self.job, &build, self.watch).await
    }
}
