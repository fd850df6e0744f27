//! A small world held in memory: answers the resolver's questions by looking at everything, and says by trying every
//! combination whether a set of inputs can be satisfied. The measure for the resolver, and for the queries.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;

use super::history::{Heard, Held, History, Holding, News, Place, Walk};
use super::input::{Chosen, Decision, Input, Picked, Reason, Resolution};
use super::memory::Memory;
use super::naive::{self, Naive};
use super::resolve;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;

/// The job whose inputs are resolved.
pub const OWN: JobId = JobId(1);
/// Jobs its inputs may have to pass.
pub const UPSTREAM: std::ops::RangeInclusive<i64> = 2..=4;
/// Resources of the world.
pub const RESOURCES: std::ops::RangeInclusive<i64> = 1..=2;
/// The job's inputs, two of them of one resource.
pub const INPUTS: [(&str, i64); 3] = [("r1", 1), ("r2", 2), ("also r1", 1)];
/// Versions that builds may hold; the last is in no history any more.
pub const VERSIONS: std::ops::RangeInclusive<i64> = 1..=4;

/// A build of the world; ids count from 1 in its list.
#[derive(Debug, Clone)]
pub struct Built {
    pub job: i64,
    pub succeeded: bool,
    pub rerun_of: Option<usize>,
    pub outputs: BTreeSet<(i64, i64)>,
    pub inputs: BTreeMap<i64, i64>,
    pub from: BTreeSet<usize>,
}

/// All there is.
#[derive(Debug, Clone)]
pub struct World {
    pub builds: Vec<Built>,
    pub disabled: BTreeSet<(i64, i64)>,
    pub inputs: Vec<Input>,
}

/// The version `{"v": n}`.
pub fn version(n: i64) -> Version {
    Version::from([("v", n.to_string().as_str())])
}

impl World {
    pub fn known(v: i64) -> bool {
        v < *VERSIONS.end()
    }

    pub fn enabled(&self, resource: i64, v: i64) -> bool {
        Self::known(v) && !self.disabled.contains(&(resource, v))
    }

    pub fn place(&self, index: usize) -> Place {
        let origin = self.builds[index].rerun_of.unwrap_or(index);
        Place { origin: BuildId(origin as i64 + 1), build: BuildId(index as i64 + 1) }
    }

    pub fn holds(&self, index: usize) -> Vec<(i64, i64)> {
        let b = &self.builds[index];
        let mut holds: Vec<(i64, i64)> = Vec::new();
        for r in RESOURCES {
            let mut made: Vec<_> = b.outputs.iter().filter(|(o, _)| *o == r).copied().collect();
            // Of two that it made, any may come first, but always the same.
            made.sort_by_key(|(_, v)| version(*v).digest());
            for h in made.into_iter().chain(b.inputs.get(&r).map(|v| (r, *v))) {
                if !holds.contains(&h) {
                    holds.push(h);
                }
            }
        }
        holds
    }

    /// Newest first.
    pub fn succeeded(&self, job: JobId) -> Vec<usize> {
        let mut of_job: Vec<usize> =
            (0..self.builds.len()).filter(|i| self.builds[*i].job == job.0 && self.builds[*i].succeeded).collect();
        of_job.sort_by_key(|i| std::cmp::Reverse(self.place(*i)));
        of_job
    }

    pub fn newest_used(&self, resource: i64) -> Option<i64> {
        let own = self.builds.iter().filter(|b| b.job == OWN.0);
        own.filter_map(|b| b.inputs.get(&resource)).copied().filter(|v| Self::known(*v)).max()
    }

    fn picked(&self, v: Option<i64>) -> Option<Picked> {
        v.map(|v| Picked::from(version(v)))
    }

    /// The upstream builds of the newest own build with the newest version.
    pub fn last_used(&self, resource: i64) -> Option<BTreeMap<JobId, Place>> {
        let used = self.newest_used(resource)?;
        let own = |i: &usize| self.builds[*i].job == OWN.0 && self.builds[*i].inputs.get(&resource) == Some(&used);
        let build = (0..self.builds.len()).rev().find(own)?;
        let mut last: BTreeMap<JobId, Place> = BTreeMap::new();
        for from in &self.builds[build].from {
            let (job, place) = (JobId(self.builds[*from].job), self.place(*from));
            last.entry(job).and_modify(|p| *p = place.max(*p)).or_insert(place);
        }
        Some(last)
    }

    /// What the resolver says of this world.
    pub fn resolve(&self) -> Resolution {
        self.decide(&BTreeMap::new()).resolution
    }

