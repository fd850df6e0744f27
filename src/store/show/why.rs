//! Why something waits, since when, and what would move it. The facts are those that the resolver, the admission rule
//! and the check rule decide by; here they get names and words.

use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId};
use crate::base::version::Version;
use crate::schedule::admit::{Blocked, why_not};
use crate::schedule::due::{Intervals, Standing, Usage, standing};
use crate::schedule::input::Passage;
use crate::store::build::{Build, Status};
use crate::store::job::{Job, JobInputRow};
use crate::store::next_input::NextInput;
use crate::store::resource::Resource;
use crate::store::{ReadTx, Result};

/// What a reason is about, by name: where somebody can do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The pipeline.
    Pipeline,
    /// A job of it.
    Job(String),
    /// A resource of it, and the input that gets it.
    Input {
        /// Name of the get step.
        input: String,
        /// What it gets.
        resource: String,
    },
    /// A resource of it.
    Resource(String),
    /// A build of one of its jobs.
    Build {
        /// The job.
        job: String,
        /// The build's name.
        build: String,
    },
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// What it is about.
    pub about: About,
    /// Why it waits, in one sentence.
    pub text: String,
    /// Since when.
    pub since: Option<Time>,
    /// What would move it.
    pub moved_by: String,
}

/// `ref: abc, branch: main`
fn words(version: &Version) -> String {
    version.0.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", ")
}

/// `a`, `a and b`, `a, b and c`
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

