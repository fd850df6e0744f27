//! Builds and checks counted under Concourse's names. Its checks are builds that mostly have no row, and so are ours.

use crate::exec::{BuildEnv, Outcome};
use crate::store::build::{Build, Status};

/// A check that runs; it is counted until this is dropped.
pub struct Running(());

impl Running {
    /// It begins here, or goes on after a restart.
    pub fn check() -> Running {
        metrics::gauge!("concourse_builds_check_running").increment(1.0);
        Running(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        metrics::gauge!("concourse_builds_check_running").decrement(1.0);
    }
}

/// A task that waits for others to end, until this is dropped.
pub struct Waiting(metrics::Gauge);

impl Waiting {
    /// A task of a build.
    pub fn task(build: &BuildEnv, tags: &[String]) -> Waiting {
        let gauge = metrics::gauge!(
            "concourse_steps_waiting",
            "platform" => "linux", "teamId" => build.team_id.to_string(), "teamName" => build.team.clone(),
            "type" => "task", "workerTags" => tags.join("_")
        );
        gauge.increment(1.0);
        Waiting(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The status of a build that ends so.
pub fn status(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Succeeded => Status::Succeeded,
        Outcome::Failed => Status::Failed,
        Outcome::Errored(_) | Outcome::TimedOut => Status::Errored,
        Outcome::Aborted => Status::Aborted,
    }
}

/// A check or another build without a job begins.
pub fn begun(check: bool) {
    let name = if check { "concourse_builds_check_started_total" } else { "concourse_builds_started_total" };
    metrics::counter!(name).increment(1);
}

/// A check is over.
pub fn check_ended(status: Status) {
    metrics::counter!("concourse_builds_check_finished_total").increment(1);
    metrics::counter!(format!("concourse_builds_check_{}_total", status.as_str())).increment(1);
}

/// A build with a row is over.
pub fn ended(build: &Build) {
    if is_check(build) {
        return check_ended(build.status);
    }
    let status = build.status.as_str();
    metrics::counter!("concourse_builds_finished_total").increment(1);
    metrics::counter!(format!("concourse_builds_{status}_total")).increment(1);
    let label = |text: &Option<String>| text.clone().unwrap_or_default();
    let (team, pipeline, job) = (build.team_name.clone(), label(&build.pipeline_name), label(&build.job_name));
    metrics::counter!(
        "concourse_builds_finished",
        "team" => team.clone(), "pipeline" => pipeline.clone(), "job" => job.clone(), "status" => status
    )
    .increment(1);
    if let (Some(started), Some(ended)) = (build.started_at, build.ended_at) {
        metrics::histogram!("concourse_builds_duration_seconds", "team" => team, "pipeline" => pipeline, "job" => job)
            .record(ended.since(started).as_secs_f64());
    }
}

/// Whether it is a check that somebody has asked for.
pub fn is_check(build: &Build) -> bool {
    build.job_id.is_none() && build.name == "check"
}