    /// The same, knowing what it remembered.
    pub fn decide(&self, memories: &BTreeMap<String, Memory>) -> Decision {
        let Ok(decision) = resolve(&self.inputs, &mut Asked { world: self, questions: 0 }, memories);
        decision
    }

    /// As it was when it had so many builds.
    fn at(&self, builds: usize) -> World {
        World { builds: self.builds[..builds].to_vec(), ..self.clone() }
    }

    /// Whether a succeeded build of the job gives exactly these versions to the inputs that must have passed it.
    fn vouches(&self, build: usize, job: JobId, given: &[(usize, i64)]) -> bool {
        let holds = self.holds(build);
        given.iter().filter(|(i, _)| self.inputs[*i].passed.contains(&job)).all(|(i, v)| {
            let r = self.inputs[*i].resource.0;
            holds.contains(&(r, *v)) && self.enabled(r, *v)
        })
    }

    /// Whether versions for all inputs with passed jobs can be found, by trying all.
    fn satisfiable(&self, given: &mut Vec<(usize, i64)>) -> bool {
        let Some(next) =
            (0..self.inputs.len()).find(|i| !self.inputs[*i].passed.is_empty() && !given.iter().any(|(g, _)| g == i))
        else {
            let jobs: BTreeSet<JobId> = self.inputs.iter().flat_map(|i| i.passed.clone()).collect();
            return jobs.iter().all(|job| self.succeeded(*job).iter().any(|b| self.vouches(*b, *job, given)));
        };
        VERSIONS.into_iter().any(|v| {
            let pinned = self.inputs[next].pin.as_ref().is_some_and(|p| *p != version(v));
            given.push((next, v));
            let yes = !pinned && self.enabled(self.inputs[next].resource.0, v) && self.satisfiable(given);
            given.pop();
            yes
        })
    }

    /// Whether every succeeded build holds all resources, as they do where their jobs get and put all of them.
    fn is_full(&self) -> bool {
        let mut succeeded = (0..self.builds.len()).filter(|i| self.builds[*i].succeeded);
        let all: BTreeSet<i64> = RESOURCES.collect();
        succeeded.all(|i| self.holds(i).iter().map(|(held, _)| *held).collect::<BTreeSet<_>>() == all)
    }

    /// Whether these builds vouch for these versions, all of them together.
    fn is_consistent(&self, chosen: &[Chosen]) -> bool {
        let of = |name: &str| self.inputs.iter().position(|i| i.name == name).expect("a chosen input is an input");
        chosen.iter().filter(|c| !self.inputs[of(&c.input)].passed.is_empty()).all(|c| {
            let input = &self.inputs[of(&c.input)];
            let jobs: BTreeSet<JobId> =
                c.from_builds.iter().map(|b| JobId(self.builds[b.0 as usize - 1].job)).collect();
            jobs == input.passed
                && c.from_builds.iter().all(|b| {
                    let build = b.0 as usize - 1;
                    self.builds[build].succeeded
                        && self.holds(build).iter().any(|(r, v)| {
                            *r == input.resource.0 && version(*v) == c.picked.version && self.enabled(*r, *v)
                        })
                })
        })
    }
}

/// The world as the resolver asks for it.
struct Asked<'a> {
    world: &'a World,
    questions: usize,
}

