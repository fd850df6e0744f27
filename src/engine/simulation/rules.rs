//! What must hold after every round, looked up in the rows themselves and not by the rules that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::{Seen, named};
use crate::base::id::{BuildId, JobId, PipelineId};
use crate::engine::Shared;
use crate::store::build::{Build, Status};
use crate::store::job::{Job, JobInputRow};
use crate::store::next_input::NextInput;
use crate::store::page::PageRequest;
use crate::store::{ReadTx, Result, build::Audience};

/// What was seen so far.
#[derive(Default)]
pub struct Rules {
    builds: Seen,
}

/// All rows that the rules look at.
struct Rows {
    builds: Seen,
    inputs: BTreeMap<BuildId, Vec<(String, String)>>,
    /// Which build held which versions of which resource, as text.
    holds: BTreeMap<BuildId, BTreeSet<(i64, String)>>,
    jobs: BTreeMap<JobId, Job>,
    job_inputs: BTreeMap<JobId, Vec<JobInputRow>>,
    next_inputs: BTreeMap<JobId, Vec<NextInput>>,
    /// Jobs that share a slot with a job, itself included.
    beside: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Builds by job.
    of_job: BTreeMap<JobId, Vec<BuildId>>,
    containers: Vec<(String, Option<BuildId>)>,
}

fn read(tx: &ReadTx<'_>) -> Result<Rows> {
    let page = PageRequest::newest(1_000_000);
    let builds = tx.builds(&Audience::All, page)?.items.into_iter().filter(|b| b.resource_id.is_none());
    let builds: Seen = builds.map(|b| (b.id, b)).collect();
    let jobs: BTreeMap<JobId, Job> = tx.jobs()?.into_iter().map(|j| (j.id, j)).collect();
    let mut rows = Rows {
        builds,
        inputs: BTreeMap::new(),
        holds: BTreeMap::new(),
        job_inputs: jobs.keys().map(|j| Ok((*j, tx.job_inputs(*j)?))).collect::<Result<_>>()?,
        next_inputs: jobs.keys().map(|j| Ok((*j, tx.next_inputs(*j)?))).collect::<Result<_>>()?,
        beside: BTreeMap::new(),
        of_job: BTreeMap::new(),
        jobs,
        containers: Vec::new(),
    };
    let mut members: BTreeMap<(PipelineId, String), BTreeSet<JobId>> = BTreeMap::new();
    for job in rows.jobs.values() {
        for group in tx.serial_groups(job.id)? {
            members.entry((job.pipeline_id, group)).or_default().insert(job.id);
        }
    }
    for jobs in members.values() {
        jobs.iter().for_each(|job| rows.beside.entry(*job).or_default().extend(jobs));
    }
    for build in rows.builds.values() {
        rows.of_job.entry(build.job_id.unwrap_or(JobId(0))).or_default().push(build.id);
    }
    let mut query = tx.prepare("select build_id, name, resource_id, version from build_inputs order by name")?;
    let mut found = query.query([])?;
    while let Some(r) = found.next()? {
        let (build, version): (BuildId, String) = (r.get(0)?, r.get(3)?);
        rows.inputs.entry(build).or_default().push((r.get(1)?, version.clone()));
        rows.holds.entry(build).or_default().insert((r.get(2)?, version));
    }
    let mut query = tx.prepare("select build_id, resource_id, version from build_outputs")?;
    let mut found = query.query([])?;
    while let Some(r) = found.next()? {
        rows.holds.entry(r.get(0)?).or_default().insert((r.get(1)?, r.get(2)?));
    }
    let mut query = tx.prepare("select handle, build_id from containers")?;
    let mut found = query.query([])?;
    while let Some(r) = found.next()? {
        rows.containers.push((r.get(0)?, r.get(1)?));
    }
    Ok(rows)
}

impl Rules {
    /// The lines of what has happened since, or the rule that is broken.
    pub async fn check(
        &mut self,
        shared: &Arc<Shared>,
        held: BTreeSet<String>,
    ) -> std::result::Result<Vec<String>, String> {
        let rows = shared.store.read(read).await.map_err(|e| e.to_string())?;
        ends_once(&self.builds, &rows)?;
        never_too_many(&rows)?;
        passed_is_kept(&self.builds, &rows)?;
        nobody_waits_in_vain(&rows)?;
        containers_end(&rows, &held)?;
        let mut lines = Vec::new();
        for build in rows.builds.values().filter(|b| self.builds.get(&b.id) != Some(b)) {
            let inputs = rows.inputs.get(&build.id).map(|i| format!("{i:?}")).unwrap_or_default();
            let pipeline = build.pipeline_name.as_deref().unwrap_or_default();
            lines.push(format!("{pipeline} {} {} {inputs}", named(build), build.status.as_str()));
        }
        // Ids of different pipelines interleave as it comes.
        lines.sort();
        self.builds = rows.builds;
        Ok(lines)
    }

