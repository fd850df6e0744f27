//! `trigger-job`: starts a build, and follows it if asked.

use reqwest::Method;

use super::failure::Outcome;
use super::reference::JobRef;
use super::shapes::Build;
use super::{Fly, Session, render};

/// Arguments of `trigger-job`.
#[derive(Debug, Clone, clap::Args)]
pub struct TriggerJob {
    /// Name of a job to trigger
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
    /// Start watching the build output
    #[arg(short, long)]
    watch: bool,
    /// Name of the team to which the job belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl TriggerJob {
    /// Starts it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let build: Build = team.on_job(Method::POST, &self.job, &["builds"]).fetch().await?;
        started(fly, &session, &self.job, &build, self.watch).await
    }
}

/// Tells of a build that was started, and follows it if asked; the person may leave it running.
pub async fn started(fly: &Fly, session: &Session, job: &JobRef, build: &Build, watch: bool) -> Outcome {
    fly.console.say(format!("started {job} #{}", build.name))?;
    if !watch {
        return Ok(0);
    }
    fly.console.say("")?;
    tokio::select! {
        outcome = render::follow(&session.client, fly.console, build.id, render::Options::default()) => outcome,
        left = interrupted() => {
            left?;
            let command = format!("fly -t {} watch -j {job} -b {}", session.name, build.name);
            fly.console.tell("\ndetached, build is still running...\nre-attach to it with:\n")?;
            fly.console.tell(format!("    {}\n", fly.console.bold(&command)))?;
            Ok(2)
        }
    }
}

/// Waits for the interrupt key or a request to end.
pub async fn interrupted() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}
