//! What a build that has not started waits for.

use super::why::Why;
use crate::base::id::{BuildId, JobId};
use crate::schedule::admit::{Blocked, why_not};
use crate::schedule::due::Intervals;
use crate::store::build::{Build, Status};
use crate::store::{ReadTx, Result};

/// What stands in the way of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preparation {
    /// Its pipeline is paused.
    pub paused_pipeline: bool,
    /// Its job is paused.
    pub paused_job: bool,
    /// As many builds run as may.
    pub max_running_builds: bool,
    /// Each input, and why it is not there yet.
    pub inputs: Vec<(String, Option<String>)>,
    /// All of it in words.
    pub why: Vec<Why>,
}

impl ReadTx<'_> {
    /// What a build waits for; `None` if there is no such build. One that has started waits for nothing.
    pub fn preparation(&self, id: BuildId, intervals: &Intervals) -> Result<Option<Preparation>> {
        let Some(build) = self.build(id)? else { return Ok(None) };
        let job = build.job_id.map(|j| self.job(j)).transpose()?.flatten();
        let Some(job) = job.filter(|_| build.status == Status::Pending) else {
            return Ok(Some(Preparation::default()));
        };
        let blocked = why_not(&self.schedule_queue(&job, intervals)?, id);
        Ok(Some(Preparation {
            paused_pipeline: job.pipeline_paused,
            paused_job: job.paused,
            max_running_builds: matches!(blocked, Some(Blocked::Full(_) | Blocked::Behind(_))),
            inputs: if build.rerun_of.is_some() { Vec::new() } else { self.waiting_inputs(&build, job.id)? },
            why: self.why_build(id, intervals)?,
        }))
    }

    /// Inputs as the last schedule pass left them. A build that a person asked for also waits for a check that began
    /// after they asked.
    fn waiting_inputs(&self, build: &Build, job: JobId) -> Result<Vec<(String, Option<String>)>> {
        let mut inputs = Vec::new();
        for input in self.next_inputs(job)? {
            let resource = self.resource(input.resource_id)?;
            let unchecked = resource.is_some_and(|r| r.pin().is_none() && r.last_check_ended < build.created_at);
            let reason = match input.version {
                Err(reason) => Some(reason),
                Ok(_) if build.manual && unchecked => Some("checking for latest available versions".to_owned()),
                Ok(_) => None,
            };
            inputs.push((input.name, reason));
        }
        Ok(inputs)
    }
}