impl ReadTx<'_> {
    /// Why a build has not started; nothing for one that has, or that starts with the next look at its job.
    pub fn why_build(&self, id: BuildId, intervals: &Intervals) -> Result<Vec<Why>> {
        let Some(build) = self.build(id)?.filter(|b| b.status == Status::Pending) else { return Ok(Vec::new()) };
        let Some(job) = build.job_id.map(|j| self.job(j)).transpose()?.flatten() else { return Ok(Vec::new()) };
        let blocked = why_not(&self.schedule_queue(&job, intervals)?, id);
        let since = Some(build.created_at);
        let mut all = Vec::new();
        match blocked {
            None => {}
            Some(Blocked::Paused) => all.extend(self.why_paused(&job)?),
            Some(Blocked::Full(holders)) => all.push(self.why_full(&job, &holders, since)?),
            Some(Blocked::Behind(first)) => all.extend(self.why_behind(&job, first, since)?),
            Some(Blocked::Checks(resources)) => {
                for resource in resources {
                    all.extend(self.why_checked(&job, resource, since)?);
                }
            }
            Some(Blocked::NothingToRepeat) => all.push(Why {
                about: About::Job(job.name.clone()),
                text: "the build that it repeats never had its inputs".to_owned(),
                since,
                moved_by: format!("nothing: abort it and trigger {}", job.name),
            }),
            Some(Blocked::NoInputs) => return self.why_inputs(&job),
        }
        if build.rerun_of.is_none() {
            all.extend(self.why_inputs(&job)?);
        }
        Ok(all)
    }

    /// Why a job has no build that runs: what its first waiting build waits for, or what keeps it from having one.
    pub fn why_job(&self, job: &Job, intervals: &Intervals) -> Result<Vec<Why>> {
        if let Some(first) = self.pending_builds(job.id)?.first() {
            return self.why_build(first.id, intervals);
        }
        let mut all = self.why_paused(job)?;
        all.extend(self.why_inputs(job)?);
        if !self.job_inputs(job.id)?.iter().any(|i| i.trigger) {
            all.push(Why {
                about: About::Job(job.name.clone()),
                text: "none of its inputs triggers it".to_owned(),
                since: None,
                moved_by: match job.config.disable_manual_trigger {
                    true => "trigger: true on one of its gets".to_owned(),
                    false => format!("triggering {} by hand", job.name),
                },
            });
        }
        Ok(all)
    }

    fn why_paused(&self, job: &Job) -> Result<Vec<Why>> {
        let by = |by: Option<&str>| by.map(|by| format!(" by {by}")).unwrap_or_default();
        let mut all = Vec::new();
        if let Some(pipeline) = self.pipeline(job.pipeline_id)?.filter(|p| p.paused) {
            all.push(Why {
                about: About::Pipeline,
                text: match pipeline.archived {
                    true => "the pipeline is archived".to_owned(),
                    false => format!("the pipeline is paused{}", by(pipeline.paused_by.as_deref())),
                },
                since: pipeline.paused_at,
                moved_by: match pipeline.archived {
                    true => "setting the pipeline again".to_owned(),
                    false => "unpausing the pipeline".to_owned(),
                },
            });
        }
        if job.paused {
            all.push(Why {
                about: About::Job(job.name.clone()),
                text: format!("the job is paused{}", by(job.paused_by.as_deref())),
                since: job.paused_at,
                moved_by: format!("unpausing {}", job.name),
            });
        }
        Ok(all)
    }

    fn name_build(&self, id: BuildId) -> Result<Option<(String, Build)>> {
        Ok(self.build(id)?.map(|b| (b.job_name.clone().unwrap_or_default(), b)))
    }

    fn why_full(&self, job: &Job, holders: &[BuildId], since: Option<Time>) -> Result<Why> {
        let mut holding = Vec::new();
        for id in holders {
            holding.extend(self.name_build(*id)?);
        }
        let names: Vec<String> = holding.iter().map(|(job, b)| format!("{job} #{}", b.name)).collect();
        let limit = match (job.config.serial_groups.as_slice(), job.config.limit()) {
            ([], 1) => format!("{} runs one build at a time", job.name),
            ([], limit) => format!("{} runs {limit} builds at a time (max_in_flight)", job.name),
            (groups, _) => format!("jobs of the serial group {} run one build at a time", listed(groups)),
        };
        // It has been so since the last of them started.
        let since = holding.iter().filter_map(|(_, b)| b.started_at).max().max(since);
        let about = match holding.first() {
            Some((job, b)) => About::Build { job: job.clone(), build: b.name.clone() },
            None => About::Job(job.name.clone()),
        };
        let one_of = if names.len() > 1 { "the end of one of " } else { "the end of " };
        let verb = if names.len() > 1 { "have the slots" } else { "has the slot" };
        Ok(Why {
            about,
            text: format!("{limit}, and {} {verb}", listed(&names)),
            since,
            moved_by: format!("{one_of}{}", listed(&names)),
        })
    }

    fn why_behind(&self, job: &Job, first: BuildId, since: Option<Time>) -> Result<Option<Why>> {
        let Some((name, build)) = self.name_build(first)? else { return Ok(None) };
        let text = match name == job.name {
            true => format!("#{} of this job was there before", build.name),
            false => format!("{name} #{} of the same serial group was there before", build.name),
        };
        let moved_by = format!("the start of {name} #{}", build.name);
        Ok(Some(Why { about: About::Build { job: name, build: build.name }, text, since, moved_by }))
    }

    fn why_checked(&self, job: &Job, resource: ResourceId, since: Option<Time>) -> Result<Option<Why>> {
        let Some(resource) = self.resource(resource)? else { return Ok(None) };
        let inputs = self.job_inputs(job.id)?;
        let input = inputs.into_iter().find(|i| i.resource_id == resource.id && i.passed.is_empty());
        Ok(input.map(|input| Why {
            about: About::Input { input: input.name, resource: resource.name.clone() },
            text: format!("{} is checked for versions newer than the build", resource.name),
            since,
            moved_by: format!("the end of the check of {}", resource.name),
        }))
    }

    /// The inputs of a job that have no version.
    fn why_inputs(&self, job: &Job) -> Result<Vec<Why>> {
        let inputs = self.job_inputs(job.id)?;
        let mut all = Vec::new();
        for next in self.next_inputs(job.id)? {
            if let (Err(reason), Some(input)) = (&next.version, inputs.iter().find(|i| i.name == next.name)) {
                let (text, moved_by) = self.why_input(input, &next, reason)?;
                let about = About::Input { input: input.name.clone(), resource: input.resource_name.clone() };
                all.push(Why { about, text, since: Some(next.since).filter(|t| t.0 > 0), moved_by });
            }
        }
        Ok(all)
    }

    fn why_input(&self, input: &JobInputRow, next: &NextInput, reason: &str) -> Result<(String, String)> {
        let name = &input.resource_name;
        let Some(resource) = self.resource(input.resource_id)? else { return Ok((reason.to_owned(), String::new())) };
        if !next.passages.is_empty() {
            return Ok(passed(name, &next.passages, &input.passed));
        }
        // What it said can hold what is nobody else's business.
        let failed = |otherwise: String| match resource.last_check_error.as_str() {
            "" => otherwise,
            _ => format!("a check of {name} that succeeds: the last one failed"),
        };
        let pin = match input.version.as_str() {
            "every" | "latest" => resource.pin().cloned(),
            pinned => serde_json::from_str(pinned).ok(),
        };
        if let Some(pin) = pin {
            let otherwise = match (input.version.as_str(), resource.config_pin.is_some()) {
                ("every" | "latest", false) => format!("unpinning {name}, or a check that finds it"),
                ("every" | "latest", true) => {
                    format!("another version: of {name} in the configuration, or a check that finds it")
                }
                _ => format!("another version: on the get of {}, or a check that finds it", input.name),
            };
            return Ok((format!("{name} is pinned to {}, which no check has found", words(&pin)), failed(otherwise)));
        }
        let any = match resource.scope_id {
            Some(scope) => self.latest_version(scope)?.is_some(),
            None => false,
        };
        Ok(match (any, resource.last_check_ended.0 > 0) {
            (true, _) => (format!("all versions of {name} are disabled"), format!("enabling a version of {name}")),
            (false, true) => {
                (format!("no check of {name} has found a version"), failed(format!("a check of {name} that finds one")))
            }
            (false, false) => (format!("{name} has not been checked yet"), format!("the first check of {name}")),
        })
    }

    /// Why a resource is not checked now, and when it is.
    pub fn why_resource(&self, resource: &Resource, intervals: &Intervals, now: Time) -> Result<Option<Why>> {
        let Some(watch) = self.watch(resource.id)? else { return Ok(None) };
        let name = &resource.name;
        let about = About::Resource(name.clone());
        let asked = format!("asking for a check of {name}, or a build that gets it");
        let (text, since, moved_by) = match standing(now, &watch, intervals) {
            Standing::Paused => return self.why_not_watched(resource.pipeline_id),
            Standing::Asked | Standing::Due => return Ok(None),
            Standing::At(at) => (
                format!(
                    "{name} is checked every {}",
                    crate::base::duration::format(at.since(watch.checked.unwrap_or(now)))
                ),
                watch.checked,
                format!("the next check, due in {}", crate::base::duration::format(at.since(now))),
            ),
            Standing::Never => {
                ("check_every is never: it is checked only when wanted".to_owned(), watch.checked, asked)
            }
            Standing::WhenWanted => (
                match watch.usage {
                    Usage::Rest => {
                        "no job gets it without its having passed another: it is checked only when asked for".to_owned()
                    }
                    _ => "it triggers no job: it is checked when a build is about to get it".to_owned(),
                },
                watch.checked,
                asked,
            ),
        };
        Ok(Some(Why { about, text, since, moved_by }))
    }

    fn why_not_watched(&self, pipeline: PipelineId) -> Result<Option<Why>> {
        let by = |by: Option<String>| by.map(|by| format!(" by {by}")).unwrap_or_default();
        Ok(self.pipeline(pipeline)?.map(|p| Why {
            about: About::Pipeline,
            text: match p.archived {
                true => "the pipeline is archived, so nothing is checked".to_owned(),
                false => format!("the pipeline is paused{}, so nothing is checked", by(p.paused_by)),
            },
            since: p.paused_at,
            moved_by: if p.archived { "setting the pipeline again" } else { "unpausing the pipeline" }.to_owned(),
        }))
    }
}

