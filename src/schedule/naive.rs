//! The rules of input resolution written down as plainly as they go, for small worlds only: everything is tried, in
//! order, with nothing left out and nothing remembered. What the resolver is measured against.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{Input, Reason};
use super::model::{VERSIONS, World, version};
use crate::base::id::JobId;

/// A version, the builds that vouch for it, and whether there are more that were not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub version: i64,
    pub from: Vec<i64>,
    pub more: bool,
}

/// What an input gets, or why nothing.
pub type Naive = Result<Found, Reason>;

/// What each input of the world gets.
pub fn solve(world: &World) -> Vec<Naive> {
    let mut answers: Vec<Option<Naive>> = world.inputs.iter().map(|i| alone(world, i)).collect();
    while let Some(first) = answers.iter().position(Option::is_none) {
        // All that have a passed job in common with it, or with one that has.
        let mut members = BTreeSet::from([first]);
        loop {
            let jobs: BTreeSet<JobId> = members.iter().flat_map(|m| world.inputs[*m].passed.clone()).collect();
            let joined = (0..world.inputs.len()).filter(|i| !world.inputs[*i].passed.is_disjoint(&jobs)).collect();
            if joined == members {
                break;
            }
            members = joined;
        }
        let members: Vec<usize> = members.into_iter().collect();
        match together(world, &members) {
            Ok(found) => members.iter().zip(found).for_each(|(m, f)| answers[*m] = Some(Ok(f))),
            Err(reason) => members.iter().for_each(|m| answers[*m] = Some(Err(reason.clone()))),
        }
    }
    answers.into_iter().flatten().collect()
}

fn pin_of(input: &Input) -> Option<Result<i64, Reason>> {
    let pin = input.pin.as_ref()?;
    let found = VERSIONS.rev().find(|v| World::known(*v) && version(*v).contains(pin));
    Some(found.ok_or_else(|| Reason::NoPinned(pin.clone())))
}

/// An input that need not have passed anything.
fn alone(world: &World, input: &Input) -> Option<Naive> {
    if !input.passed.is_empty() {
        return None;
    }
    let found = |version: i64, more: bool| Found { version, from: vec![], more };
    if let Some(pin) = pin_of(input) {
        return Some(pin.map(|v| found(v, false)));
    }
    let enabled: Vec<i64> = VERSIONS.filter(|v| world.enabled(input.resource.0, *v)).collect();
    let used = world.newest_used(input.resource.0).filter(|_| input.every);
    let newer: Vec<i64> = enabled.iter().copied().filter(|v| used.is_some_and(|u| *v > u)).collect();
    let missing = if input.every { Reason::NoVersion } else { Reason::NoLatest };
    Some(match (newer.first(), enabled.last()) {
        (Some(next), _) => Ok(found(*next, newer.len() > 1)),
        (None, Some(newest)) => Ok(found(*newest, false)),
        (None, None) => Err(missing),
    })
}

#[derive(Debug, Clone)]
struct Candidate {
    version: i64,
    jobs: BTreeSet<JobId>,
    from: Vec<i64>,
    more: bool,
}

type Candidates = Vec<Option<Candidate>>;

struct Cluster<'a> {
    world: &'a World,
    inputs: Vec<&'a Input>,
    pins: Vec<Option<i64>>,
    used: Option<BTreeMap<JobId, super::history::Place>>,
}

fn together(world: &World, members: &[usize]) -> Result<Vec<Found>, Reason> {
    let inputs: Vec<&Input> = members.iter().map(|m| &world.inputs[*m]).collect();
    let pins = inputs.iter().map(|i| pin_of(i).transpose()).collect::<Result<_, _>>()?;
    let mut cluster = Cluster { world, inputs, pins, used: None };
    let start = vec![None; members.len()];
    let found = cluster.go_on(&start).ok_or(Reason::NoSatisfiableBuilds)?;
    let found: Vec<Candidate> = found.into_iter().flatten().collect();
    if found.len() < members.len() {
        return Err(Reason::NoSatisfiableBuilds);
    }
    Ok(found.into_iter().map(|c| Found { version: c.version, from: c.from, more: c.more }).collect())
}

