//! What happens to a job's waiting builds: which one takes a slot, needs checks first, starts, or is aborted.
//!
//! One call decides the next step; after it was carried out, read again and ask again, until it says [`Step::Rest`].
//! So a build that has just started counts for the next one, and takes its versions before the next one chooses.

use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, ResourceId};

/// A job and what waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Whether the job or its pipeline is paused.
    pub paused: bool,
    /// Whether the pipeline is archived, or the job has left the configuration.
    pub gone: bool,
    /// How many builds may run at a time in its serial groups; 0 means any number.
    pub limit: usize,
    /// Builds of its serial groups that hold a slot: those that run, and those that wait with one.
    pub holding: Vec<BuildId>,
    /// Whether every input has a version.
    pub determined: bool,
    /// The job's waiting builds, in any order.
    pub pending: Vec<Pending>,
    /// The first waiting build without a slot of each *other* job of its serial groups.
    pub rivals: Vec<Rival>,
    /// Inputs that need not have passed a job and are not pinned.
    pub sources: Vec<Source>,
}

/// A waiting build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub build: BuildId,
    /// The build it repeats, and whether that one ever had its inputs.
    pub rerun_of: Option<(BuildId, bool)>,
    /// Whether a person asked for it.
    pub manual: bool,
    /// Whether it has taken a slot.
    pub scheduled: bool,
    /// Whether it is to be stopped.
    pub aborted: bool,
    /// When it was made.
    pub created_at: Time,
}

impl Pending {
    fn turn(&self) -> (BuildId, BuildId) {
        (self.rerun_of.map_or(self.build, |(of, _)| of), self.build)
    }
}

/// A build of another job that wants the same slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Whose.
    pub job: JobId,
    /// Which.
    pub build: BuildId,
    /// The build it repeats.
    pub rerun_of: Option<BuildId>,
    /// Whether its job is paused.
    pub paused: bool,
    /// Whether every input of its job has a version.
    pub determined: bool,
}

/// An input that checks can bring new versions for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which resource.
    pub resource: ResourceId,
    /// Whether it triggers the job.
    pub trigger: bool,
    /// When the last check that has ended began; none if there was none.
    pub began: Option<Time>,
    /// When its next check is due, at the end of the last one if it is only checked when wanted; none if it has no
    /// history yet.
    pub next_check: Option<Time>,
}

/// Where a build takes its versions from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// From the resolver.
    Resolved,
    /// From the build it repeats.
    Of(BuildId),
}

/// Why a waiting build does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// The job or its pipeline is paused.
    Paused,
    /// These builds hold all slots of its serial groups.
    Full(Vec<BuildId>),
    /// This build wants the same slot and was there before.
    Behind(BuildId),
    /// Some input has no version.
    NoInputs,
    /// These resources are being checked for it.
    Checks(Vec<ResourceId>),
    /// It repeats a build that never had its inputs.
    NothingToRepeat,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// End this build as aborted.
    Abort(BuildId),
    /// Start this build.
    Start { build: BuildId, inputs: Inputs },
    /// Check these resources, then come back. The build keeps its slot meanwhile. `forced`: whatever the interval.
    Check { build: BuildId, resources: Vec<ResourceId>, forced: bool },
    /// Nothing before something changes; why, if a build waits.
    Rest(Option<Blocked>),
}

/// The next step, and the builds that take a slot with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Builds to be marked as scheduled.
    pub scheduled: Vec<BuildId>,
    /// What to do.
    pub step: Step,
}

