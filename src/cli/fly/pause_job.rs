//! `pause-job`, `unpause-job`, `schedule-job`.

use super::Fly;
use super::failure::{Failure, Outcome};
use super::reference::JobRef;

/// Arguments of `pause-job`.
#[derive(Debug, Clone, clap::Args)]
pub struct Pause {
    /// Name of a job to pause
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
    /// Name of the team to which the job belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `unpause-job`.
#[derive(Debug, Clone, clap::Args)]
pub struct Unpause {
    /// Name of a job to unpause
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
    /// Name of the team to which the job belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `schedule-job`.
#[derive(Debug, Clone, clap::Args)]
pub struct Schedule {
    /// Name of a job to schedule
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
}

impl Pause {
    /// Starts no further builds.
    pub async fn run(self, fly: &Fly) -> Outcome {
        change(fly, &self.job, self.team.as_deref(), "pause", "paused").await
    }
}

impl Unpause {
    /// Starts builds again.
    pub async fn run(self, fly: &Fly) -> Outcome {
        change(fly, &self.job, self.team.as_deref(), "unpause", "unpaused").await
    }
}

impl Schedule {
    /// Has the scheduler look at the job.
    pub async fn run(self, fly: &Fly) -> Outcome {
        change(fly, &self.job, None, "schedule", "scheduled").await
    }
}

async fn change(fly: &Fly, job: &JobRef, team: Option<&str>, verb: &str, done: &str) -> Outcome {
    let session = fly.session().await?;
    let team = session.team(team).await?;
    if team.change_job(job, verb).await? {
        return fly.say(format!("{done} '{}'", job.name));
    }
    let place = if verb == "schedule" { String::new() } else { format!(" on team {}", team.name) };
    Err(Failure::said(format!("{job} not found{place}\n")).see(format!("jobs -p {}", job.pipeline)))
}
