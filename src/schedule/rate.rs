//! How many things may begin within a second.

use std::time::Duration;

use crate::base::clock::Time;

/// What is not used is saved up for this long, so that a wait need not be shorter.
const SAVED: Duration = Duration::from_millis(250);

/// Lets at most so many through in a second; a value, which the caller tells the time.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: f64,
    left: f64,
    at: Option<Time>,
}

impl Rate {
    /// None for 0 and less, which is no bound.
    pub fn new(per_second: i64) -> Option<Rate> {
        let per_second = u32::try_from(per_second).ok().filter(|n| *n > 0)?;
        Some(Rate { per_second: f64::from(per_second), left: 1.0, at: None })
    }

    /// One goes through now, or how long it waits at least.
    pub fn take(&mut self, now: Time) -> Result<(), Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        let most = (self.per_second * SAVED.as_secs_f64()).max(1.0);
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(most);
        self.at = Some(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        // Whole milliseconds, as the clock has them: a wait that is cut short would be for nothing.
        let wait = ((1.0 - self.left) * 1000.0 / self.per_second).ceil();
        Err(Duration::from_millis(wait as u64).max(SAVED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(per_second: i64, seconds: i64) -> usize {
        let mut rate = Rate::new(per_second).unwrap();
        let (mut now, mut through) = (Time(1_000), 0);
        while now.0 < 1_000 + seconds * 1000 {
            match rate.take(now) {
                Ok(()) => through += 1,
                Err(wait) => now = now.plus(wait),
            }
        }
        through
    }

    #[test]
    fn no_more_go_through_than_allowed_and_hardly_fewer() {
        for (per_second, expected) in [(1, 9..=11), (3, 28..=31), (100, 950..=1001), (1000, 9_500..=10_001)] {
            let got = through(per_second, 10);
            assert!(expected.contains(&got), "{per_second}: {got}");
        }
        assert!(Rate::new(0).is_none() && Rate::new(-1).is_none());
    }
}
