//! What the check and schedule passes look at, as the values that `schedule` decides on.

use super::job::Job;
use super::{ReadTx, Result};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;
use crate::pipeline::CheckEvery;
use crate::schedule::admit::{Pending, Queue, Rival, Source};
use crate::schedule::due::{Intervals, Usage, Watch, interval};
use crate::schedule::input::Input;

impl ReadTx<'_> {
    /// A job's inputs, pins of their resources included.
    pub fn schedule_inputs(&self, job: JobId) -> Result<Vec<Input>> {
        let mut query = self.prepare_cached(
            "select i.name, i.resource_id, i.passed_job_id, i.trigger, i.version, coalesce(r.config_pin, r.api_pin)
             from job_inputs i join resources r on r.id = i.resource_id where i.job_id = ? order by i.rowid",
        )?;
        let mut rows = query.query([job])?;
        let mut inputs: Vec<Input> = Vec::new();
        while let Some(r) = rows.next()? {
            let name: String = r.get(0)?;
            let passed: Option<JobId> = r.get(2)?;
            if let Some(same) = inputs.iter_mut().find(|i| i.name == name) {
                same.passed.extend(passed);
                continue;
            }
            let version: String = r.get(4)?;
            let of_resource: Option<Version> = r.get(5)?;
            inputs.push(Input {
                name,
                resource: r.get(1)?,
                passed: passed.into_iter().collect(),
                trigger: r.get(3)?,
                every: version == "every",
                pin: match version.as_str() {
                    "every" | "latest" => of_resource,
                    pin => Some(serde_json::from_str(pin)?),
                },
            });
        }
        Ok(inputs)
    }

    /// A job's waiting builds and what decides when they may start.
    pub fn schedule_queue(&self, job: &Job, intervals: &Intervals) -> Result<Queue> {
        let pending = self.waiting(job.id)?;
        if pending.is_empty() {
            return Ok(Queue::default());
        }
        let limit = usize::try_from(job.config.limit()).unwrap_or(0);
        let (holding, rivals) =
            if limit > 0 { (self.holding(job.id)?, self.rivals(job.id)?) } else { Default::default() };
        Ok(Queue {
            paused: job.paused || job.pipeline_paused,
            gone: job.pipeline_archived || !job.active,
            limit,
            holding,
            determined: job.inputs_determined,
            pending,
            rivals,
            sources: self.sources(job.id, intervals)?,
        })
    }

    fn waiting(&self, job: JobId) -> Result<Vec<Pending>> {
        let mut query = self.prepare_cached(
            "select b.id, b.rerun_of, o.started_at is not null, b.manual, b.scheduled, b.aborted, b.created_at
             from builds b indexed by builds_going_on left join builds o on o.id = b.rerun_of
             where b.job_id = ? and b.status in ('pending', 'started') and b.status = 'pending'
             order by coalesce(b.rerun_of, b.id), b.id",
        )?;
        let rows = query.query_map([job], |r| {
            Ok(Pending {
                build: r.get(0)?,
                rerun_of: r.get::<_, Option<BuildId>>(1)?.zip(Some(r.get(2)?)),
                manual: r.get(3)?,
                scheduled: r.get(4)?,
                aborted: r.get::<_, i64>(5)? != 0,
                created_at: r.get(6)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Builds that hold a slot of the job's serial groups.
    fn holding(&self, job: JobId) -> Result<Vec<BuildId>> {
        let mut query = self.prepare_cached(
            "select id from builds indexed by builds_going_on where status in ('pending', 'started') and scheduled = 1 and job_id in (
               select other.job_id from serial_groups mine
                 join serial_groups other on other.pipeline_id = mine.pipeline_id and other.name = mine.name
               where mine.job_id = ?) order by id",
        )?;
        Ok(query.query_map([job], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The first waiting build without a slot of each other job of its serial groups.
    fn rivals(&self, job: JobId) -> Result<Vec<Rival>> {
        let mut query = self.prepare_cached(
            "select b.job_id, b.id, b.rerun_of, j.paused, j.inputs_determined
             from builds b indexed by builds_going_on join jobs j on j.id = b.job_id
             where b.status in ('pending', 'started') and b.status = 'pending' and b.scheduled = 0 and b.job_id in (
               select other.job_id from serial_groups mine
                 join serial_groups other on other.pipeline_id = mine.pipeline_id and other.name = mine.name
               where mine.job_id = ?1 and other.job_id <> ?1)
             order by b.job_id, coalesce(b.rerun_of, b.id), b.id",
        )?;
        let rows = query.query_map([job], |r| {
            Ok(Rival {
                job: r.get(0)?,
                build: r.get(1)?,
                rerun_of: r.get(2)?,
                paused: r.get(3)?,
                determined: r.get(4)?,
            })
        })?;
        let mut rivals = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        rivals.dedup_by_key(|r| r.job);
        Ok(rivals)
    }

    /// Inputs that need not have passed a job and whose resources are not pinned.
    fn sources(&self, job: JobId, intervals: &Intervals) -> Result<Vec<Source>> {
        let mut query = self.prepare_cached(
            "select r.id, i.trigger,
               max(iif(s.last_check_ended >= s.last_check_started, s.last_check_started, 0), r.last_attempt_started),
               max(s.last_check_ended, r.last_attempt),
               coalesce(r.config ->> '$.check_every', ''), coalesce(r.config ->> '$.webhook_token', '') <> ''
             from job_inputs i join resources r on r.id = i.resource_id left join scopes s on s.id = r.scope_id
             where i.job_id = ? and i.passed_job_id is null and r.config_pin is null and r.api_pin is null",
        )?;
        let rows = query.query_map([job], |r| {
            let every = interval(every(&r.get::<_, String>(4)?), r.get(5)?, intervals);
            let ended = r.get::<_, Option<Time>>(3)?.and_then(at);
            Ok(Source {
                resource: r.get(0)?,
                trigger: r.get(1)?,
                began: r.get::<_, Option<Time>>(2)?.and_then(at),
                // What is never due by itself is due as soon as a build wants it.
                next_check: ended.map(|at| at.plus(every.unwrap_or_default())),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Active resources of pipelines that go on, for deciding what is checked.
    pub fn watches(&self) -> Result<Vec<Watch>> {
        self.watches_of(None)
    }

    /// One of them, whether its pipeline goes on or not.
    pub fn watch(&self, resource: ResourceId) -> Result<Option<Watch>> {
        Ok(self.watches_of(Some(resource))?.pop())
    }

    fn watches_of(&self, one: Option<ResourceId>) -> Result<Vec<Watch>> {
        let mut query = self.prepare_cached(
            "select r.id, (select max(i.trigger) from job_inputs i where i.resource_id = r.id and i.passed_job_id is null),
               max(coalesce(s.last_check_ended, 0), r.last_attempt),
               coalesce(s.last_check_succeeded, 0) and r.last_attempt_error = '',
               exists (select 1 from versions v where v.scope_id = r.scope_id),
               coalesce(r.config_pin, r.api_pin), coalesce(r.config ->> '$.check_every', ''),
               coalesce(r.config ->> '$.webhook_token', '') <> '', r.check_requested > r.last_check_answered, r.scope_id,
               p.paused or p.archived
             from resources r join pipelines p on p.id = r.pipeline_id left join scopes s on s.id = r.scope_id
             where r.active = 1 and (r.id = ?1 or (?1 is null and p.paused = 0 and p.archived = 0))",
        )?;
        let mut rows = query.query([one])?;
        let mut watches = Vec::new();
        while let Some(r) = rows.next()? {
            let usage = match r.get::<_, Option<bool>>(1)? {
                Some(true) => Usage::Triggers,
                Some(false) => Usage::Gets,
                None => Usage::Rest,
            };
            let pin: Option<Version> = r.get(5)?;
            let pin_missing = match (usage, pin, r.get(9)?) {
                (Usage::Gets, Some(pin), Some(scope)) => self.newest_containing(scope, &pin)?.is_none(),
                (Usage::Gets, Some(_), None) => true,
                _ => false,
            };
            watches.push(Watch {
                resource: r.get(0)?,
                paused: r.get(10)?,
                usage,
                checked: at(r.get(2)?),
                succeeded: r.get(3)?,
                has_versions: r.get(4)?,
                pin_missing,
                every: every(&r.get::<_, String>(6)?),
                webhook: r.get(7)?,
                requested: r.get(8)?,
            });
        }
        Ok(watches)
    }
}

/// Zero stands for never.
fn at(time: Time) -> Option<Time> {
    (time.0 > 0).then_some(time)
}

/// None for `never`; zero for the server's default.
fn every(text: &str) -> Option<std::time::Duration> {
    match CheckEvery::parse(text) {
        Ok(CheckEvery::Never) => None,
        Ok(every) => Some(every.interval().unwrap_or_default()),
        Err(_) => Some(std::time::Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::store::advance::Look;
    use crate::store::fixture::{scoped, set, store, v};

    #[test]
    fn watches_say_how_resources_are_used_and_when_they_were_checked() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(
                    tx,
                    "p",
                    json!({"resources": [
                        {"name": "a", "type": "mock", "check_every": "10s"},
                        {"name": "b", "type": "mock", "check_every": "never", "version": {"v": "9"}},
                        {"name": "c", "type": "mock", "webhook_token": "x"}],
                    "jobs": [
                        {"name": "one", "plan": [{"get": "a", "trigger": true}, {"get": "b"}]},
                        {"name": "two", "plan": [{"get": "a", "passed": ["one"]}, {"put": "c"}]}]}),
                )?;
                let (_, scope) = scoped(tx, p, "b");
                tx.save_checked(scope, &[v(1)])?;
                tx.check_ended(scope, None, Time(50))?;
                let c = tx.find_resource(p, "c")?.unwrap().id;
                tx.checked(c, "boom", Time(58), Time(60))?;
                tx.request_check(c, true, Time(70))?;
                let all = tx.watches()?;
                let usages: Vec<_> = all.iter().map(|w| w.usage).collect();
                assert_eq!(usages, [Usage::Triggers, Usage::Gets, Usage::Rest]);
                assert_eq!(all.iter().map(|w| w.checked).collect::<Vec<_>>(), [None, Some(Time(50)), Some(Time(60))]);
                assert_eq!(all.iter().map(|w| w.succeeded).collect::<Vec<_>>(), [false, true, false]);
                let every: Vec<_> = all.iter().map(|w| w.every).collect();
                assert_eq!(every, [Some(Duration::from_secs(10)), None, Some(Duration::ZERO)]);
                assert!(all[1].pin_missing && all[1].has_versions && all[2].webhook && all[2].requested);
                assert_eq!(tx.resource(c)?.unwrap().last_check_error, "boom");

                // An answer to the first request does not answer the second.
                let requested = tx.resource(c)?.unwrap().check_requested;
                tx.request_check(c, true, Time(70))?;
                tx.answer_check(c, requested)?;
                assert!(tx.watches()?[2].requested);
                tx.answer_check(c, tx.resource(c)?.unwrap().check_requested)?;
                assert!(!tx.watches()?[2].requested);

                tx.save_checked(scope, &[v(9)])?;
                assert!(!tx.watches()?[1].pin_missing);
                tx.pause_pipeline(p, "alice", Time(1))?;
                assert!(tx.watches()?.is_empty());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn jobs_of_a_serial_group_wait_for_each_other() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let usual = Duration::from_secs(60);
                let intervals = Intervals { usual, webhook: usual };
                let at = Look { intervals: &intervals, now: Time(2), given: None };
                let p = set(
                    tx,
                    "p",
                    json!({"jobs": [{"name": "x", "serial_groups": ["g"], "plan": []}, {"name": "y", "serial_groups": ["g"], "plan": []}]}),
                )?;
                let (x, y) = (crate::store::fixture::job(tx, p, "x"), crate::store::fixture::job(tx, p, "y"));
                let first = tx.create_manual_build(y, "alice", Time(1))?;
                let second = tx.create_manual_build(x, "alice", Time(1))?;
                let mut plan = |_: &Job, _: BuildId, _: &[crate::store::finish::StartInput]| Some((String::new(), String::new()));
                let mut look = |job| tx.advance_job(job, &at, &mut plan).unwrap().started;
                assert_eq!(look(x), [second], "nobody has looked yet whether y has its versions");
                assert_eq!(look(y), []);
                tx.finish_build(second, crate::store::build::Status::Failed, Time(3))?;
                assert_eq!(tx.jobs_wanting_schedule()?.len(), 2, "the slot is free for both");
                let third = tx.create_manual_build(x, "alice", Time(4))?;
                assert_eq!(look(x), [], "y was first");
                assert_eq!(look(y), [first]);
                tx.finish_build(first, crate::store::build::Status::Failed, Time(5))?;
                assert_eq!(look(x), [third]);
                Ok(())
            })
            .unwrap();
    }
}
