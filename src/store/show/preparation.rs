//! What a build that has not started waits for.

use crate::base::id::{BuildId, JobId};
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
}

impl ReadTx<'_> {
    /// What a build waits for; `None` if there is no such build. One that has started waits for nothing.
    pub fn preparation(&self, id: BuildId) -> Result<Option<Preparation>> {
        let Some(build) = self.build(id)? else { return Ok(None) };
        let job = build.job_id.map(|j| self.job(j)).transpose()?.flatten();
        let Some(job) = job.filter(|_| build.status == Status::Pending) else {
            return Ok(Some(Preparation::default()));
        };
        let full = job.config.limit() > 0 && !build.scheduled && self.running_beside(job.id)? >= job.config.limit();
        Ok(Some(Preparation {
            paused_pipeline: job.pipeline_paused,
            paused_job: job.paused,
            max_running_builds: full,
            inputs: if build.rerun_of.is_some() { Vec::new() } else { self.waiting_inputs(&build, job.id)? },
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

    /// Builds that run and count against a job's limit: its own, and those of jobs it shares a serial group with.
    fn running_beside(&self, job: JobId) -> Result<i64> {
        let mut query = self.prepare_cached(
            "select count(*) from builds where status in ('pending', 'started') and scheduled = 1 and (job_id = ?1
               or job_id in (select o.job_id from serial_groups o join serial_groups s
                 on s.pipeline_id = o.pipeline_id and s.name = o.name where s.job_id = ?1))",
        )?;
        Ok(query.query_row([job], |r| r.get(0))?)
    }
}