/// Decides the next step.
pub fn admit(queue: &Queue) -> Admission {
    let waiting = queue.waiting();
    if let Some(aborted) = waiting.iter().find(|p| p.aborted || queue.gone) {
        return Admission { scheduled: Vec::new(), step: Step::Abort(aborted.build) };
    }
    if queue.paused && !waiting.is_empty() {
        return Admission { scheduled: Vec::new(), step: Step::Rest(Some(Blocked::Paused)) };
    }
    let mut scheduled = Vec::new();
    for (index, build) in waiting.iter().enumerate() {
        if !build.scheduled {
            if let Some(blocked) = blocked(queue, &waiting[index..], &scheduled) {
                let resources = unchecked(queue, build);
                let step = match blocked {
                    // Its checks need not wait for the slot.
                    Blocked::Full(_) | Blocked::Behind(_) | Blocked::Checks(_) if !resources.is_empty() => {
                        Step::Check { build: build.build, resources, forced: build.manual }
                    }
                    _ => Step::Rest(Some(blocked)),
                };
                return Admission { scheduled, step };
            }
            scheduled.push(build.build);
        }
        let step = match build.rerun_of {
            Some((of, true)) => Step::Start { build: build.build, inputs: Inputs::Of(of) },
            // It cannot start, but it must not keep others from it.
            Some((_, false)) => continue,
            None => {
                let resources = unchecked(queue, build);
                if !resources.is_empty() {
                    Step::Check { build: build.build, resources, forced: build.manual }
                } else if queue.determined {
                    Step::Start { build: build.build, inputs: Inputs::Resolved }
                } else {
                    Step::Rest(Some(Blocked::NoInputs))
                }
            }
        };
        return Admission { scheduled, step };
    }
    Admission { scheduled, step: Step::Rest(None) }
}

/// Why a waiting build does not start: by the same rule, for people. `None` if it does with the next look at its job.
pub fn why_not(queue: &Queue, build: BuildId) -> Option<Blocked> {
    let waiting = queue.waiting();
    let place = waiting.iter().position(|p| p.build == build)?;
    if waiting[place].aborted || queue.gone {
        return None;
    }
    if queue.paused {
        return Some(Blocked::Paused);
    }
    if waiting[place].rerun_of.is_some_and(|(_, ready)| !ready) {
        return Some(Blocked::NothingToRepeat);
    }
    // Reruns that can never start stand in nobody's way.
    let ahead = waiting[..place].iter().find(|p| !p.aborted && p.rerun_of.is_none_or(|(_, ready)| ready));
    if let Some(first) = ahead {
        return Some(Blocked::Behind(first.build));
    }
    let pending = waiting[place];
    if !pending.scheduled
        && let Some(blocked @ (Blocked::Full(_) | Blocked::Behind(_))) = blocked(queue, &waiting[place..], &[])
    {
        return Some(blocked);
    }
    match unchecked(queue, pending) {
        resources if !resources.is_empty() => Some(Blocked::Checks(resources)),
        _ if pending.rerun_of.is_none() && !queue.determined => Some(Blocked::NoInputs),
        _ => None,
    }
}

impl Queue {
    /// The waiting builds in the order they start: reruns in the turn of what they repeat.
    fn waiting(&self) -> Vec<&Pending> {
        let mut waiting: Vec<&Pending> = self.pending.iter().collect();
        waiting.sort_by_key(|p| p.turn());
        waiting
    }
}

/// Why the first of these builds, which has no slot, does not get one.
fn blocked(queue: &Queue, waiting: &[&Pending], taken: &[BuildId]) -> Option<Blocked> {
    let first = waiting.first()?;
    if queue.limit == 0 {
        return None;
    }
    if queue.holding.len() + taken.len() >= queue.limit {
        return Some(Blocked::Full(queue.holding.iter().chain(taken).copied().collect()));
    }
    let turn = |r: &&Rival| (r.rerun_of.unwrap_or(r.build), r.build);
    let may_start = |r: &&Rival| !r.paused && (r.determined || r.rerun_of.is_some());
    let before = queue.rivals.iter().filter(may_start).min_by_key(turn).filter(|r| turn(r) < first.turn());
    // A build that repeats another has its versions; its job's other inputs do not matter.
    let ready = queue.determined || first.rerun_of.is_some();
    match (before, ready) {
        (Some(before), _) => Some(Blocked::Behind(before.build)),
        (None, true) => None,
        (None, false) => match unchecked(queue, first) {
            resources if resources.is_empty() => Some(Blocked::NoInputs),
            resources => Some(Blocked::Checks(resources)),
        },
    }
}

