//! How often something is checked.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::duration::{ParseError, nanos};

/// `never`, an interval, or left empty for the server's default. Intervals may be negative: Concourse takes them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckEvery {
    /// Only when asked.
    Never,
    /// After so many nanoseconds; 0 means the default.
    Nanos(i64),
}

impl CheckEvery {
    /// Reads `never` or a duration as Go writes it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match text {
            "never" => Ok(CheckEvery::Never),
            "" => Ok(CheckEvery::Nanos(0)),
            _ => nanos(text).map(CheckEvery::Nanos),
        }
    }

    /// The interval, if one was given.
    pub fn interval(&self) -> Option<std::time::Duration> {
        match self {
            CheckEvery::Nanos(n) if *n > 0 => Some(std::time::Duration::from_nanos(n.unsigned_abs())),
            _ => None,
        }
    }
}

/// `number` divided by a power of ten, without trailing zeros.
fn decimal(number: u64, digits: u32) -> String {
    let unit = 10u64.pow(digits);
    let (whole, rest) = (number / unit, number % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:0width$}", width = digits as usize);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

impl fmt::Display for CheckEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckEvery::Nanos(nanos) = self else { return f.write_str("never") };
        let n = nanos.unsigned_abs();
        if *nanos < 0 {
            f.write_str("-")?;
        }
        match n {
            0 => Ok(()),
            1..1_000 => write!(f, "{n}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(n, 3)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(n, 6)),
            _ => {
                let minutes = n / 60_000_000_000;
                let seconds = decimal(n % 60_000_000_000, 9);
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{seconds}s"),
                    (0, m) => write!(f, "{m}m{seconds}s"),
                    (h, m) => write!(f, "{h}h{m}m{seconds}s"),
                }
            }
        }
    }
}

impl Serialize for CheckEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CheckEvery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CheckEvery::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_intervals_as_go_does() {
        for (text, out) in [
            ("never", "never"),
            ("", ""),
            ("0s", ""),
            ("1m", "1m0s"),
            ("-1m", "-1m0s"),
            ("90s", "1m30s"),
            ("24h", "24h0m0s"),
            ("1.5s", "1.5s"),
            ("1500us", "1.5ms"),
            ("1us", "1µs"),
        ] {
            assert_eq!(CheckEvery::parse(text).unwrap().to_string(), out, "{text}");
        }
        assert_eq!(CheckEvery::parse("1d").unwrap_err().to_string(), r#"time: unknown unit "d" in duration "1d""#);
        assert_eq!(CheckEvery::parse("-1d").unwrap_err().to_string(), r#"time: unknown unit "d" in duration "-1d""#);
    }
}