impl History for Asked<'_> {
    type Error = Infallible;

    fn latest(&mut self, r: ResourceId) -> Result<Option<Picked>, Infallible> {
        Ok(self.world.picked(VERSIONS.rev().find(|v| self.world.enabled(r.0, *v))))
    }

    fn every(&mut self, r: ResourceId) -> Result<Option<(Picked, bool)>, Infallible> {
        let w = self.world;
        let used = w.newest_used(r.0).unwrap_or(i64::MAX);
        let mut newer = VERSIONS.filter(|v| *v > used && w.enabled(r.0, *v));
        let next = newer.next().or_else(|| VERSIONS.rev().find(|v| *v <= used && w.enabled(r.0, *v)));
        Ok(w.picked(next).map(|p| (p, newer.next().is_some())))
    }

    fn pinned(&mut self, _: ResourceId, pin: &Version) -> Result<Option<Picked>, Infallible> {
        Ok(self.world.picked(VERSIONS.rev().find(|v| World::known(*v) && version(*v).contains(pin))))
    }

    fn seen(&mut self, input: &str, resource: ResourceId, digest: &str) -> Result<bool, Infallible> {
        Ok(self.world.builds.iter().any(|b| {
            // Inputs of builds are named for their resource here.
            let v = b.inputs.get(&resource.0);
            b.job == OWN.0 && input == name(resource.0) && v.is_some_and(|v| version(*v).digest() == digest)
        }))
    }

    fn last_used(&mut self, r: ResourceId) -> Result<Option<BTreeMap<JobId, Place>>, Infallible> {
        Ok(self.world.last_used(r.0))
    }

    fn builds(
        &mut self,
        job: JobId,
        holding: &Holding,
        walk: Walk,
        limit: usize,
    ) -> Result<(Vec<Place>, bool), Infallible> {
        self.questions += 1;
        assert!(self.questions < 20_000, "the resolver does not come to an end");
        let w = self.world;
        let mut all = w.succeeded(job);
        all.retain(|i| {
            let holds: Holding = w.holds(*i).into_iter().map(|(r, v)| (ResourceId(r), version(v).digest())).collect();
            holding.is_subset(&holds)
        });
        match walk {
            Walk::Down => {}
            Walk::DownFrom(p) => all.retain(|i| w.place(*i) <= p),
            Walk::DownBelow(p) => all.retain(|i| w.place(*i) < p),
            Walk::DownAbove(below, p) => all.retain(|i| w.place(*i) > p && below.is_none_or(|b| w.place(*i) < b)),
            Walk::UpAbove(p) => {
                all.retain(|i| w.place(*i) > p);
                all.reverse();
            }
        }
        let more = all.len() > limit;
        Ok((all.into_iter().take(limit).map(|i| w.place(i)).collect(), more))
    }

    fn holds(&mut self, build: BuildId) -> Result<Vec<Held>, Infallible> {
        let w = self.world;
        let wanted: BTreeSet<i64> = w.inputs.iter().map(|i| i.resource.0).collect();
        let holds = w.holds(build.0 as usize - 1).into_iter().filter(|(r, _)| wanted.contains(r)).map(|(r, v)| Held {
            resource: ResourceId(r),
            picked: Picked::from(version(v)).into(),
            known: World::known(v),
            disabled: w.disabled.contains(&(r, v)),
        });
        Ok(holds.collect())
    }

    fn news(&mut self, heard: &Heard) -> Result<News, Infallible> {
        let mut news = News::default();
        for (&job, &count) in heard {
            let mut all: Vec<_> = self.world.succeeded(job);
            all.sort_unstable();
            news.heard.insert(job, all.len() as i64);
            if let Ok(count) = usize::try_from(count) {
                news.builds.extend(all[count..].iter().map(|i| (job, self.world.place(*i))));
            }
        }
        Ok(news)
    }

    fn basis(&mut self, _: &BTreeSet<ResourceId>) -> Result<String, Infallible> {
        Ok(String::new())
    }
}

/// The input of a resource is named for it.
pub fn name(resource: i64) -> String {
    format!("r{resource}")
}

fn built(made: usize) -> impl Strategy<Value = Built> {
    let version = VERSIONS;
    let outputs = proptest::collection::btree_set((RESOURCES, VERSIONS), 0..=made);
    let inputs = proptest::collection::btree_map(RESOURCES, version, 0..=2);
    let from = proptest::collection::btree_set(0usize..12, 0..=2);
    (1i64..=4, any::<bool>(), proptest::option::weighted(0.2, 0usize..12), outputs, inputs, from).prop_map(
        |(job, often, rerun_of, outputs, inputs, from)| Built {
            job,
            succeeded: often || job != OWN.0,
            rerun_of,
            outputs,
            inputs,
            from,
        },
    )
}

/// A world in which every build holds every resource.
fn full_world() -> impl Strategy<Value = World> {
    (world(false, false), proptest::collection::vec((VERSIONS, VERSIONS), 14)).prop_map(|(mut world, versions)| {
        for (b, (one, two)) in world.builds.iter_mut().zip(versions) {
            b.inputs = BTreeMap::from([(1, one), (2, two)]);
        }
        world
    })
}

