//! What a `time` resource is configured with, read as leniently and as strictly as the original reads it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::base::duration;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const TIME_FORMATS: &str =
    "3:04 PM -0700, 3PM -0700, 3 PM -0700, 15:04 -0700, 1504 -0700, 3:04 PM, 3PM, 3 PM, 15:04, 1504";
const DATE_FORMATS: &str = "2006-01-02T15:04:05, 2006-01-02T15:04, 2006-01-02T15, 2006-01-02, 2006-01-02 15:04:05";

/// Minutes after midnight.
pub type TimeOfDay = i64;

/// The configuration.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Give the present moment when there is no version yet.
    pub initial_version: bool,
    /// Time between versions.
    pub interval: Option<Duration>,
    /// Begin of the range of the day.
    pub start: Option<TimeOfDay>,
    /// End of the range of the day.
    pub stop: Option<TimeOfDay>,
    /// Days of the week, 0 is Sunday; empty is all.
    pub days: Vec<i8>,
    /// Where `start`, `stop`, `days` and `start_after` are meant.
    pub location: Option<TimeZone>,
    /// Nothing before this.
    pub start_after: Option<DateTime>,
}

/// The zone that is meant where none is named.
pub fn utc() -> TimeZone {
    TimeZone::UTC
}

impl Source {
    /// Reads it; the error is for people.
    pub fn read(object: &Map<String, Value>) -> Result<Source, String> {
        let text = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("source.{key} must be a string: put it in quotes")),
        };
        let initial_version = match object.get("initial_version") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(given)) => *given,
            Some(_) => return Err("source.initial_version must be true or false".to_owned()),
        };
        let days = match object.get("days") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(days)) => days.iter().map(weekday).collect::<Result<_, _>>()?,
            Some(_) => return Err("source.days must be a list of days".to_owned()),
        };
        Ok(Source {
            initial_version,
            interval: text("interval")?.map(|t| duration::parse(t).map_err(|err| err.to_string())).transpose()?,
            start: text("start")?.map(time_of_day).transpose()?,
            stop: text("stop")?.map(time_of_day).transpose()?,
            days,
            location: text("location")?.map(zone).transpose()?,
            start_after: text("start_after")?.map(date_time).transpose()?,
        })
    }

    /// What reading alone cannot see.
    pub fn validate(&self) -> Result<(), &'static str> {
        match (self.start, self.stop) {
            (Some(_), None) => Err("must configure 'stop' if 'start' is set"),
            (None, Some(_)) => Err("must configure 'start' if 'stop' is set"),
            _ => Ok(()),
        }
    }

    /// The zone of `location`.
    pub fn zone(&self) -> TimeZone {
        self.location.clone().unwrap_or_else(utc)
    }

    /// As the original writes it to the file `input`.
    pub fn to_json(&self) -> Value {
        let clock = |t: Option<TimeOfDay>| t.map(|t| format!("{}:{:02}", t / 60, t % 60));
        let days: Vec<_> = self.days.iter().filter_map(|day| DAYS.get(usize::try_from(*day).ok()?)).collect();
        json!({
            "initial_version": self.initial_version,
            "interval": self.interval.map(duration::format),
            "start": clock(self.start),
            "stop": clock(self.stop),
            "days": if days.is_empty() { Value::Null } else { json!(days) },
            "location": self.location.as_ref().map(|zone| zone.iana_name().unwrap_or("UTC")),
            "start_after": self.start_after.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S").to_string()),
        })
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    match name {
        // Go's names for the machine's own zone, which in Concourse's image is UTC.
        "" | "UTC" | "Local" => Ok(utc()),
        name => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}")),
    }
}

fn weekday(value: &Value) -> Result<i8, String> {
    let text = value.as_str().ok_or_else(|| "source.days must be a list of days".to_owned())?;
    let lower = text.to_lowercase();
    let found = DAYS.iter().position(|day| {
        let day = day.to_lowercase();
        lower == day || lower == day[..3]
    });
    found.and_then(|n| i8::try_from(n).ok()).ok_or_else(|| format!("unknown weekday: {text}"))
}

fn time_of_day(text: &str) -> Result<TimeOfDay, String> {
    clock(text).ok_or_else(|| format!("invalid time format: {text}, must be one of: {TIME_FORMATS}"))
}

