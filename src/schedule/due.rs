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

/// When a resource is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not as long as its pipeline is paused or archived.
    Paused,
    /// Now, since somebody has asked.
    Asked,
    /// Now, since its interval has passed, or it never was.
    Due,
    /// Then.
    At(Time),
    /// When somebody asks, or a build gets it.
    WhenWanted,
    /// The same, because it says `check_every: never`.
    Never,
}

/// Decides about one resource.
pub fn standing(now: Time, w: &Watch, intervals: &Intervals) -> Standing {
    match (w.paused, w.requested, interval(w.every, w.webhook, intervals)) {
        (true, _, _) => Standing::Paused,
        (_, true, _) => Standing::Asked,
        (_, _, None) => Standing::Never,
        (_, _, Some(_)) if !is_watched(w) => Standing::WhenWanted,
        (_, _, Some(interval)) => match w.checked.map(|at| at.plus(interval)) {
            Some(at) if at > now => Standing::At(at),
            _ => Standing::Due,
        },
    }
}

/// Decides.
pub fn due(now: Time, watched: &[Watch], intervals: &Intervals) -> Due {
    let mut due = Due::default();
    let mut regular = Vec::new();
    for w in watched {
        match standing(now, w, intervals) {
            Standing::Asked => due.now.push(w.resource),
            Standing::Due => regular.push((w.checked, w.resource)),
            Standing::At(at) => {
                let wake = at.plus(slack(at.since(w.checked.unwrap_or(now))));
                due.next = Some(due.next.map_or(wake, |next| next.min(wake)));
            }
            Standing::Paused | Standing::WhenWanted | Standing::Never => {}
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVALS: Intervals = Intervals { usual: Duration::from_secs(60), webhook: Duration::from_secs(600) };
    const NOW: Time = Time(1_000_000);

    fn watch(id: i64, usage: Usage) -> Watch {
        Watch {
            resource: ResourceId(id),
            paused: false,
            usage,
            checked: Some(Time(NOW.0 - 30_000)),
            succeeded: true,
            has_versions: true,
            pin_missing: false,
            every: Some(Duration::ZERO),
            webhook: false,
            requested: false,
        }
    }

    fn says(watch: Watch) -> (bool, Option<i64>) {
        let due = due(NOW, &[watch], &INTERVALS);
        (!due.now.is_empty(), due.next.map(|at| at.0 - NOW.0))
    }

    #[test]
    fn each_kind_of_resource_is_checked_when_it_should_be() {
        use Usage::{Gets, Rest, Triggers};
        let later = (false, Some(31_000));
        let (never, at_once) = ((false, None), (true, None));
        let unchecked = |usage| Watch { checked: None, succeeded: false, has_versions: false, ..watch(1, usage) };
        let old = |usage| Watch { checked: Some(Time(1)), ..watch(1, usage) };
        for (what, watch, expected) in [
            ("a trigger, at its interval", watch(1, Triggers), later),
            ("a trigger, when it has passed", old(Triggers), at_once),
            ("what is got, once it is known", old(Gets), never),
            ("what is got, never checked", unchecked(Gets), at_once),
            ("what is got, failed", Watch { succeeded: false, ..watch(1, Gets) }, later),
            ("what is got, without versions", Watch { has_versions: false, ..old(Gets) }, at_once),
            ("what is got, its pin not found", Watch { pin_missing: true, ..old(Gets) }, at_once),
            ("what is put, once checked", Watch { has_versions: false, ..old(Rest) }, never),
            ("what is put, never checked", unchecked(Rest), at_once),
            ("never", Watch { every: None, ..old(Triggers) }, never),
            ("never, but asked for", Watch { every: None, requested: true, ..old(Triggers) }, at_once),
            ("asked for before the interval", Watch { requested: true, ..watch(1, Gets) }, at_once),
            ("paused", Watch { paused: true, requested: true, ..old(Triggers) }, never),
            ("its own interval", Watch { every: Some(Duration::from_secs(10)), ..watch(1, Triggers) }, at_once),
            ("a web hook's interval", Watch { webhook: true, ..watch(1, Triggers) }, (false, Some(571_000))),
        ] {
            assert_eq!(says(watch), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn looking_again_at_the_next_time_finds_something(
            ages in proptest::collection::vec((0i64..120_000, 1u64..120), 1..20)
        ) {
            let watched: Vec<_> = ages.iter().zip(1..).map(|((age, every), id)| Watch {
                checked: Some(Time(NOW.0 - age)),
                every: Some(Duration::from_secs(*every)),
                ..watch(id, Usage::Triggers)
            }).collect();
            let first = due(NOW, &watched, &INTERVALS);
            if let Some(next) = first.next {
                prop_assert!(next > NOW);
                let rest: Vec<_> = watched.into_iter().filter(|w| !first.now.contains(&w.resource)).collect();
                prop_assert!(!due(next, &rest, &INTERVALS).now.is_empty());
            } else {
                prop_assert_eq!(first.now.len(), watched.len());
            }
        }
    }
}