    /// Each log has one end, which is the build's status, and it is the last event.
    pub async fn logs(&self, shared: &Arc<Shared>) -> std::result::Result<(), String> {
        for build in self.builds.values() {
            let mut statuses = Vec::new();
            let mut follower = shared.feed.follow(build.id, 0);
            let mut last = String::new();
            while let Some(batch) = follower.next().await {
                for frame in &batch.frames {
                    let event: serde_json::Value = serde_json::from_slice(&frame.json()).map_err(|e| e.to_string())?;
                    last = event["event"].as_str().unwrap_or_default().to_owned();
                    if last == "status" {
                        statuses.push(event["data"]["status"].as_str().unwrap_or_default().to_owned());
                    }
                }
            }
            let mut expected = vec![build.status.as_str().to_owned()];
            if build.started_at.is_some() {
                expected.insert(0, "started".to_owned());
            }
            if statuses != expected || last != "status" {
                return Err(format!("the log of {} tells {statuses:?}, and last {last}", named(build)));
            }
        }
        Ok(())
    }
}

/// A build that is over stays as it is.
fn ends_once(before: &Seen, rows: &Rows) -> std::result::Result<(), String> {
    for old in before.values().filter(|b| b.status.is_over()) {
        let new = rows.builds.get(&old.id).ok_or_else(|| format!("{} is gone", named(old)))?;
        if (new.status, new.ended_at, new.started_at) != (old.status, old.ended_at, old.started_at) {
            return Err(format!("{} ended twice: {old:?}, then {new:?}", named(old)));
        }
    }
    Ok(())
}

impl Rows {
    fn builds_of(&self, job: JobId) -> impl Iterator<Item = &Build> {
        self.of_job.get(&job).into_iter().flatten().map(move |id| &self.builds[id])
    }

    /// Builds of a job and of those that share a slot with it.
    fn builds_beside(&self, job: JobId) -> impl Iterator<Item = &Build> {
        self.beside.get(&job).into_iter().flatten().flat_map(move |job| self.builds_of(*job))
    }

    /// What takes a slot of a job at the moment.
    fn taking(&self, job: JobId) -> Vec<&Build> {
        let going_on = |b: &&Build| b.status == Status::Started || (b.status == Status::Pending && b.scheduled);
        self.builds_beside(job).filter(going_on).collect()
    }
}

/// No more builds at a time than a job allows.
fn never_too_many(rows: &Rows) -> std::result::Result<(), String> {
    for job in rows.jobs.values().filter(|j| j.config.limit() > 0) {
        let taking = rows.taking(job.id);
        if taking.len() as i64 > job.config.limit() {
            return Err(format!(
                "{} allows {}: {:?}",
                job.name,
                job.config.limit(),
                taking.iter().map(|b| named(b)).collect::<Vec<_>>()
            ));
        }
    }
    // Over time: of jobs that allow one, no build starts before the last has ended.
    for job in rows.jobs.values().filter(|j| j.config.limit() == 1) {
        let ran = |b: &Build| Some((b.started_at?, b.ended_at, named(b)));
        let mut times: Vec<_> = rows.builds_beside(job.id).filter_map(ran).collect();
        times.sort_by_key(|(started, ended, _)| (*started, ended.is_none(), *ended));
        for pair in times.windows(2) {
            if pair[0].1.is_none_or(|ended| ended > pair[1].0) {
                return Err(format!("{} and {} ran at once", pair[0].2, pair[1].2));
            }
        }
    }
    Ok(())
}