impl Cluster<'_> {
    /// Finds a build for the first input and job that has none, and so on.
    fn go_on(&mut self, candidates: &Candidates) -> Option<Candidates> {
        for index in 0..self.inputs.len() {
            for job in self.inputs[index].passed.clone() {
                if candidates[index].as_ref().is_some_and(|c| c.jobs.contains(&job)) {
                    continue;
                }
                let Some(builds) = self.builds(index, job, candidates) else { continue };
                for (build, more) in builds {
                    let Some(next) = self.with(candidates, job, build, more) else { continue };
                    if next[index].as_ref().is_some_and(|c| c.jobs.contains(&job))
                        && let Some(found) = self.go_on(&next)
                    {
                        return Some(found);
                    }
                }
                return None;
            }
        }
        Some(candidates.clone())
    }

    /// Builds in the order they are tried, and whether more follow that were not used; `None` to wait for other jobs.
    fn builds(&mut self, index: usize, job: JobId, candidates: &Candidates) -> Option<Vec<(usize, bool)>> {
        let (input, fresh) = (self.inputs[index], candidates[index].is_none());
        let mut all = self.world.succeeded(job);
        if let (true, Some(pin)) = (fresh, self.pins[index]) {
            all.retain(|b| self.world.holds(*b).contains(&(input.resource.0, pin)));
        }
        if !fresh {
            let through = self.inputs.iter().zip(candidates).filter(|(i, _)| i.passed.contains(&job));
            let must: Vec<_> = through.filter_map(|(i, c)| Some((i.resource.0, c.as_ref()?.version))).collect();
            all.retain(|b| must.iter().all(|m| self.world.holds(*b).contains(m)));
        }
        if input.every {
            if self.used.is_none() {
                self.used = self.world.last_used(input.resource.0);
            }
            match self.used.as_ref().and_then(|u| u.get(&job)) {
                Some(used) => {
                    let rerun = used.origin != used.build;
                    let newer = |b: &usize| {
                        let p = self.world.place(*b);
                        if rerun { p > *used } else { p.origin > used.origin }
                    };
                    let mut first: Vec<usize> = all.iter().copied().filter(newer).collect();
                    first.reverse();
                    let count = first.len();
                    let then = all.iter().copied().filter(|b| self.world.place(*b) <= *used);
                    let first = first.iter().enumerate().map(|(n, b)| (*b, n + 1 < count)).collect::<Vec<_>>();
                    return Some(first.into_iter().chain(then.map(|b| (b, false))).collect());
                }
                None if fresh && self.used.iter().flatten().any(|(j, _)| input.passed.contains(j)) => return None,
                None => {}
            }
        }
        Some(all.into_iter().map(|b| (b, false)).collect())
    }

    /// The candidates once a build has vouched; `None` if it speaks against one of them.
    fn with(&self, candidates: &Candidates, job: JobId, build: usize, more: bool) -> Option<Candidates> {
        let mut next = candidates.clone();
        let mut done = BTreeSet::new();
        for (resource, v) in self.world.holds(build) {
            for (index, input) in self.inputs.iter().enumerate() {
                if done.contains(&index) || input.resource.0 != resource || !input.passed.contains(&job) {
                    continue;
                }
                if next[index].as_ref().is_some_and(|c| c.version != v) {
                    return None;
                }
                let off_pin = self.pins[index].is_some_and(|pin| pin != v);
                if self.world.disabled.contains(&(resource, v)) || off_pin {
                    continue;
                }
                if next[index].is_none() && !World::known(v) {
                    return Some(next);
                }
                done.insert(index);
                let start = Candidate { version: v, jobs: BTreeSet::new(), from: vec![], more: false };
                let candidate = next[index].get_or_insert(start);
                candidate.jobs.insert(job);
                candidate.from.push(build as i64 + 1);
                candidate.more |= more;
            }
        }
        Some(next)
    }
}