/// The inputs that must be checked before the build may choose its versions.
fn unchecked(queue: &Queue, build: &Pending) -> Vec<ResourceId> {
    if build.rerun_of.is_some() {
        return Vec::new();
    }
    let stale = |s: &&Source| {
        if build.manual {
            s.began.is_none_or(|at| at < build.created_at)
        } else {
            !s.trigger && s.next_check.is_some_and(|at| at < build.created_at)
        }
    };
    let mut resources: Vec<_> = queue.sources.iter().filter(stale).map(|s| s.resource).collect();
    resources.sort_unstable();
    resources.dedup();
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(build: i64) -> Pending {
        Pending {
            build: BuildId(build),
            rerun_of: None,
            manual: false,
            scheduled: false,
            aborted: false,
            created_at: Time(100),
        }
    }

    fn rerun(build: i64, of: i64, ready: bool) -> Pending {
        Pending { rerun_of: Some((BuildId(of), ready)), ..pending(build) }
    }

    fn queue(pending: Vec<Pending>) -> Queue {
        Queue { determined: true, pending, ..Queue::default() }
    }

    fn source(resource: i64, trigger: bool, began: Option<i64>, next_check: Option<i64>) -> Source {
        Source { resource: ResourceId(resource), trigger, began: began.map(Time), next_check: next_check.map(Time) }
    }

    fn holding(n: i64) -> Vec<BuildId> {
        (1..=n).map(BuildId).collect()
    }

    fn rival(build: i64, paused: bool, determined: bool) -> Rival {
        Rival { job: JobId(9), build: BuildId(build), rerun_of: None, paused, determined }
    }

    fn start(build: i64) -> Step {
        Step::Start { build: BuildId(build), inputs: Inputs::Resolved }
    }

    fn check(build: i64, resources: &[i64], forced: bool) -> Step {
        Step::Check { build: BuildId(build), resources: resources.iter().map(|r| ResourceId(*r)).collect(), forced }
    }

    #[test]
    fn the_next_step_of_a_job() {
        let manual = Pending { manual: true, ..pending(5) };
        let serial = |q: Queue| Queue { limit: 1, ..q };
        let blocked = |b| Step::Rest(Some(b));
        for (what, queue, step) in [
            ("nothing waits", queue(vec![]), Step::Rest(None)),
            ("the oldest starts", queue(vec![pending(7), pending(6)]), start(6)),
            (
                "without versions it waits",
                Queue { determined: false, ..queue(vec![pending(5)]) },
                blocked(Blocked::NoInputs),
            ),
            ("paused", Queue { paused: true, ..queue(vec![pending(5)]) }, blocked(Blocked::Paused)),
            (
                "an abort goes first, paused or not",
                Queue { paused: true, ..queue(vec![pending(5), Pending { aborted: true, ..pending(6) }]) },
                Step::Abort(BuildId(6)),
            ),
            ("an archived pipeline aborts", Queue { gone: true, ..queue(vec![pending(5)]) }, Step::Abort(BuildId(5))),
            (
                "no slot",
                Queue { holding: holding(1), ..serial(queue(vec![pending(5)])) },
                blocked(Blocked::Full(holding(1))),
            ),
            ("two slots", Queue { limit: 2, holding: holding(1), ..queue(vec![pending(5)]) }, start(5)),
            (
                "another job was first",
                Queue { rivals: vec![rival(4, false, true)], ..serial(queue(vec![pending(5)])) },
                blocked(Blocked::Behind(BuildId(4))),
            ),
            (
                "another job came later",
                Queue { rivals: vec![rival(6, false, true)], ..serial(queue(vec![pending(5)])) },
                start(5),
            ),
            (
                "a paused job does not block",
                Queue { rivals: vec![rival(4, true, true)], ..serial(queue(vec![pending(5)])) },
                start(5),
            ),
            (
                "a job without versions does not block",
                Queue { rivals: vec![rival(4, false, false)], ..serial(queue(vec![pending(5)])) },
                start(5),
            ),
            (
                "a rerun takes what the original had, in the original's turn",
                Queue { determined: false, ..queue(vec![pending(5), rerun(9, 2, true)]) },
                Step::Start { build: BuildId(9), inputs: Inputs::Of(BuildId(2)) },
            ),
            ("a rerun that is not ready does not block", queue(vec![rerun(9, 2, false), pending(10)]), start(10)),
            (
                "by hand: all inputs are checked first",
                Queue {
                    sources: vec![
                        source(1, true, Some(99), Some(999)),
                        source(2, false, None, None),
                        source(3, true, Some(100), Some(160)),
                    ],
                    ..queue(vec![manual.clone()])
                },
                check(5, &[1, 2], true),
            ),
            (
                "by itself: what does not trigger is checked first, if its interval has passed",
                Queue {
                    sources: vec![
                        source(1, true, Some(1), Some(61)),
                        source(2, false, Some(1), Some(61)),
                        source(3, false, Some(90), Some(150)),
                    ],
                    ..queue(vec![pending(5)])
                },
                check(5, &[2], false),
            ),
            (
                "by hand without a slot: its checks need not wait",
                Queue {
                    holding: holding(1),
                    sources: vec![source(1, true, None, None)],
                    ..serial(queue(vec![manual]))
                },
                check(5, &[1], true),
            ),
        ] {
            assert_eq!(admit(&queue).step, step, "{what}");
        }
    }

    #[test]
    fn only_what_is_stale_is_checked_first() {
        for (what, queue, step) in [
            (
                "by itself: what was never checked has nothing to wait for",
                Queue { sources: vec![source(1, false, None, None)], ..queue(vec![pending(5)]) },
                start(5),
            ),
            (
                "by itself: what is only checked when wanted is wanted now",
                Queue { sources: vec![source(1, false, Some(50), Some(51))], ..queue(vec![pending(5)]) },
                check(5, &[1], false),
            ),
            (
                "a rerun waits for no check",
                Queue { sources: vec![source(1, false, Some(1), Some(61))], ..queue(vec![rerun(9, 2, true)]) },
                Step::Start { build: BuildId(9), inputs: Inputs::Of(BuildId(2)) },
            ),
        ] {
            assert_eq!(admit(&queue).step, step, "{what}");
        }
    }

    #[test]
    fn a_build_that_waits_for_checks_holds_its_slot() {
        let sources = vec![source(1, false, Some(1), Some(61))];
        let mut q = Queue { limit: 1, sources, ..queue(vec![pending(5), pending(6)]) };
        assert_eq!(admit(&q), Admission { scheduled: vec![BuildId(5)], step: check(5, &[1], false) });
        q.pending[0].scheduled = true;
        q.holding = vec![BuildId(5)];
        q.sources.clear();
        assert_eq!(admit(&q), Admission { scheduled: vec![], step: start(5) });
    }

    #[test]
    fn every_waiting_build_says_why() {
        let manual = |build| Pending { manual: true, ..pending(build) };
        let sources = vec![source(1, true, Some(99), Some(999))];
        for (what, queue, build, why) in [
            ("nothing is in its way", queue(vec![pending(5)]), 5, None),
            ("it is being stopped", queue(vec![Pending { aborted: true, ..pending(5) }]), 5, None),
            ("paused", Queue { paused: true, ..queue(vec![pending(5)]) }, 5, Some(Blocked::Paused)),
            ("one of its own job", queue(vec![pending(5), pending(6)]), 6, Some(Blocked::Behind(BuildId(5)))),
            (
                "a rerun of an older one",
                queue(vec![pending(5), rerun(6, 2, true)]),
                5,
                Some(Blocked::Behind(BuildId(6))),
            ),
            ("never had inputs", queue(vec![rerun(6, 2, false)]), 6, Some(Blocked::NothingToRepeat)),
            ("what cannot start is in no way", queue(vec![rerun(6, 2, false), pending(7)]), 7, None),
            (
                "full",
                Queue { limit: 2, holding: holding(2), ..queue(vec![pending(5)]) },
                5,
                Some(Blocked::Full(holding(2))),
            ),
            (
                "it has its slot and waits for a check",
                Queue {
                    limit: 1,
                    holding: vec![BuildId(5)],
                    sources: sources.clone(),
                    ..queue(vec![Pending { scheduled: true, ..manual(5) }])
                },
                5,
                Some(Blocked::Checks(vec![ResourceId(1)])),
            ),
            (
                "a check may bring what it lacks",
                Queue { determined: false, limit: 1, sources, ..queue(vec![manual(5)]) },
                5,
                Some(Blocked::Checks(vec![ResourceId(1)])),
            ),
            ("versions", Queue { determined: false, limit: 1, ..queue(vec![pending(5)]) }, 5, Some(Blocked::NoInputs)),
        ] {
            assert_eq!(why_not(&queue, BuildId(build)), why, "{what}");
            // Who asks what is next hears the same.
            match (admit(&queue).step, &why) {
                (Step::Rest(Some(blocked)), Some(why)) if queue.pending.len() == 1 => {
                    assert_eq!(blocked, *why, "{what}");
                }
                (Step::Start { build: first, .. }, None) => assert_eq!(first, BuildId(build), "{what}"),
                _ => {}
            }
        }
    }
}