/// An input that no version of its resource can satisfy, and which job would have to move.
fn passed(resource: &str, passages: &[Passage], jobs: &[(JobId, String)]) -> (String, String) {
    let name = |job: JobId| jobs.iter().find(|(id, _)| *id == job).map_or("a job", |(_, name)| name.as_str());
    let told: Vec<String> = passages
        .iter()
        .map(|p| match (&p.build, &p.version) {
            (None, _) => format!("{} has not succeeded yet", name(p.job)),
            (Some(_), None) => format!("the last success of {} had none", name(p.job)),
            (Some(_), Some(v)) if !p.usable => format!("{} had {} last, which cannot be used", name(p.job), words(v)),
            (Some(_), Some(v)) => format!("{} had {} last", name(p.job), words(v)),
        })
        .collect();
    let lagging: Vec<String> =
        passages.iter().filter(|p| p.version.is_none() || !p.usable).map(|p| name(p.job).to_owned()).collect();
    let all: Vec<String> = passages.iter().map(|p| name(p.job).to_owned()).collect();
    let moved_by = match lagging.as_slice() {
        [] if all.len() == 1 => format!("a success of {} with inputs that go together", listed(&all)),
        [] => format!("successes of {} with the same inputs", listed(&all)),
        lagging => format!("a success of {} with a version of {resource} that can be used", listed(lagging)),
    };
    (format!("no version of {resource} has passed {}: {}", listed(&all), told.join("; ")), moved_by)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::base::id::ScopeId;
    use crate::store::WriteTx;
    use crate::store::advance::Look;
    use crate::store::fixture::{job, scoped, set, store, v};

    const INTERVALS: Intervals = Intervals { usual: Duration::from_secs(60), webhook: Duration::from_secs(60) };

    struct World<'a> {
        tx: &'a WriteTx<'a>,
        pipeline: PipelineId,
        r: ResourceId,
        scope: ScopeId,
        now: i64,
    }

    impl World<'_> {
        fn run(f: impl FnOnce(&mut World<'_>)) {
            let (store, _dir) = store();
            store
                .write_blocking(|tx| {
                    let both = json!([{"get": "r", "passed": ["unit", "lint"], "trigger": true}]);
                    let pipeline = set(
                        tx,
                        "p",
                        json!({"resources": [{"name": "r", "type": "mock"}], "jobs": [
                            {"name": "unit", "serial": true, "plan": [{"get": "r", "trigger": true}]},
                            {"name": "lint", "serial_groups": ["g"], "plan": [{"get": "r"}]},
                            {"name": "docs", "serial_groups": ["g"], "plan": []},
                            {"name": "ship", "plan": both}]}),
                    )?;
                    let (r, scope) = scoped(tx, pipeline, "r");
                    f(&mut World { tx, pipeline, r, scope, now: 10_000 });
                    Ok(())
                })
                .unwrap();
        }

        fn checked(&mut self) {
            self.now += 1000;
            self.tx.check_started(self.scope, Time(self.now)).unwrap();
            self.tx.check_ended(self.scope, None, Time(self.now)).unwrap();
        }

        fn look(&mut self, name: &str) -> Vec<BuildId> {
            self.now += 1000;
            let look = Look { intervals: &INTERVALS, now: Time(self.now), given: None };
            let plan = &mut |_: &Job, _: BuildId, _: &[_]| Some((String::new(), String::new()));
            self.tx.advance_job(job(self.tx, self.pipeline, name), &look, plan).unwrap().started
        }

        fn trigger(&mut self, name: &str) -> BuildId {
            self.now += 1000;
            self.tx.create_manual_build(job(self.tx, self.pipeline, name), "alice", Time(self.now)).unwrap()
        }

        /// `text; since second N; moved by …` of a job's first waiting build, or of the job.
        fn says(&self, name: &str) -> Vec<String> {
            let row = self.tx.job(job(self.tx, self.pipeline, name)).unwrap().unwrap();
            self.tx.why_job(&row, &INTERVALS).unwrap().into_iter().map(told).collect()
        }

        fn checks(&self) -> Option<String> {
            let row = self.tx.resource(self.r).unwrap().unwrap();
            self.tx.why_resource(&row, &INTERVALS, Time(self.now)).unwrap().map(told)
        }
    }

    fn told(why: Why) -> String {
        let since = why.since.map(|at| format!("; since {}", at.0 / 1000)).unwrap_or_default();
        format!("{}{since}; moved by {}", why.text, why.moved_by)
    }

    #[test]
    fn inputs_say_what_they_lack() {
        World::run(|w| {
            w.look("unit");
            assert_eq!(w.says("unit"), ["r has not been checked yet; since 11; moved by the first check of r"]);
            w.checked();
            w.look("unit");
            let nothing = "no check of r has found a version; since 11; moved by a check of r that finds one";
            assert_eq!(w.says("unit"), [nothing], "the time is that of the first look");
            w.tx.save_checked(w.scope, &[v(1), v(2)]).unwrap();
            w.look("ship");
            assert_eq!(
                w.says("ship"),
                ["no version of r has passed unit and lint: unit has not succeeded yet; lint has not succeeded yet; \
                  since 14; moved by a success of unit and lint with a version of r that can be used"]
            );
            for (name, n) in [("unit", 2), ("lint", 1)] {
                let build = w.trigger(name);
                w.checked();
                let at = w.tx.find_version(w.r, &v(n)).unwrap().unwrap().id;
                w.tx.pin_version(w.r, at).unwrap();
                assert_eq!(w.look(name), [build]);
                w.tx.finish_build(build, Status::Succeeded, Time(w.now)).unwrap();
                w.tx.unpin(w.r).unwrap();
            }
            w.look("ship");
            assert_eq!(
                w.says("ship"),
                ["no version of r has passed unit and lint: unit had v: 2 last; lint had v: 1 last; since 14; \
                  moved by successes of unit and lint with the same inputs"]
            );
            for n in [1, 2] {
                let at = w.tx.find_version(w.r, &v(n)).unwrap().unwrap().id;
                w.tx.set_version_enabled(w.r, at, false).unwrap();
            }
            w.look("unit");
            let disabled = "all versions of r are disabled";
            assert!(w.says("unit")[0].starts_with(disabled), "{:?}", w.says("unit"));
        });
    }

    #[test]
    fn waiting_builds_say_who_is_in_the_way() {
        World::run(|w| {
            w.tx.save_checked(w.scope, &[v(1)]).unwrap();
            let build = w.trigger("docs");
            assert_eq!(w.look("docs"), [build]);
            w.trigger("lint");
            w.checked();
            w.look("lint");
            assert_eq!(
                w.says("lint"),
                ["jobs of the serial group g run one build at a time, and docs #1 has the slot; since 13; \
                  moved by the end of docs #1"]
            );
            w.trigger("unit");
            let first = w.says("unit");
            assert_eq!(
                first[0],
                "r is checked for versions newer than the build; since 16; moved by the end of the check of r"
            );
            w.checked();
            w.look("unit");
            w.trigger("unit");
            w.checked();
            w.look("unit");
            let full = "unit runs one build at a time, and unit #1 has the slot";
            assert!(w.says("unit")[0].starts_with(full), "{:?}", w.says("unit"));
            w.tx.pause_job(job(w.tx, w.pipeline, "unit"), "alice", Time(20_000)).unwrap();
            assert_eq!(w.says("unit"), ["the job is paused by alice; since 20; moved by unpausing unit"]);
            w.tx.pause_pipeline(w.pipeline, "bob", Time(30_000)).unwrap();
            assert_eq!(w.says("unit")[0], "the pipeline is paused by bob; since 30; moved by unpausing the pipeline");
        });
    }

    #[test]
    fn resources_say_when_they_are_checked() {
        World::run(|w| {
            assert_eq!(w.checks(), None, "it is due");
            w.checked();
            w.now += 20_000;
            assert_eq!(w.checks().unwrap(), "r is checked every 1m0s; since 11; moved by the next check, due in 40s");
            w.tx.request_check(w.r, true, Time(w.now)).unwrap();
            assert_eq!(w.checks(), None, "it was asked for");
            w.tx.pause_pipeline(w.pipeline, "bob", Time(30_000)).unwrap();
            let paused =
                "the pipeline is paused by bob, so nothing is checked; since 30; moved by unpausing the pipeline";
            assert_eq!(w.checks().unwrap(), paused);
        });
    }
}
