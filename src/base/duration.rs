//! Durations as Go writes them (`1h30m`, `250ms`), since pipelines and flags carry them.

use std::time::Duration;

/// Why a duration could not be read; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing that looks like a duration.
    #[error("time: invalid duration {}", quoted(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quoted(.0))]
    MissingUnit(String),
    /// A unit that Go does not know.
    #[error("time: unknown unit {} in duration {}", quoted(.1), quoted(.0))]
    UnknownUnit(String, String),
}

/// In quotes as Go's package `time` does it: every byte beyond printable ASCII as a number.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' | 0x7f => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a duration as Go's `time.ParseDuration` does. Negative ones are refused as invalid: nothing here means them.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let nanos = nanos(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| ParseError::Invalid(text.to_owned()))
}

/// Reads a duration that may be negative, as nanoseconds.
pub fn nanos(text: &str) -> Result<i64, ParseError> {
    let invalid = || ParseError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        if !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(invalid());
        }
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        if whole > MOST {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = match &after[..end] {
            "" => return Err(ParseError::MissingUnit(text.to_owned())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => return Err(ParseError::UnknownUnit(text.to_owned(), other.to_owned())),
        };
        let part = part(fraction, unit);
        let sum = whole.checked_mul(unit).and_then(|n| n.checked_add(part)).and_then(|n| total.checked_add(n));
        total = sum.filter(|&sum| sum <= MOST).ok_or_else(invalid)?;
        rest = &after[end..];
    }
    match negative {
        true => 0i64.checked_sub_unsigned(total).ok_or_else(invalid),
        false => i64::try_from(total).map_err(|_| invalid()),
    }
}

/// As many nanoseconds as lie below zero.
const MOST: u64 = 1 << 63;

/// A fraction of a unit, rounded as Go rounds it; digits that no number can hold are passed over.
fn part(fraction: &str, unit: u64) -> u64 {
    let (mut digits, mut scale) = (0u64, 1.0);
    for digit in fraction.bytes() {
        let Some(more) = digits.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))) else { break };
        if more > MOST {
            break;
        }
        digits = more;
        scale *= 10.0;
    }
    (digits as f64 * (unit as f64 / scale)) as u64
}

/// The digits a text starts with, and what follows.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
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

/// Writes all of it as Go's `Duration.String` does: `59m59.85s`, `1.5ms`, `3s`.
pub fn exact(d: Duration) -> String {
    let fraction = |whole: u64, rest: u64, digits: usize| {
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let nanos = u64::from(d.subsec_nanos());
    match (d.as_secs(), nanos) {
        (0, 0) => "0s".to_owned(),
        (0, n) if n < 1_000 => format!("{n}ns"),
        (0, n) if n < 1_000_000 => format!("{}\u{b5}s", fraction(n / 1_000, n % 1_000, 3)),
        (0, n) => format!("{}ms", fraction(n / 1_000_000, n % 1_000_000, 6)),
        (secs, n) => {
            let minutes = format(Duration::from_secs(secs - secs % 60));
            let minutes = if secs < 60 { "" } else { minutes.trim_end_matches("0s") };
            format!("{minutes}{}s", fraction(secs % 60, n, 9))
        }
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
        let odd = parse("\u{e9}\"").unwrap_err().to_string();
        assert_eq!(odd, r#"time: invalid duration "\xc3\xa9\"""#);
        assert_eq!(parse("10x").unwrap_err().to_string(), r#"time: unknown unit "x" in duration "10x""#);
        assert_eq!(parse("fast").unwrap_err().to_string(), r#"time: invalid duration "fast""#);
        assert!(parse("-1s").is_err());
        assert_eq!(nanos(".52562048h").unwrap(), 1_892_233_728_000);
        assert_eq!(nanos("-1.5m").unwrap(), -90_000_000_000);
        let large = nanos("9223372036854775809").unwrap_err().to_string();
        assert_eq!(large, r#"time: invalid duration "9223372036854775809""#);
    }

    #[test]
    fn writes_what_go_writes() {
        for (secs, text) in [(0, "0s"), (3, "3s"), (65, "1m5s"), (3600, "1h0m0s"), (86_400, "24h0m0s")] {
            assert_eq!(format(Duration::from_secs(secs)), text);
            assert_eq!(exact(Duration::from_secs(secs)), text);
        }
        for (nanos, text) in [
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (850_000_000, "850ms"),
            (1_000_000_001, "1.000000001s"),
            (60_250_000_000, "1m0.25s"),
            (3_599_850_000_000, "59m59.85s"),
            (3_600_500_000_000, "1h0m0.5s"),
        ] {
            assert_eq!(exact(Duration::from_nanos(nanos)), text);
        }
    }
}
