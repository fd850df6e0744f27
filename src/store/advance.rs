//! One look at one job, whole: resolve its inputs, make a build if one is wanted, and take its waiting builds as far
//! as they can go. It decides nothing itself: `schedule` does. In one write transaction, so that two jobs of a serial
//! group cannot both take the last slot.

use super::finish::{Start, StartInput};
use super::job::Job;
use super::next_input::NextInput;
use super::{Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::schedule::admit::{Inputs, Step, admit};
use crate::schedule::demand::{Demand, demand};
use crate::schedule::due::Intervals;
use crate::schedule::snapshot::{Chosen, Input, Resolution};

/// Builds that one look starts at most; it is asked for again where there are more.
const STARTS: usize = 50;

/// A build's plan (JSON), as it is run and as it is shown; or none where none can be made of the configuration: then
/// the build ends errored.
pub type Planned = Option<(String, String)>;

/// What a look at a job has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advanced {
    /// A build that was made because inputs are new.
    pub created: Option<BuildId>,
    /// Builds that are started and must be run.
    pub started: Vec<BuildId>,
    /// Builds that ended without ever running.
    pub finished: Vec<BuildId>,
    /// Resources to be checked for a waiting build, at once where forced; when they are, ask for another look.
    pub checks: Option<Checks>,
    /// The job wants another look at once.
    pub again: bool,
}

/// Checks that a waiting build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Which build.
    pub build: BuildId,
    /// What is to be checked.
    pub resources: Vec<ResourceId>,
    /// Whatever the interval.
    pub forced: bool,
}

impl WriteTx<'_> {
    /// Looks at a job. `plan` makes the plan of a build that is about to start with these inputs.
    pub fn advance_job(
        &self,
        id: JobId,
        intervals: &Intervals,
        now: Time,
        plan: &mut dyn FnMut(&Job, BuildId, &[StartInput]) -> Planned,
    ) -> Result<Advanced> {
        let mut done = Advanced::default();
        let Some(mut job) = self.job(id)? else { return Ok(done) };
        let idle = job.paused || job.pipeline_paused || job.pipeline_archived || !job.active;
        let mut resolution = None;
        loop {
            if !idle && resolution.is_none() {
                let (chosen, created) = self.refresh(&mut job, now)?;
                done.created = done.created.or(created);
                resolution = Some(chosen);
            }
            let admission = admit(&self.schedule_queue(&job, intervals)?);
            for build in admission.scheduled {
                self.mark_build_scheduled(build)?;
            }
            match admission.step {
                Step::Abort(build) => {
                    self.finish_build(build, super::build::Status::Aborted, now)?;
                    done.finished.push(build);
                }
                Step::Start { build, inputs } => {
                    let inputs = match inputs {
                        Inputs::Resolved => resolution.take().flatten().unwrap_or_default(),
                        Inputs::Of(original) => self.inputs_of(original)?,
                    };
                    match plan(&job, build, &inputs) {
                        Some((plan, public_plan)) => {
                            let start = Start { build, plan: &plan, public_plan: &public_plan, inputs: &inputs, now };
                            self.start_build(&start)?;
                            done.started.push(build);
                        }
                        None => {
                            self.finish_build(build, super::build::Status::Errored, now)?;
                            done.finished.push(build);
                        }
                    }
                    // Its versions are taken: what comes next is resolved anew.
                    resolution = None;
                    if done.started.len() + done.finished.len() >= STARTS {
                        done.again = true;
                        return Ok(done);
                    }
                }
                Step::Check { build, resources, forced } => {
                    done.checks = Some(Checks { build, resources, forced });
                    break;
                }
                Step::Rest(_) => break,
            }
        }
        // Nobody else can have asked meanwhile: only this transaction writes.
        self.mark_scheduled(id, i64::MAX)?;
        Ok(done)
    }

    /// Resolves the inputs, keeps the answer, and makes a build if they want one. Returns the inputs if there is a
    /// version for each.
    fn refresh(&self, job: &mut Job, now: Time) -> Result<(Option<Vec<StartInput>>, Option<BuildId>)> {
        let inputs = self.schedule_inputs(job.id)?;
        let resolution = self.resolve_inputs(job.id, inputs.clone())?;
        self.save_next_inputs(job.id, &next_inputs(&inputs, &resolution))?;
        let Resolution::Ready { chosen, .. } = resolution else {
            job.inputs_determined = false;
            return Ok((None, None));
        };
        job.inputs_determined = true;
        let Demand { build, has_new_inputs } = demand(&inputs, &chosen);
        if has_new_inputs != job.has_new_inputs {
            self.set_has_new_inputs(job.id, has_new_inputs)?;
            job.has_new_inputs = has_new_inputs;
        }
        let created = if build { self.ensure_pending_build(job.id, now)? } else { None };
        Ok((Some(chosen.into_iter().map(StartInput::from).collect()), created))
    }

    /// What a build was given, for one that repeats it.
    fn inputs_of(&self, original: BuildId) -> Result<Vec<StartInput>> {
        let from_builds: Vec<BuildId> = self
            .prepare_cached("select from_build_id from build_pipes where to_build_id = ?")?
            .query_map([original], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let inputs = self.build_inputs(original)?;
        Ok(inputs
            .into_iter()
            .map(|i| StartInput {
                name: i.name,
                resource_id: i.resource_id,
                version: i.version,
                first_occurrence: false,
                from_builds: from_builds.clone(),
            })
            .collect())
    }
}

impl From<Chosen> for StartInput {
    fn from(c: Chosen) -> Self {
        StartInput {
            name: c.input,
            resource_id: c.resource,
            version: c.picked.version,
            first_occurrence: c.first_occurrence,
            from_builds: c.from_builds,
        }
    }
}

/// The answer of the resolver as rows.
fn next_inputs(inputs: &[Input], resolution: &Resolution) -> Vec<NextInput> {
    let (chosen, lacking) = match resolution {
        Resolution::Ready { chosen, .. } => (chosen.as_slice(), &[][..]),
        Resolution::Missing { chosen, lacking } => (chosen.as_slice(), lacking.as_slice()),
        Resolution::Need(_) => (&[][..], &[][..]),
    };
    let row = |input: &Input| {
        let lacking = lacking.iter().find(|l| l.input == input.name);
        let chosen = chosen.iter().find(|c| c.input == input.name);
        NextInput {
            name: input.name.clone(),
            resource_id: input.resource,
            version: match (chosen, lacking) {
                (Some(c), _) => Ok(c.picked.version.clone()),
                (None, Some(l)) => Err(l.reason.to_string()),
                (None, None) => Err(String::new()),
            },
            first_occurrence: chosen.is_some_and(|c| c.first_occurrence),
            from_builds: chosen.map(|c| c.from_builds.clone()).unwrap_or_default(),
        }
    };
    inputs.iter().map(row).collect()
}
