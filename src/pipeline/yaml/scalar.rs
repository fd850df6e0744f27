//! What a plain YAML word means: null, a boolean, a number or itself.

use serde_json::{Number, Value};

use crate::vars::number;

/// The tag URI prefix of YAML's own types.
const CORE: &str = "tag:yaml.org,2002:";

/// What a scalar turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Null, boolean, integer or string.
    Plain(Value),
    /// A number with a fraction or an exponent; may be infinite or no number at all.
    Float(f64),
}

/// Reads a scalar with its tag; only plain ones and tagged ones get here.
pub fn resolve(tag: &str, text: &str) -> Result<Scalar, String> {
    let short = short(tag);
    match short.as_str() {
        "" => Ok(untagged(text)),
        "!!str" => Ok(Scalar::Plain(text.into())),
        "!!binary" => binary(text).map(|s| Scalar::Plain(s.into())),
        "!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp" => tagged(&short, text),
        _ => Ok(Scalar::Plain(text.into())),
    }
}

/// Whether Go's yaml v3 could read it, to which `yes`, `on` and their like are words.
pub(super) fn resolve_as_client(tag: &str, text: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Ok(());
    }
    let short = short(tag);
    let decides = matches!(short.as_str(), "!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp");
    match untagged(text) {
        Scalar::Plain(Value::Bool(_)) if decides && !is_client_bool(text) => {
            Err(format!("cannot decode !!str `{text}` as a {short}"))
        }
        _ => resolve(tag, text).map(drop),
    }
}

/// Whether a plain word is a boolean to Go's yaml v3.
pub(super) fn is_client_bool(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// A tag as it is written, `!!str` for one of YAML's own.
pub(super) fn short(tag: &str) -> String {
    tag.strip_prefix(CORE).map(|t| format!("!!{t}")).unwrap_or_else(|| tag.to_owned())
}

fn tagged(short: &str, text: &str) -> Result<Scalar, String> {
    let found = untagged(text);
    let kind = match &found {
        Scalar::Float(_) => "!!float",
        Scalar::Plain(Value::Null) => "!!null",
        Scalar::Plain(Value::Bool(_)) => "!!bool",
        Scalar::Plain(Value::Number(_)) => "!!int",
        Scalar::Plain(_) => "!!str",
    };
    match (&found, short) {
        _ if kind == short => Ok(found),
        (Scalar::Plain(Value::Number(n)), "!!float") => Ok(Scalar::Float(n.as_f64().unwrap_or_default())),
        (_, "!!timestamp") if kind == "!!str" && looks_like_a_date(text) => Ok(found),
        _ => Err(format!("cannot decode {kind} `{text}` as a {short}")),
    }
}

fn looks_like_a_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

fn binary(text: &str) -> Result<String, String> {
    use base64::Engine;
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|_| "!!binary value contains invalid base64 data".to_owned())
}

/// Whether a plain word without a tag is sure to mean itself: no number begins so, and no other word is that long.
pub fn is_word(text: &str) -> bool {
    text.len() > 5 && text.as_bytes()[0].is_ascii_alphabetic()
}

/// What a plain word without a tag means.
pub fn untagged(text: &str) -> Scalar {
    if is_word(text) {
        return Scalar::Plain(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Plain(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Plain(true.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Plain(false.into());
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map(Scalar::Float),
        b'+' | b'-' | b'0'..=b'9' => numeric(text),
        _ => None,
    }
    .unwrap_or_else(|| Scalar::Plain(text.into()))
}

fn numeric(text: &str) -> Option<Scalar> {
    let plain = text.replace('_', "");
    if let Some(n) = integer(&plain) {
        return Some(Scalar::Plain(Value::Number(n)));
    }
    float(&plain).map(Scalar::Float)
}

/// Reads an integer as Go's `ParseInt` and `ParseUint` do with base 0: `0x`, `0o`, `0b`, and a leading 0 for octal.
fn integer(plain: &str) -> Option<Number> {
    let (sign, digits) = match plain.as_bytes().first()? {
        b'-' => ("-", &plain[1..]),
        b'+' => ("+", &plain[1..]),
        _ => ("", plain),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(rest, radix).ok()?;
    let number = if sign == "-" { -magnitude } else { magnitude };
    if let Ok(n) = i64::try_from(number) {
        return Some(n.into());
    }
    u64::try_from(number).ok().filter(|_| sign.is_empty()).map(Number::from)
}

/// Reads a float in YAML's notation; one too large for a float is none.
fn float(plain: &str) -> Option<f64> {
    let body = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let starts = body.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !starts || !body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    plain.parse::<f64>().ok().filter(|f| f.is_finite())
}

/// The text of a scalar used as a key, as sigs' YAML writes it, floats in single precision; none for null.
pub fn key(scalar: &Scalar) -> Option<String> {
    match scalar {
        Scalar::Plain(Value::Null) => None,
        Scalar::Plain(Value::String(s)) => Some(s.clone()),
        Scalar::Plain(other) => Some(other.to_string()),
        Scalar::Float(f) if f.is_nan() => Some(".nan".into()),
        Scalar::Float(f) => match *f as f32 {
            f32::INFINITY => Some(".inf".into()),
            f32::NEG_INFINITY => Some("-.inf".into()),
            single => single.to_string().parse().ok().map(number::shortest),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_yaml_1_1_and_go() {
        for (text, want) in [
            ("010", 8),
            ("0o10", 8),
            ("0x1F", 31),
            ("0b11", 3),
            ("-0x10", -16),
            ("+7", 7),
            ("1_000", 1000),
            ("0", 0),
            ("-0", 0),
        ] {
            assert_eq!(untagged(text), Scalar::Plain(want.into()), "{text}");
        }
        for (text, want) in [("08", 8.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("-1.5E-2", -0.015)] {
            assert_eq!(untagged(text), Scalar::Float(want), "{text}");
        }
        for text in ["12:30", "1E400", "2001-01-01", "0x", "-", "+", "1-2", ".", "--1", "1e", "a1", "_1", "0xg", "-+1"]
        {
            assert_eq!(untagged(text), Scalar::Plain(text.into()), "{text}");
        }
        assert_eq!(untagged("18446744073709551615"), Scalar::Plain(u64::MAX.into()));
    }

    #[test]
    fn words_mean_themselves() {
        for text in ["branch", "falsey", "FALSE1", "nullnull"] {
            assert!(is_word(text) && untagged(text) == Scalar::Plain(text.into()), "{text}");
        }
        assert!(["false", "null", "yes", "123456", ".infinite", "-12345", ""].iter().all(|text| !is_word(text)));
    }

    #[test]
    fn tags_decide_or_refuse() {
        assert_eq!(resolve("tag:yaml.org,2002:str", "1"), Ok(Scalar::Plain("1".into())));
        assert_eq!(resolve("tag:yaml.org,2002:float", "1"), Ok(Scalar::Float(1.0)));
        assert_eq!(resolve("tag:yaml.org,2002:binary", "aGk="), Ok(Scalar::Plain("hi".into())));
        assert_eq!(resolve("!other", "1"), Ok(Scalar::Plain("1".into())));
        let refused = resolve("tag:yaml.org,2002:int", "x").unwrap_err();
        assert_eq!(refused, "cannot decode !!str `x` as a !!int");
    }
}