/// Some world; where `every`, its inputs may want every version, and where `twice`, builds may hold two versions of
/// one resource.
pub fn world(every: bool, twice: bool) -> impl Strategy<Value = World> {
    let passed = proptest::collection::btree_set(UPSTREAM.prop_map(JobId), 0..=3);
    let pin = proptest::option::weighted(0.15, VERSIONS);
    let input = (passed, any::<bool>(), pin);
    let inputs = proptest::collection::vec(input, INPUTS.len()..=INPUTS.len());
    let builds = proptest::collection::vec(built(usize::from(twice) * 2), 0..14);
    let disabled = proptest::collection::btree_set((RESOURCES, VERSIONS), 0..=2);
    (builds, disabled, inputs).prop_map(move |(mut builds, disabled, inputs)| {
        for index in 0..builds.len() {
            let (before, rest) = builds.split_at_mut(index);
            let own = &mut rest[0];
            // A rerun is of an earlier build of the same job that is none itself.
            own.rerun_of =
                own.rerun_of.filter(|of| before.get(*of).is_some_and(|of| of.job == own.job && of.rerun_of.is_none()));
            own.from
                .retain(|from| own.job == OWN.0 && before.get(*from).is_some_and(|f| f.job != OWN.0 && f.succeeded));
        }
        let inputs = inputs.into_iter().zip(INPUTS).map(|((passed, wants, pin), (name, resource))| Input {
            name: name.to_owned(),
            resource: ResourceId(resource),
            passed,
            trigger: true,
            every: wants && every,
            pin: pin.map(version),
        });
        World { builds, disabled, inputs: inputs.collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn finds_versions_exactly_where_there_are_some(world in prop_oneof![world(true, false), full_world()]) {
        let passed: Vec<bool> = world.inputs.iter().map(|i| !i.passed.is_empty()).collect();
        let free_pins_exist = world.inputs.iter().all(|i| i.pin.as_ref().is_none_or(|p| *p != version(*VERSIONS.end())));
        prop_assume!(free_pins_exist);
        let satisfiable = world.satisfiable(&mut Vec::new());
        match world.resolve() {
            Resolution::Ready { chosen, .. } => {
                // A build that holds only some of the resources does not speak against the versions of others.
                prop_assert!(satisfiable || !passed.contains(&true) || !world.is_full());
                prop_assert!(world.is_consistent(&chosen), "{chosen:?}");
            }
            Resolution::Missing { lacking, .. } => {
                let group_lacks = lacking.iter().any(|l| world.inputs.iter().any(|i| i.name == l.input && !i.passed.is_empty()));
                prop_assert!(!group_lacks || !satisfiable, "{lacking:?}");
            }
        }
    }

    #[test]
    fn says_what_trying_everything_in_order_says(world in prop_oneof![world(true, false), world(true, true), full_world()]) {
        let naive: Vec<Naive> = naive::solve(&world);
        let (chosen, lacking, again) = match world.resolve() {
            Resolution::Ready { chosen, run_again } => (chosen, vec![], Some(run_again)),
            Resolution::Missing { chosen, lacking } => (chosen, lacking, None),
        };
        for (input, expected) in world.inputs.iter().zip(&naive) {
            match expected {
                Ok(found) => {
                    let chosen = chosen.iter().find(|c| c.input == input.name);
                    let got = chosen.map(|c| (c.picked.version.clone(), c.from_builds.iter().map(|b| b.0).collect()));
                    prop_assert_eq!(got, Some((version(found.version), found.from.clone())), "{}", input.name);
                }
                Err(reason) => {
                    let lacking = lacking.iter().find(|l| l.input == input.name).map(|l| &l.reason);
                    prop_assert_eq!(lacking, Some(reason), "{}", input.name);
                }
            }
        }
        let all: Option<Vec<_>> = naive.iter().map(|n| n.as_ref().ok().map(|n| n.more)).collect();
        prop_assert_eq!(again, all.map(|more| more.contains(&true)));
    }

    #[test]
    fn what_is_remembered_changes_no_answer(world in prop_oneof![world(true, false), world(true, true), full_world()]) {
        let mut memories = BTreeMap::new();
        for builds in 0..=world.builds.len() {
            let world = world.at(builds);
            let decision = world.decide(&memories);
            prop_assert_eq!(&decision.resolution, &world.resolve());
            memories = decision.memories;
        }
    }

    #[test]
    fn the_missing_say_how_far_the_jobs_they_must_pass_have_come(world in world(true, false)) {
        if let Resolution::Missing { lacking, .. } = world.resolve() {
            for l in lacking.iter().filter(|l| l.reason == Reason::NoSatisfiableBuilds) {
                let input = world.inputs.iter().find(|i| i.name == l.input).unwrap();
                prop_assert_eq!(l.passages.iter().map(|p| p.job).collect::<BTreeSet<_>>(), input.passed.clone());
                for passage in &l.passages {
                    let newest = world.succeeded(passage.job).first().map(|i| *i as i64 + 1);
                    prop_assert_eq!(passage.build.map(|b| b.0), newest);
                }
            }
        }
    }

    #[test]
    fn comes_to_an_end_with_builds_that_hold_two_versions(world in world(true, true)) {
        if let Resolution::Ready { chosen, .. } = world.resolve() {
            prop_assert!(world.is_consistent(&chosen), "{chosen:?}");
        }
    }
}
