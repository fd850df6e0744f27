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
    pub holding: usize,
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
    /// When its last check ended; none if it has no history yet.
    pub checked: Option<Time>,
    /// When its next check is due; none if it is only checked when asked.
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

/// Why the first waiting build does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The job or its pipeline is paused.
    Paused,
    /// Its serial groups have no free slot, or another build is before it.
    MaxRunning,
    /// Some input has no version.
    NoInputs,
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
    let mut waiting: Vec<&Pending> = queue.pending.iter().collect();
    waiting.sort_by_key(|p| p.turn());
    if let Some(aborted) = waiting.iter().find(|p| p.aborted || queue.gone) {
        return Admission { scheduled: Vec::new(), step: Step::Abort(aborted.build) };
    }
    if queue.paused && !waiting.is_empty() {
        return Admission { scheduled: Vec::new(), step: Step::Rest(Some(Blocked::Paused)) };
    }
    let mut scheduled = Vec::new();
    for (index, build) in waiting.iter().enumerate() {
        if !build.scheduled {
            if let Some(blocked) = blocked(queue, &waiting[index..], scheduled.len()) {
                let resources = unchecked(queue, build);
                let step = match blocked {
                    // Its checks need not wait for the slot.
                    Blocked::MaxRunning if !resources.is_empty() => {
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

/// Why the first of these builds, which has no slot, does not get one.
fn blocked(queue: &Queue, waiting: &[&Pending], taken: usize) -> Option<Blocked> {
    let first = waiting.first()?;
    if queue.limit == 0 {
        return None;
    }
    let before = queue.rivals.iter().any(|r| {
        !r.paused && (r.determined || r.rerun_of.is_some()) && (r.rerun_of.unwrap_or(r.build), r.build) < first.turn()
    });
    // A build that repeats another has its versions; its job's other inputs do not matter.
    let ready = queue.determined || first.rerun_of.is_some();
    match (queue.holding + taken >= queue.limit || before, ready) {
        (true, _) => Some(Blocked::MaxRunning),
        (false, false) if unchecked(queue, first).is_empty() => Some(Blocked::NoInputs),
        (false, false) => Some(Blocked::MaxRunning),
        (false, true) => None,
    }
}

/// The inputs that must be checked before the build may choose its versions.
fn unchecked(queue: &Queue, build: &Pending) -> Vec<ResourceId> {
    if build.rerun_of.is_some() {
        return Vec::new();
    }
    let stale = |s: &&Source| {
        if build.manual {
            s.checked.is_none_or(|at| at < build.created_at)
        } else {
            !s.trigger && s.checked.is_some() && s.next_check.is_some_and(|at| at < build.created_at)
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

    fn source(resource: i64, trigger: bool, checked: Option<i64>, next_check: Option<i64>) -> Source {
        Source { resource: ResourceId(resource), trigger, checked: checked.map(Time), next_check: next_check.map(Time) }
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
            ("no slot", Queue { holding: 1, ..serial(queue(vec![pending(5)])) }, blocked(Blocked::MaxRunning)),
            ("two slots", Queue { limit: 2, holding: 1, ..queue(vec![pending(5)]) }, start(5)),
            (
                "another job was first",
                Queue { rivals: vec![rival(4, false, true)], ..serial(queue(vec![pending(5)])) },
                blocked(Blocked::MaxRunning),
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
                        source(3, true, Some(100), None),
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
                Queue { holding: 1, sources: vec![source(1, true, None, None)], ..serial(queue(vec![manual])) },
                check(5, &[1], true),
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
        q.holding = 1;
        q.sources.clear();
        assert_eq!(admit(&q), Admission { scheduled: vec![], step: start(5) });
    }
}
