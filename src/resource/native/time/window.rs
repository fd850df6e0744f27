//! When the next version is due: the range of the day, the days and the interval, as pure arithmetic.
//!
//! Local times that a change of the clocks skips or repeats are resolved as Go's `time.Date` does it, so that
//! the ranges begin and end at the very moments they do in Concourse.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

use super::source::{Source, TimeOfDay};

/// The rules of one resource.
#[derive(Debug)]
pub struct Window<'a> {
    source: &'a Source,
    zone: TimeZone,
}

impl<'a> Window<'a> {
    /// The rules of `source`.
    pub fn new(source: &'a Source) -> Self {
        Window { source, zone: source.zone() }
    }

    /// Whether there is a new version at `now`, the last one being of `previous`.
    pub fn due(&self, previous: Option<Timestamp>, now: Timestamp) -> bool {
        let (start, stop) = self.range(now);
        if !self.day_matches(now) || now < start || now >= stop {
            return false;
        }
        if self.source.start_after.is_some_and(|after| self.instant(after) >= now) {
            return false;
        }
        let Some(previous) = previous else { return true };
        match self.source.interval {
            Some(interval) => {
                let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
                now.duration_since(previous) >= interval
            }
            None => previous < start,
        }
    }

    /// The last range of the day that began at or before `now`, its end not included.
    pub fn range(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let local = self.local(now);
        let mut start = self.instant(at(local, self.source.start.unwrap_or(0)));
        if start > now {
            start = self.instant(days(self.local(start), -1));
        }
        let mut stop = self.instant(at(self.local(start), self.source.stop.unwrap_or(0)));
        if stop <= start {
            stop = self.instant(days(self.local(stop), 1));
        }
        (start, stop)
    }

    fn day_matches(&self, now: Timestamp) -> bool {
        let today = self.local(now).weekday().to_sunday_zero_offset();
        self.source.days.is_empty() || self.source.days.contains(&today)
    }

    fn local(&self, instant: Timestamp) -> DateTime {
        self.zone.to_datetime(instant)
    }

    /// Go's `time.Date`: the offset in force at the local time taken for UTC, or, where that lies on the other
    /// side of a change, the one in force at the result.
    fn instant(&self, local: DateTime) -> Timestamp {
        let shift = |offset: Offset| offset.to_timestamp(local).unwrap_or_default();
        let guess = self.zone.to_offset(shift(Offset::UTC));
        shift(self.zone.to_offset(shift(guess)))
    }
}

fn at(day: DateTime, minutes: TimeOfDay) -> DateTime {
    let hour = i8::try_from(minutes / 60).unwrap_or_default();
    let minute = i8::try_from(minutes % 60).unwrap_or_default();
    day.date().at(hour, minute, 0, 0)
}

fn days(local: DateTime, count: i64) -> DateTime {
    local.saturating_add(Span::new().days(count))
}
