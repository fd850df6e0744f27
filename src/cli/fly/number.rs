//! Numbers on the command line, as Go reads them: in base 16, 8 or 2 behind `0x`, `0` or `0o`, and `0b`, with `_` between
//! digits.

/// Reads one; why it is none, in Go's words.
pub fn integer(text: &str) -> Result<i64, String> {
    let failed = |why: &str| format!("strconv.ParseInt: parsing {text:?}: {why}");
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = rest.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // Behind a prefix one may stand too.
    let spaced = if base == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let groups: Vec<&str> = spaced.split('_').collect();
    if groups.iter().any(|group| group.is_empty() || !group.chars().all(|c| c.is_digit(base))) {
        return Err(failed("invalid syntax"));
    }
    let sign = if is_negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{}", groups.concat()), base).map_err(|_| failed("value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (text, number) in [
            ("50", 50),
            ("-2", -2),
            ("+7", 7),
            ("0", 0),
            ("0x3", 3),
            ("0XfF", 255),
            ("017", 15),
            ("0o17", 15),
            ("0b101", 5),
            ("1_000", 1000),
            ("0x_f_f", 255),
            ("0_7", 7),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(text), Ok(number), "{text}");
        }
        for text in ["", "-", "x", "1.5", "_1", "1_", "1__0", "08", "0x", "0b2", "1e3", "--1", " 1"] {
            assert_eq!(integer(text), Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        }
        let much = integer("9223372036854775808").unwrap_err();
        assert_eq!(much, "strconv.ParseInt: parsing \"9223372036854775808\": value out of range");
    }
}
