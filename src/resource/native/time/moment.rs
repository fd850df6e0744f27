//! A moment with the offset it is written in, in the formats that Go gives it.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::base::clock::Time;

/// Go's zero time, which stands for none.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// An instant and how far the clock that shows it is from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub instant: Timestamp,
    /// What to add to UTC when writing it.
    pub offset: Offset,
}

impl Moment {
    /// `now` as the clocks in `zone` show it.
    pub fn new(now: Time, zone: TimeZone) -> Moment {
        let instant = Timestamp::from_millisecond(now.0).unwrap_or_default();
        Moment { instant, offset: zone.to_offset(instant) }
    }

    /// Reads RFC 3339, keeping its offset.
    pub fn parse(text: &str) -> Option<Moment> {
        let instant: Timestamp = text.parse().ok()?;
        // The part after the seconds, where an offset stands; a `T` and a time come before it.
        let (_, clock) = text.split_once(['T', 't'])?;
        let offset = match clock.find(['+', '-']) {
            None => Offset::UTC,
            Some(at) => {
                let sign = if clock[at..].starts_with('-') { -1 } else { 1 };
                let (hours, minutes) = clock[at + 1..].split_once(':')?;
                Offset::from_seconds(sign * (hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60))
                    .ok()?
            }
        };
        Some(Moment { instant, offset })
    }

    /// As Go writes a time in JSON: RFC 3339 with as many digits of the second as are needed.
    pub fn rfc3339(&self) -> String {
        let offset = if self.offset.seconds() == 0 { "Z".to_owned() } else { self.offset_text(":") };
        format!("{}{}{offset}", self.offset.to_datetime(self.instant).strftime("%Y-%m-%dT%H:%M:%S"), self.fraction())
    }

    /// As Go's `Time.String`: `2006-01-02 15:04:05.999999999 -0700 MST`.
    pub fn long(&self) -> String {
        let clock = self.offset.to_datetime(self.instant).strftime("%Y-%m-%d %H:%M:%S");
        let offset = self.offset_text("");
        let name = if self.offset.seconds() == 0 { "UTC" } else { &offset };
        format!("{clock}{} {offset} {name}", self.fraction())
    }

    fn fraction(&self) -> String {
        match self.instant.as_nanosecond().rem_euclid(1_000_000_000) {
            0 => String::new(),
            nanos => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
        }
    }

    fn offset_text(&self, separator: &str) -> String {
        let seconds = self.offset.seconds();
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
        format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
    }
}
