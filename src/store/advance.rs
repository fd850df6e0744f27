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
use crate::schedule::input::{Chosen, Decision, Input, Resolution};

/// Builds that one look starts at most; it is asked for again where there are more.
const STARTS: usize = 50;
/// Pages of history that one look reads while nobody else can write; longer searches go on beside.
const PAGES: usize = 2000;
/// Pages that such a search reads. What has not been found in so many is not there.
const SEARCH: usize = 20_000_000;

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
    /// Its history is too long for this look: [`super::ReadTx::search_inputs`] finds the answer for the next.
    pub search: bool,
}

/// What a look at a job goes by.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// How often things are checked.
    pub intervals: &'a Intervals,
    /// When it is.
    pub now: Time,
    /// What was found beside.
    pub given: Option<Searched>,
}

/// The answer about a job's inputs as of its last request for a look.
#[derive(Debug, Clone)]
pub struct Searched {
    mark: i64,
    decision: Decision,
}

impl super::ReadTx<'_> {
    /// Resolves a job's inputs however long it takes; other connections can write meanwhile. What it answers is taken
    /// if nobody has asked for another look since.
    pub fn search_inputs(&self, id: JobId) -> Result<Option<Searched>> {
        let Some(job) = self.job(id)? else { return Ok(None) };
        let decision = self.resolve_inputs(id, &self.schedule_inputs(id)?, SEARCH)?;
        Ok(decision.map(|decision| Searched { mark: job.schedule_mark, decision }))
    }
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
        look: &Look<'_>,
        plan: &mut dyn FnMut(&Job, BuildId, &[StartInput]) -> Planned,
    ) -> Result<Advanced> {
        let now = look.now;
        let mut done = Advanced::default();
        let Some(mut job) = self.job(id)? else { return Ok(done) };
        let idle = job.paused || job.pipeline_paused || job.pipeline_archived || !job.active;
        let mut given = look.given.as_ref().filter(|g| g.mark == job.schedule_mark).map(|g| g.decision.clone());
        let mut resolution = None;
        loop {
            if !idle && resolution.is_none() {
                resolution = Some(self.refresh(&mut job, given.take(), &mut done, now)?);
            }
            let admission = admit(&self.schedule_queue(&job, look.intervals)?);
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
    fn refresh(
        &self,
        job: &mut Job,
        given: Option<Decision>,
        done: &mut Advanced,
        now: Time,
    ) -> Result<Option<Vec<StartInput>>> {
        let inputs = self.schedule_inputs(job.id)?;
        let decision = match given {
            Some(decision) => Some(decision),
            None => self.resolve_inputs(job.id, &inputs, PAGES)?,
        };
        let Some(Decision { resolution, memories }) = decision else {
            (done.search, job.inputs_determined) = (true, false);
            return Ok(None);
        };
        self.save_memories(job.id, &memories)?;
        self.save_next_inputs(job.id, next_inputs(&inputs, &resolution, now))?;
        let Resolution::Ready { chosen, .. } = resolution else {
            job.inputs_determined = false;
            return Ok(None);
        };
        job.inputs_determined = true;
        let Demand { build, has_new_inputs } = demand(&inputs, &chosen);
        // Said of the versions that were there when the look began: the builds it starts take them, and the next look
        // finds nothing new, as in Concourse.
        if has_new_inputs != job.has_new_inputs && done.started.is_empty() {
            self.set_has_new_inputs(job.id, has_new_inputs)?;
            job.has_new_inputs = has_new_inputs;
        }
        if build {
            done.created = done.created.or(self.ensure_pending_build(job.id, now)?);
        }
        Ok(Some(chosen.into_iter().map(StartInput::from).collect()))
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
fn next_inputs(inputs: &[Input], resolution: &Resolution, now: Time) -> Vec<NextInput> {
    let (chosen, lacking) = match resolution {
        Resolution::Ready { chosen, .. } => (chosen.as_slice(), &[][..]),
        Resolution::Missing { chosen, lacking } => (chosen.as_slice(), lacking.as_slice()),
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
            passages: lacking.map(|l| l.passages.clone()).unwrap_or_default(),
            since: now,
        }
    };
    inputs.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::base::id::{PipelineId, ScopeId};
    use crate::store::build::{Abort, Status};
    use crate::store::create::Rerun;
    use crate::store::finish::Made;
    use crate::store::fixture::{job, scoped, set, store, v};

    const INTERVALS: Intervals = Intervals { usual: Duration::from_secs(60), webhook: Duration::from_secs(60) };

    /// A pipeline r → one → two, where `one` also gets `s` without being triggered by it.
    struct World<'a> {
        tx: &'a WriteTx<'a>,
        pipeline: PipelineId,
        r: ScopeId,
        s: ScopeId,
        now: i64,
    }

    impl World<'_> {
        fn run(f: impl FnOnce(&mut World<'_>)) {
            let (store, _dir) = store();
            store
                .write_blocking(|tx| {
                    let pipeline = set(
                        tx,
                        "p",
                        json!({"resources": [{"name": "r", "type": "mock"}, {"name": "s", "type": "mock"}],
                               "jobs": [
                            {"name": "one", "serial": true, "plan": [{"get": "r", "trigger": true}, {"get": "s"}]},
                            {"name": "two", "plan": [{"get": "r", "passed": ["one"], "trigger": true}]}]}),
                    )?;
                    let (r, s) = (scoped(tx, pipeline, "r").1, scoped(tx, pipeline, "s").1);
                    let mut world = World { tx, pipeline, r, s, now: 1000 };
                    world.checked(&[r, s]);
                    tx.save_checked(s, &[v(1)])?;
                    f(&mut world);
                    Ok(())
                })
                .unwrap();
        }

        fn checked(&mut self, scopes: &[ScopeId]) {
            self.now += 1;
            for scope in scopes {
                self.tx.check_started(*scope, Time(self.now)).unwrap();
                self.tx.check_ended(*scope, None, Time(self.now)).unwrap();
            }
        }

        fn job(&self, name: &str) -> JobId {
            job(self.tx, self.pipeline, name)
        }

        fn advance(&mut self, name: &str) -> Advanced {
            self.now += 1;
            let mut plan = |_: &Job, _: BuildId, _: &[StartInput]| Some(("{}".to_owned(), "{}".to_owned()));
            self.tx.advance_job(self.job(name), &self.look(), &mut plan).unwrap()
        }

        fn look(&self) -> Look<'static> {
            Look { intervals: &INTERVALS, now: Time(self.now), given: None }
        }

        fn finish(&mut self, build: BuildId, status: Status) {
            self.now += 1;
            assert!(self.tx.finish_build(build, status, Time(self.now)).unwrap().changed);
        }

        fn wanting(&self) -> Vec<String> {
            let wanting = self.tx.jobs_wanting_schedule().unwrap();
            wanting.into_iter().map(|(j, _)| self.tx.job(j).unwrap().unwrap().name).collect()
        }

        fn status(&self, build: BuildId) -> Status {
            self.tx.build(build).unwrap().unwrap().status
        }

        fn name(&self, build: BuildId) -> String {
            self.tx.build(build).unwrap().unwrap().name
        }
    }

    #[test]
    fn a_new_version_runs_down_the_pipeline() {
        World::run(|w| {
            assert_eq!(w.advance("one"), Advanced::default(), "no version of r yet");
            let reasons = w.tx.next_inputs(w.job("one")).unwrap();
            assert_eq!(reasons[0].version, Err("latest version of resource not found".to_owned()));

            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            assert!(w.wanting().contains(&"one".to_owned()));
            let first = w.advance("one").started[0];
            assert_eq!((w.name(first), w.status(first)), ("1".to_owned(), Status::Started));
            let new = |w: &World<'_>| w.tx.job(w.job("one")).unwrap().unwrap().has_new_inputs;
            assert!(new(w), "it was new to this look");
            assert_eq!(w.advance("one"), Advanced::default(), "the version is not new any more");
            assert!(!new(w));
            w.advance("two");
            assert_eq!(w.wanting(), Vec::<String>::new());

            w.finish(first, Status::Succeeded);
            assert_eq!(w.wanting(), ["two"], "nothing waits in the job itself");
            let second = w.advance("two").started[0];
            assert_eq!(w.tx.build_inputs(second).unwrap()[0].version, v(1));
            let pipes: i64 =
                w.tx.query_row("select count(*) from build_pipes where to_build_id = ?", [second], |r| r.get(0))
                    .unwrap();
            assert_eq!(pipes, 1);
            assert!(!w.tx.job(w.job("one")).unwrap().unwrap().has_new_inputs);
        });
    }

    #[test]
    fn a_serial_job_runs_one_build_at_a_time_and_takes_the_newest_then() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let first = w.advance("one").started[0];
            for n in 2..=4 {
                w.tx.save_checked(w.r, &[v(n)]).unwrap();
                assert_eq!(w.advance("one").started, []);
            }
            assert_eq!(w.tx.pending_builds(w.job("one")).unwrap().len(), 1, "never a second that waits");
            w.finish(first, Status::Failed);
            let second = w.advance("one").started[0];
            assert_eq!(w.tx.build_inputs(second).unwrap()[0].version, v(4));
        });
    }

    #[test]
    fn a_manual_build_waits_for_checks_of_all_its_inputs() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let first = w.advance("one").started[0];
            w.finish(first, Status::Succeeded);
            w.now += 10;
            let build = w.tx.create_manual_build(w.job("one"), "alice", Time(w.now)).unwrap();
            let checks = w.advance("one").checks.unwrap();
            assert_eq!((checks.build, checks.resources.len(), checks.forced), (build, 2, true));
            w.checked(&[w.r, w.s]);
            w.tx.save_checked(w.r, &[v(2)]).unwrap();
            assert_eq!(w.advance("one").started, [build]);
            assert_eq!(w.tx.build_inputs(build).unwrap()[0].version, v(2));
            assert_eq!(w.tx.build(build).unwrap().unwrap().created_by.as_deref(), Some("alice"));
        });
    }

    #[test]
    fn what_does_not_trigger_is_checked_first_once_its_interval_has_passed() {
        World::run(|w| {
            w.now += 61_000;
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let checks = w.advance("one").checks.unwrap();
            assert!(!checks.forced && checks.resources.len() == 1);
            w.checked(&[w.s]);
            assert_eq!(w.advance("one").started.len(), 1);
        });
    }

    #[test]
    fn a_rerun_has_the_inputs_of_the_original() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let first = w.advance("one").started[0];
            w.finish(first, Status::Failed);
            w.tx.save_checked(w.r, &[v(2)]).unwrap();
            let second = w.advance("one").started[0];
            w.finish(second, Status::Failed);
            let Rerun::Created(again) = w.tx.create_rerun(first, "alice", Time(w.now)).unwrap() else { panic!() };
            assert_eq!(w.advance("one").started, [again]);
            assert_eq!(w.name(again), "1.1");
            assert_eq!(w.tx.build_inputs(again).unwrap()[0].version, v(1));
            w.finish(again, Status::Succeeded);
            let row = w.tx.job(w.job("one")).unwrap().unwrap();
            assert_eq!(row.latest_completed_build_id, Some(second), "a rerun of an old build is not the newest");
            let Rerun::Created(third) = w.tx.create_rerun(again, "alice", Time(w.now)).unwrap() else { panic!() };
            assert_eq!(w.name(third), "1.2");
            let Rerun::Created(newest) = w.tx.create_rerun(second, "alice", Time(w.now)).unwrap() else { panic!() };
            assert_eq!(w.tx.job(w.job("one")).unwrap().unwrap().next_build_id, Some(newest));
        });
    }

    #[test]
    fn aborting_ends_what_waits_at_once_paused_or_not() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            w.tx.pause_job(w.job("one"), "alice", Time(w.now)).unwrap();
            let build = w.tx.create_manual_build(w.job("one"), "alice", Time(w.now)).unwrap();
            assert_eq!(w.advance("one"), Advanced::default());
            w.tx.abort_build(build, Abort::Graceful).unwrap();
            assert_eq!(w.advance("one").finished, [build]);
            assert_eq!(w.status(build), Status::Aborted);
            w.tx.unpause_job(w.job("one")).unwrap();
            assert_eq!(w.advance("one").started.len(), 1);
        });
    }

    #[test]
    fn aborting_a_waiting_build_makes_no_other_at_once() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            w.advance("one");
            w.tx.save_checked(w.r, &[v(2)]).unwrap();
            let waiting = w.advance("one").created.unwrap();
            w.tx.abort_build(waiting, Abort::Graceful).unwrap();
            assert_eq!(w.advance("one"), Advanced { finished: vec![waiting], ..Advanced::default() });
        });
    }

    #[test]
    fn archiving_aborts_what_waits() {
        World::run(|w| {
            let build = w.tx.create_manual_build(w.job("one"), "alice", Time(w.now)).unwrap();
            w.tx.archive_pipeline(w.pipeline, Time(w.now)).unwrap();
            assert_eq!(w.wanting(), ["one", "two"]);
            assert_eq!(w.advance("one").finished, [build]);
        });
    }

    #[test]
    fn where_no_plan_can_be_made_the_build_is_errored() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let id = w.job("one");
            let done = w.tx.advance_job(id, &w.look(), &mut |_, _, _| None).unwrap();
            assert_eq!(done.created.as_slice(), &done.finished[..1]);
            assert_eq!(w.status(done.finished[0]), Status::Errored);
        });
    }

    #[test]
    fn a_put_is_an_output_and_moves_the_jobs_that_take_it() {
        World::run(|w| {
            w.tx.save_checked(w.r, &[v(1)]).unwrap();
            let build = w.advance("one").started[0];
            let s = w.tx.find_resource(w.pipeline, "s").unwrap().unwrap().id;
            let version = v(7);
            let made = Made { scope: w.s, version: &version, metadata: &[] };
            assert!(w.tx.add_output(build, "s", s, &made).unwrap().marked);
            assert_eq!(w.tx.build_outputs(build).unwrap()[0].version, v(7));
            assert_eq!(w.tx.latest_version(w.s).unwrap(), Some(v(7)));
        });
    }

    #[test]
    fn a_job_points_to_its_first_waiting_newest_ended_and_last_changing_build() {
        World::run(|w| {
            let pointers = |w: &World<'_>| {
                let j = w.tx.job(w.job("one")).unwrap().unwrap();
                [j.next_build_id, j.latest_completed_build_id, j.transition_build_id].map(|b| b.map(|b| b.0))
            };
            let mut builds = Vec::new();
            for (n, status) in
                [(1, Status::Succeeded), (2, Status::Succeeded), (3, Status::Failed), (4, Status::Failed)]
            {
                w.tx.save_checked(w.r, &[v(n)]).unwrap();
                let build = w.advance("one").started[0];
                assert_eq!(pointers(w)[0], Some(build.0));
                w.finish(build, status);
                builds.push(build.0);
            }
            assert_eq!(pointers(w), [None, Some(builds[3]), Some(builds[2])]);
        });
    }
}