fn clock(text: &str) -> Option<TimeOfDay> {
    let (rest, offset) = match text.rsplit_once(' ').filter(|(_, zone)| zone.starts_with(['+', '-'])) {
        Some((rest, zone)) => (rest, zone_minutes(zone)?),
        None => (text, 0),
    };
    let local = match rest.strip_suffix("PM").map(|r| (r, 12)).or_else(|| rest.strip_suffix("AM").map(|r| (r, 0))) {
        Some((rest, half)) => {
            let rest = rest.strip_suffix(' ').unwrap_or(rest);
            // `3:04PM`, without the space, is not among the formats.
            if rest.contains(':') && !text.contains(" PM") && !text.contains(" AM") {
                return None;
            }
            let (hour, minute) = rest.split_once(':').map_or((rest, Some(0)), |(h, m)| (h, two_digits(m)));
            let hour = small(hour).filter(|h| *h <= 12)?;
            (hour % 12 + half) * 60 + minute.filter(|m| *m < 60)?
        }
        None => {
            let (hour, minute) = match rest.split_once(':') {
                Some(pair) => pair,
                None => rest.split_at_checked(rest.len().checked_sub(2)?)?,
            };
            small(hour).filter(|h| *h < 24)? * 60 + two_digits(minute).filter(|m| *m < 60)?
        }
    };
    Some((local - offset).rem_euclid(24 * 60))
}

fn small(text: &str) -> Option<i64> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn two_digits(text: &str) -> Option<i64> {
    (text.len() == 2).then(|| small(text)).flatten()
}

fn zone_minutes(text: &str) -> Option<i64> {
    let (sign, digits) = text.split_at_checked(1)?;
    let (hours, minutes) = digits.split_at_checked(2)?;
    let total = two_digits(hours)? * 60 + two_digits(minutes)?;
    Some(if sign == "-" { -total } else { total })
}

fn date_time(text: &str) -> Result<DateTime, String> {
    read_date_time(text).ok_or_else(|| format!("invalid date format: {text}, must be one of: {DATE_FORMATS}"))
}

fn read_date_time(text: &str) -> Option<DateTime> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let number = |text: &str| i8::try_from(two_digits(text)?).ok();
    let date = Date::new(year.parse().ok()?, number(month)?, number(day)?).ok()?;
    let Some(clock) = clock else { return Some(date.at(0, 0, 0, 0)) };
    let fields: Vec<&str> = clock.split(':').collect();
    // A space goes with the full time only.
    if fields.len() > 3 || (text.contains(' ') && fields.len() != 3) {
        return None;
    }
    let mut padded = String::new();
    write!(padded, "{:0>2}", small(fields.first()?)?).ok()?;
    let (minute, second) = (fields.get(1).copied().unwrap_or("00"), fields.get(2).copied().unwrap_or("00"));
    let second = second.split_once('.').map_or(second, |(whole, _)| whole);
    let time = jiff::civil::Time::new(number(&padded)?, number(minute)?, number(second)?, 0).ok()?;
    Some(date.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_in_every_format() {
        for (text, expected) in [
            ("3:04 PM", Some((15, 4))),
            ("3PM", Some((15, 0))),
            ("3 PM", Some((15, 0))),
            ("12 AM", Some((0, 0))),
            ("12:30 PM", Some((12, 30))),
            ("15:04", Some((15, 4))),
            ("5:04", Some((5, 4))),
            ("1504", Some((15, 4))),
            ("0000", Some((0, 0))),
            ("8:00 PM -0400", Some((0, 0))),
            ("1 AM +0200", Some((23, 0))),
            ("1500 -0730", Some((22, 30))),
            ("3:04PM", None),
            ("13PM", None),
            ("3 pm", None),
            ("25:00", None),
            ("9:60", None),
            ("9:5", None),
            ("noon", None),
            ("", None),
            ("+0700", None),
        ] {
            assert_eq!(clock(text), expected.map(|(h, m)| h * 60 + m), "{text}");
        }
    }

    #[test]
    fn dates_in_every_format() {
        for (text, expected) in [
            ("2023-10-01T09:30:15", Some("2023-10-01T09:30:15")),
            ("2023-10-01 09:30:15", Some("2023-10-01T09:30:15")),
            ("2023-10-01T09:30", Some("2023-10-01T09:30:00")),
            ("2023-10-01T9", Some("2023-10-01T09:00:00")),
            ("2023-10-01", Some("2023-10-01T00:00:00")),
            ("2023-10-01 09:30", None),
            ("2023-13-01", None),
            ("23-10-01", None),
            ("2023-10-01T09:30:15Z", None),
        ] {
            assert_eq!(read_date_time(text).map(|d| d.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_remedy() {
        for (source, text) in [
            (json!({"interval": "10"}), "time: missing unit in duration \"10\""),
            (json!({"interval": 10}), "source.interval must be a string: put it in quotes"),
            (json!({"location": "Nowhere/City"}), "unknown time zone Nowhere/City"),
            (json!({"days": ["Someday"]}), "unknown weekday: Someday"),
            (json!({"start": "noon"}), "invalid time format: noon, must be one of: 3:04 PM -0700"),
        ] {
            let err = Source::read(source.as_object().unwrap()).unwrap_err();
            assert!(err.starts_with(text), "{err}");
        }
    }
}
