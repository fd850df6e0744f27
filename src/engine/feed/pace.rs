//! When the followers of a log are told that it has grown.

use std::time::Duration;

use tokio::time::Instant;

/// Between two announcements of a busy log: what comes in between goes together, and all followers who are up to date
/// come to the same place and share one batch. A thousand wake-ups cost milliseconds, so they are not had for each line.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// So many announcements are made without a pause after a quiet time: a short build is seen without delay.
const CREDIT: u32 = 8;

/// The pace of one log.
#[derive(Debug)]
pub(super) struct Pace {
    credit: u32,
    last: Option<Instant>,
    due: bool,
}

/// What to do about an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announce {
    /// Tell the followers at once.
    Now,
    /// Tell them at this moment.
    At(Instant),
    /// They will be told already.
    Due,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { credit: CREDIT, last: None, due: false }
    }
}

impl Pace {
    /// An event has come.
    pub fn event(&mut self, now: Instant) -> Announce {
        if self.due {
            return Announce::Due;
        }
        let Some(last) = self.last else {
            self.last = Some(now);
            return Announce::Now;
        };
        let pauses = now.saturating_duration_since(last).as_millis() / PAUSE.as_millis();
        let earned = u32::try_from(pauses).unwrap_or(CREDIT);
        // The pause that has passed since the last announcement pays for this one.
        match self.credit.saturating_add(earned).min(CREDIT + 1).checked_sub(1) {
            Some(left) => {
                self.credit = left;
                self.last = Some(now);
                Announce::Now
            }
            None => {
                self.due = true;
                Announce::At(last + PAUSE)
            }
        }
    }

    /// What was due has been announced.
    pub fn announced(&mut self, now: Instant) {
        self.due = false;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_build_is_told_at_once_and_a_busy_one_in_steps() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        for _ in 0..=CREDIT {
            assert_eq!(pace.event(at(1)), Announce::Now);
        }
        assert_eq!(pace.event(at(2)), Announce::At(at(21)));
        assert_eq!(pace.event(at(3)), Announce::Due);
        pace.announced(at(21));
        assert_eq!(pace.event(at(22)), Announce::At(at(41)));
        pace.announced(at(41));
        // One that comes later than the pause is never held.
        for n in 0..100 {
            assert_eq!(pace.event(at(66 + 25 * n)), Announce::Now);
        }
        // Quiet earns credit again, up to its limit.
        for _ in 0..=CREDIT {
            assert_eq!(pace.event(at(9000)), Announce::Now);
        }
        assert_eq!(pace.event(at(9000)), Announce::At(at(9020)));
    }
}
