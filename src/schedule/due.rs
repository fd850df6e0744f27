//! Which resources are checked now, and when to look again.

use std::time::Duration;

use crate::base::clock::Time;
use crate::base::id::ResourceId;

/// How jobs use a resource, apart from inputs that must have passed other jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// New versions start builds.
    Triggers,
    /// Builds get it, but it starts none.
    Gets,
    /// Nothing gets it without having passed a job, if at all.
    Rest,
}

/// What is known of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Which.
    pub resource: ResourceId,
    /// Whether its pipeline is paused or archived.
    pub paused: bool,
    /// How it is used.
    pub usage: Usage,
    /// When its last check ended, failed ones included; none for never.
    pub checked: Option<Time>,
    /// Whether the last check succeeded.
    pub succeeded: bool,
    /// Whether its history has any version.
    pub has_versions: bool,
    /// Whether it is pinned to a version that its history does not have.
    pub pin_missing: bool,
    /// `check_every`: none for `never`, else the interval, or zero for the server's default.
    pub every: Option<Duration>,
    /// Whether it has a web hook, which has an interval of its own.
    pub webhook: bool,
    /// Whether somebody has asked for a check that has not been answered.
    pub requested: bool,
}

/// The server's intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Of resources that say nothing.
    pub usual: Duration,
    /// Of those with a web hook; never less than the usual one.
    pub webhook: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Check these now, those that were asked for first.
    pub now: Vec<ResourceId>,
    /// Look again then, if nothing rings before.
    pub next: Option<Time>,
}

/// Checks this much late are taken with others that are due, so that a thousand resources do not wake the
/// server a thousand times a minute.
fn slack(interval: Duration) -> Duration {
    (interval / 20).min(Duration::from_secs(1))
}

/// The interval of a resource; none if it is checked only when asked for.
pub fn interval(every: Option<Duration>, webhook: bool, intervals: &Intervals) -> Option<Duration> {
    every.map(|every| match every {
        Duration::ZERO if webhook => intervals.webhook.max(intervals.usual),
        Duration::ZERO => intervals.usual,
        every => every,
    })
}

/// Decides.
pub fn due(now: Time, watched: &[Watch], intervals: &Intervals) -> Due {
    let mut due = Due::default();
    let mut regular = Vec::new();
    for w in watched.iter().filter(|w| !w.paused) {
        if w.requested {
            due.now.push(w.resource);
            continue;
        }
        let Some(interval) = interval(w.every, w.webhook, intervals).filter(|_| is_watched(w)) else { continue };
        match w.checked.map(|at| at.plus(interval)) {
            Some(at) if at > now => {
                let wake = at.plus(slack(interval));
                due.next = Some(due.next.map_or(wake, |next| next.min(wake)));
            }
            at => regular.push((at, w.resource)),
        }
    }
    // Those that have waited longest first.
    regular.sort_unstable();
    due.now.extend(regular.into_iter().map(|(_, resource)| resource));
    due
}

/// Whether it is checked at intervals: what triggers always, the rest until a check has told what is to be known.
fn is_watched(w: &Watch) -> bool {
    match w.usage {
        Usage::Triggers => true,
        Usage::Gets => w.checked.is_none() || !w.succeeded || !w.has_versions || w.pin_missing,
        Usage::Rest => w.checked.is_none() || !w.succeeded,
    }
}
