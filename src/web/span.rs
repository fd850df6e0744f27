//! Times in words: how long, how long ago, and the exact moment for whoever hovers.

use jiff::Timestamp;

use crate::base::clock::Time;

/// `1h 02m`, `3m 05s`, `12s`: two units, enough to compare.
pub fn span(milliseconds: i64) -> String {
    let s = milliseconds.max(0) / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// How long something took, in the whole seconds in which all else tells its beginning and its end.
pub fn took(from: Time, to: Time) -> String {
    span((to.0.div_euclid(1000) - from.0.div_euclid(1000)) * 1000)
}

/// `just now`, `5m ago`, `3d ago`: one unit.
pub fn ago(now: Time, then: Time) -> String {
    match (now.0 - then.0).max(0) / 1000 {
        0..5 => "just now".into(),
        s @ 5..60 => format!("{s}s ago"),
        s @ 60..3600 => format!("{}m ago", s / 60),
        s @ 3600..86_400 => format!("{}h ago", s / 3600),
        s => format!("{}d ago", s / 86_400),
    }
}

/// A moment as a `<time>` element needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339, for machines.
    pub iso: String,
    /// For people who hover.
    pub exact: String,
    /// How long ago.
    pub ago: String,
}

impl Moment {
    /// `then`, seen from `now`.
    pub fn new(now: Time, then: Time) -> Moment {
        let at = Timestamp::from_millisecond(then.0).unwrap_or_default();
        Moment {
            iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            exact: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            ago: ago(now, then),
        }
    }
}

/// The time of day of a log line, in seconds since 1970.
pub fn clock(unix: i64) -> String {
    Timestamp::from_second(unix).unwrap_or_default().strftime("%H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_a_second_took_one() {
        assert_eq!(took(Time(1_900), Time(2_100)), "1s");
        assert_eq!(took(Time(2_000), Time(2_900)), "0s");
    }

    #[test]
    fn words_for_times() {
        for (s, text) in [(0, "0s"), (59, "59s"), (65, "1m 05s"), (3720, "1h 02m"), (90_000, "1d 1h")] {
            assert_eq!(span(s * 1000), text);
        }
        for (s, text) in [(-9, "just now"), (30, "30s ago"), (120, "2m ago"), (7300, "2h ago"), (200_000, "2d ago")] {
            assert_eq!(ago(Time(s * 1000), Time(0)), text);
        }
        assert_eq!(Moment::new(Time(0), Time(1_795_391_761_000)).exact, "2026-11-22 23:56:01 UTC");
        assert_eq!(clock(61), "00:01:01 UTC");
    }
}
