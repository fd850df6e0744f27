//! Which build logs go, and which pipelines nobody uses any more.

use std::time::Duration;

use crate::base::clock::Time;
use crate::base::id::BuildId;
use crate::pipeline::{Job, LogRetention};

/// What the operator has set for all jobs; 0 for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// Builds whose logs are kept where a job says nothing.
    pub default_builds: i64,
    /// Never more builds than this.
    pub max_builds: i64,
    /// Days for which logs are kept where a job says nothing.
    pub default_days: i64,
    /// Never more days than this.
    pub max_days: i64,
}

impl LogLimits {
    /// What a job keeps; `None` if everything.
    pub fn of(&self, job: &Job) -> Option<LogRetention> {
        let own =
            job.build_log_retention.unwrap_or(LogRetention { builds: job.build_logs_to_retain, ..Default::default() });
        let at_most = |value: i64, max: i64| if max > 0 && (value == 0 || value > max) { max } else { value };
        let or = |value: i64, default: i64| if value == 0 { default } else { value };
        let builds = at_most(or(own.builds, self.default_builds), self.max_builds);
        let days = at_most(or(own.days, self.default_days), self.max_days);
        let capped = self.max_builds > 0 || self.max_days > 0;
        let minimum = own.minimum_succeeded_builds;
        let minimum_succeeded_builds = if capped && minimum > builds { 0 } else { minimum };
        (builds > 0 || days > 0).then_some(LogRetention { builds, days, minimum_succeeded_builds })
    }
}

/// A build that still has its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Which.
    pub build: BuildId,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When it ended; none while it waits or runs.
    pub ended_at: Option<Time>,
}

/// What is to be done about a job's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaping {
    /// Builds whose logs go.
    pub reap: Vec<BuildId>,
    /// The oldest build that keeps its log, if any does.
    pub oldest_kept: Option<BuildId>,
}

/// Decides about a job's builds, which come newest first.
pub fn reap(builds: &[Logged], keep: LogRetention, now: Time) -> Reaping {
    let days = Duration::from_secs(86_400 * u64::try_from(keep.days).unwrap_or(0));
    let (mut reap, mut kept, mut kept_succeeded) = (Vec::new(), 0, 0);
    // Those that go if others leave too little room, newest first.
    let mut candidates = Vec::new();
    let mut protected = Vec::new();
    for b in builds {
        let Some(ended_at) = b.ended_at else {
            protected.push(b.build);
            continue;
        };
        if keep.builds > 0 && b.succeeded && kept_succeeded < keep.minimum_succeeded_builds {
            kept += 1;
            kept_succeeded += 1;
            protected.push(b.build);
        } else if (keep.builds > 0 && kept < keep.builds) || (keep.days > 0 && ended_at.plus(days) >= now) {
            kept += 1;
            candidates.push(b.build);
        } else {
            reap.push(b.build);
        }
    }
    // Concourse: only where something goes anyway are the candidates too many.
    if !reap.is_empty() && keep.builds > 0 {
        while kept > keep.builds {
            let Some(oldest) = candidates.pop() else { break };
            reap.push(oldest);
            kept -= 1;
        }
    }
    Reaping { oldest_kept: protected.into_iter().chain(candidates).min(), reap }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;
    const NOW: Time = Time(100 * DAY);

    fn keep(builds: i64, minimum_succeeded_builds: i64, days: i64) -> LogRetention {
        LogRetention { builds, minimum_succeeded_builds, days }
    }

    /// Builds newest first, from letters: `s`ucceeded, `f`ailed, `r`unning; one a day.
    fn builds(letters: &str) -> Vec<Logged> {
        let n = letters.len() as i64;
        let one = |(i, letter): (usize, char)| Logged {
            build: BuildId(n - i as i64),
            succeeded: letter == 's',
            ended_at: (letter != 'r').then_some(Time(NOW.0 - i as i64 * DAY)),
        };
        letters.chars().enumerate().map(one).collect()
    }

    #[test]
    fn what_goes_and_what_stays() {
        for (what, letters, retention, goes, oldest) in [
            ("the newest two stay", "fff", keep(2, 0, 0), vec![1], Some(2)),
            ("all fit", "fff", keep(3, 0, 0), vec![], Some(1)),
            ("what runs is not counted", "rfff", keep(2, 0, 0), vec![1], Some(2)),
            ("a success is kept beside the newest", "ffsf", keep(2, 1, 0), vec![1, 3], Some(2)),
            ("days", "ffff", keep(0, 0, 2), vec![1], Some(2)),
            ("either is enough to stay", "ffff", keep(3, 0, 1), vec![1], Some(2)),
            ("but never more than builds", "ffffff", keep(2, 0, 3), vec![2, 1, 3, 4], Some(5)),
            ("unless nothing goes", "fff", keep(2, 0, 3), vec![], Some(1)),
            ("nothing is left", "r", keep(1, 0, 0), vec![], Some(1)),
        ] {
            let reaping = reap(&builds(letters), retention, NOW);
            assert_eq!(reaping.reap.iter().map(|b| b.0).collect::<Vec<_>>(), goes, "{what}");
            assert_eq!(reaping.oldest_kept.map(|b| b.0), oldest, "{what}");
        }
    }

    #[test]
    fn a_job_keeps_what_it_says_within_what_the_operator_allows() {
        let limits = |default_builds, max_builds, default_days, max_days| LogLimits {
            default_builds,
            max_builds,
            default_days,
            max_days,
        };
        for (own, limits, kept) in [
            (None, limits(0, 0, 0, 0), None),
            (None, limits(5, 0, 0, 0), Some(keep(5, 0, 0))),
            (Some(keep(7, 2, 0)), limits(5, 0, 3, 0), Some(keep(7, 2, 3))),
            (Some(keep(7, 6, 9)), limits(0, 5, 0, 4), Some(keep(5, 0, 4))),
            (None, limits(0, 5, 0, 0), Some(keep(5, 0, 0))),
            (Some(keep(0, 0, 2)), limits(0, 5, 0, 9), Some(keep(5, 0, 2))),
        ] {
            assert_eq!(limits.of(&Job { build_log_retention: own, ..Job::default() }), kept, "{own:?} {limits:?}");
        }
        let old = Job { build_logs_to_retain: 4, ..Job::default() };
        assert_eq!(LogLimits::default().of(&old), Some(keep(4, 0, 0)));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_never_more_than_allowed_and_reaping_twice_changes_nothing(
            letters in "[sfr]{0,30}", builds_kept in 1i64..6, minimum in 0i64..3, days in 0i64..8
        ) {
            let all = builds(&letters);
            let retention = keep(builds_kept, minimum.min(builds_kept), days);
            let first = reap(&all, retention, NOW);
            let rest: Vec<Logged> = all.iter().copied().filter(|b| !first.reap.contains(&b.build)).collect();
            if !first.reap.is_empty() {
                prop_assert!(rest.iter().filter(|b| b.ended_at.is_some()).count() as i64 <= builds_kept);
            }
            prop_assert!(first.reap.iter().all(|b| all.iter().any(|l| l.build == *b && l.ended_at.is_some())));
            prop_assert_eq!(reap(&rest, retention, NOW).reap, vec![]);
            prop_assert_eq!(first.oldest_kept, rest.iter().map(|b| b.build).min());
        }
    }
}
