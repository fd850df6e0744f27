//! Numbers as Go writes them, since what a pipeline says must come back as Concourse gives it back.

use serde_json::{Number, Value};

/// The shortest decimal digits of a float and its exponent, so that it is `0.d1d2… × 10^exponent`.
fn digits(f: f64) -> (bool, String, i32) {
    parted(f.is_sign_negative(), &format!("{:e}", f.abs()))
}

fn parted(negative: bool, text: &str) -> (bool, String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = mantissa.replace('.', "");
    (negative, digits, exponent.parse::<i32>().unwrap_or_default() + 1)
}

fn exponential(digits: &str, exponent: i32) -> String {
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    let (sign, size) = if exponent < 0 { ('-', -exponent) } else { ('+', exponent) };
    format!("{first}{dot}{rest}e{sign}{size:02}")
}

/// Go's `'g'` with the shortest digits, as yaml and strconv write a float: exponents below -4 and from 6 on.
pub fn shortest(f: f64) -> String {
    if !f.is_finite() {
        return infinite(f).to_owned();
    }
    general(digits(f), plain(f))
}

/// The same with no more digits than a float of 32 bits needs, as Concourse writes a number where text is wanted.
pub fn shortest_single(f: f64) -> String {
    let single = f as f32;
    if !single.is_finite() {
        return infinite(f64::from(single)).to_owned();
    }
    let text = format!("{:e}", single.abs());
    general(parted(single.is_sign_negative(), &text), format!("{}", single.abs()))
}

fn general((negative, digits, point): (bool, String, i32), plain: String) -> String {
    let sign = if negative { "-" } else { "" };
    let exponent = point - 1;
    if digits != "0" && !(-4..6).contains(&exponent) {
        return format!("{sign}{}", exponential(&digits, exponent));
    }
    format!("{sign}{plain}")
}

fn plain(f: f64) -> String {
    format!("{}", f.abs())
}

/// Go's words for what JSON cannot say.
pub fn infinite(f: f64) -> &'static str {
    match f {
        f if f.is_nan() => "NaN",
        f if f > 0.0 => "+Inf",
        _ => "-Inf",
    }
}

/// A float as Go's `encoding/json` writes it: whole numbers without a point, exponents below -6 and from 21 on.
pub fn json_text(f: f64) -> String {
    let (negative, digits, point) = digits(f);
    let sign = if negative { "-" } else { "" };
    let exponent = point - 1;
    if f != 0.0 && !(-6..21).contains(&exponent) {
        let body = exponential(&digits, exponent);
        return format!("{sign}{}", body.replace("e-0", "e-"));
    }
    format!("{sign}{}", plain(f))
}

/// A float as JSON: an integer where Go would write one that fits.
pub fn from_float(f: f64) -> Option<Number> {
    if !f.is_finite() {
        return None;
    }
    let text = json_text(f);
    if let Ok(n) = text.parse::<i64>()
        && text != "-0"
    {
        return Some(n.into());
    }
    text.parse::<u64>().map(Number::from).ok().or_else(|| Number::from_f64(f))
}

/// The text of a JSON number as Go writes it.
pub fn text(number: &Number) -> String {
    match number.as_f64() {
        Some(f) if number.is_f64() => json_text(f),
        _ => number.to_string(),
    }
}

/// Sends every number through a float, as Concourse does with what it stores.
pub fn through_float(value: &mut Value) {
    match value {
        Value::Number(n) => {
            // A zero below zero is written as `-0` and read again as a whole number.
            if let Some(settled) = n.as_f64().and_then(|f| from_float(if f == 0.0 { 0.0 } else { f })) {
                *n = settled;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(through_float),
        Value::Object(map) => map.values_mut().for_each(through_float),
        _ => {}
    }
}

/// Makes floats that are whole numbers whole, as writing them as YAML and reading that does.
pub fn settle(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            if let Some(settled) = n.as_f64().and_then(|f| from_float(if f == 0.0 { 0.0 } else { f })) {
                *n = settled;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(map) => map.values_mut().for_each(settle),
        _ => {}
    }
}

/// Makes every number a float, as Go's JSON does with a value of any type.
pub fn to_floats(value: &mut Value) {
    match value {
        Value::Number(n) => {
            if let Some(float) = n.as_f64().and_then(Number::from_f64) {
                *n = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(to_floats),
        Value::Object(map) => map.values_mut().for_each(to_floats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_writes_floats_as_go_does() {
        for (f, want) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (1.5e-10, "1.5e-10"),
            (12345678901234567890.0, "12345678901234567000"),
            (0.000001, "0.000001"),
        ] {
            assert_eq!(json_text(f), want);
        }
        for (f, want) in [(1e6, "1e+06"), (123456.5, "123456.5"), (1.2345678901234567e19, "1.2345678901234567e+19")] {
            assert_eq!(shortest(f), want);
        }
        assert_eq!(from_float(9223372036854775807.0).unwrap().to_string(), "9223372036854776000");
    }
}
