//! Durations as Go writes them (`1h30m`, `250ms`), since pipelines and flags carry them.

use std::time::Duration;

/// Why a duration could not be read; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing that looks like a duration.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that Go does not know.
    #[error("time: unknown unit {1:?} in duration {0:?}")]
    UnknownUnit(String, String),
}

/// Reads a duration as Go's `time.ParseDuration` does. Negative ones are refused as invalid: nothing here means them.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let invalid = || ParseError::Invalid(text.to_owned());
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => return Err(ParseError::MissingUnit(text.to_owned())),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => return Err(ParseError::UnknownUnit(text.to_owned(), other.to_owned())),
        };
        rest = &rest[end..];
        total += number * unit;
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

/// Writes whole seconds as Go's `Duration.String` does: `1h0m0s`, `1m5s`, `3s`.
pub fn format(d: Duration) -> String {
    let secs = d.as_secs();
    if secs == 0 {
        return match d.subsec_millis() {
            0 => "0s".to_owned(),
            ms => format!("{ms}ms"),
        };
    }
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, m) => format!("{m}m{s}s"),
        (h, m) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, ms) in
            [("1h", 3_600_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("250ms", 250), ("0", 0), ("+2m", 120_000)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        assert_eq!(parse("10").unwrap_err().to_string(), r#"time: missing unit in duration "10""#);
        assert_eq!(parse("10x").unwrap_err().to_string(), r#"time: unknown unit "x" in duration "10x""#);
        assert_eq!(parse("fast").unwrap_err().to_string(), r#"time: invalid duration "fast""#);
        assert!(parse("-1s").is_err());
    }

    #[test]
    fn writes_what_go_writes() {
        for (secs, text) in [(0, "0s"), (3, "3s"), (65, "1m5s"), (3600, "1h0m0s"), (86_400, "24h0m0s")] {
            assert_eq!(format(Duration::from_secs(secs)), text);
        }
    }
}