/// What a build was given has passed the jobs that its input names. Reruns have what the original had.
fn passed_is_kept(before: &Seen, rows: &Rows) -> std::result::Result<(), String> {
    let newly = |b: &&Build| b.started_at.is_some() && before.get(&b.id).is_none_or(|old| old.started_at.is_none());
    for build in rows.builds.values().filter(newly).filter(|b| b.rerun_of.is_none()) {
        let Some(inputs) = build.job_id.and_then(|j| rows.job_inputs.get(&j)) else { continue };
        let given = rows.inputs.get(&build.id).cloned().unwrap_or_default();
        for input in inputs {
            let Some((_, version)) = given.iter().find(|(name, _)| *name == input.name) else {
                return Err(format!("{} was not given {}", named(build), input.name));
            };
            for (job, name) in &input.passed {
                let vouches = |b: &&Build| {
                    let holds = rows.holds.get(&b.id);
                    b.job_id == Some(*job)
                        && b.status == Status::Succeeded
                        && b.ended_at <= build.started_at
                        && holds.is_some_and(|h| h.contains(&(input.resource_id.0, version.clone())))
                };
                if !rows.builds_of(*job).any(|b| vouches(&b)) {
                    return Err(format!("{} got {}={version}, which has not passed {name}", named(build), input.name));
                }
            }
        }
    }
    Ok(())
}

/// Who could start has started, and what wants a build has one.
fn nobody_waits_in_vain(rows: &Rows) -> std::result::Result<(), String> {
    let determined = |job: &Job| {
        let next = rows.next_inputs.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        next.len() == rows.job_inputs.get(&job.id).map_or(0, Vec::len) && next.iter().all(|i| i.version.is_ok())
    };
    let waits = |b: &&Build| b.status == Status::Pending;
    let may = |b: &Build| {
        let job = b.job_id.and_then(|j| rows.jobs.get(&j));
        job.is_some_and(|j| !j.paused && !j.pipeline_paused && (b.rerun_of.is_some() || determined(j)))
    };
    let turn = |b: &Build| (b.rerun_of.unwrap_or(b.id), b.id);
    for build in rows.builds.values().filter(waits).filter(|b| may(b)) {
        let Some(job) = build.job_id.and_then(|j| rows.jobs.get(&j)) else { continue };
        let others = rows.taking(job.id).into_iter().filter(|b| b.id != build.id).count() as i64;
        let free = job.config.limit() == 0 || others < job.config.limit();
        let before = |other: &Build| waits(&other) && turn(other) < turn(build);
        let in_the_way = rows.builds_of(job.id).any(before) || rows.builds_beside(job.id).any(|b| may(b) && before(b));
        if free && !in_the_way {
            return Err(format!("{} could start and does not: {build:?}", named(build)));
        }
    }
    for job in rows.jobs.values().filter(|j| !j.paused && !j.pipeline_paused && determined(j)) {
        let triggers = |name: &str| rows.job_inputs[&job.id].iter().any(|i| i.name == name && i.trigger);
        let wants = rows.next_inputs[&job.id].iter().any(|i| i.first_occurrence && triggers(&i.name));
        // Who aborts a waiting build gets no other until something else asks for a look at the job: the end of a build
        // does not, its start does. Ids do not tell what came last: a repetition may have been made after the build
        // that waits, and run before it.
        let newest = rows.builds_of(job.id).filter_map(|b| b.started_at).max();
        let given_up = |b: &Build| b.status == Status::Aborted && b.started_at.is_none() && b.ended_at >= newest;
        if wants && !rows.builds_of(job.id).any(|b| waits(&b) || given_up(b)) {
            let builds: Vec<_> = rows.builds_of(job.id).collect();
            return Err(format!("{} of {} has a new version and no build: {builds:?}", job.name, job.pipeline_id));
        }
        // Of those that the scheduler makes, never two wait.
        let made = rows.builds_of(job.id).filter(|b| waits(b) && !b.manual && b.rerun_of.is_none());
        if made.count() > 1 {
            return Err(format!("two builds wait that {} did not need", job.name));
        }
    }
    Ok(())
}

/// Containers belong to rows, and builds that ended well have none. Others keep theirs for visitors.
fn containers_end(rows: &Rows, held: &BTreeSet<String>) -> std::result::Result<(), String> {
    let known: BTreeSet<&String> = rows.containers.iter().map(|(handle, _)| handle).collect();
    if let Some(unknown) = held.iter().find(|h| !known.contains(h)) {
        return Err(format!("container {unknown} is in no row"));
    }
    for (handle, build) in &rows.containers {
        let build = build.and_then(|b| rows.builds.get(&b));
        let over = build.is_none_or(|b| b.status == Status::Succeeded);
        if over && held.contains(handle) {
            return Err(format!("container {handle} outlives its build"));
        }
    }
    Ok(())
}
