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
