//! What names should look like.

use std::sync::LazyLock;

use regex::Regex;

use super::problem::Warning;

static VALID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9][\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9\-_.]*$").expect("a constant pattern")
});

static ILLEGAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[^\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9\-_.]").expect("a constant pattern"));

static START: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9]").expect("a constant pattern"));

/// What there is to say about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is taken with a warning.
    Odd(Warning),
    /// It is empty, which is refused with this text.
    Empty(String),
}

/// Judges a name; `context` says whose it is, innermost last.
pub fn judge(name: &str, context: &[String]) -> Verdict {
    if plain(name) {
        return Verdict::Fine;
    }
    let place = context.concat();
    if name.is_empty() {
        return Verdict::Empty(format!("{place}: identifier cannot be an empty string"));
    }
    if let [.., outer, inner] = context
        && outer == ".across"
        && (inner.contains("set_pipeline") || inner.contains("task"))
    {
        return Verdict::Fine;
    }
    let reason = if name.bytes().all(|b| b.is_ascii_digit()) {
        "cannot be just numbers".to_owned()
    } else if VALID.is_match(name) {
        return Verdict::Fine;
    } else if !START.is_match(name) {
        "must start with a lowercase letter or a number".to_owned()
    } else {
        format!("illegal character '{}'", illegal(name))
    };
    let message = format!("{place}: '{name}' is not a valid identifier: {reason}");
    Verdict::Odd(Warning::new("invalid_identifier", message))
}

/// Whether nothing needs to be looked up to see that a name is as it should be.
fn plain(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || matches!(b, b'-' | b'_' | b'.'))
        && !name.bytes().all(|b| b.is_ascii_digit())
}

/// The first illegal character after the first byte; Concourse cuts a first letter of several bytes in half.
fn illegal(name: &str) -> &str {
    match name.get(1..) {
        Some(rest) => ILLEGAL.find(rest).map_or("", |m| m.as_str()),
        None => "\u{FFFD}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_concourse_says() {
        let judge = |name: &str| judge(name, &["jobs".to_owned()]);
        for name in ["a", "größe", "1a", "a-b_c.d", "日本"] {
            assert_eq!(judge(name), Verdict::Fine, "{name}");
        }
        for (name, reason) in [
            ("1", "cannot be just numbers"),
            ("A", "must start with a lowercase letter or a number"),
            ("-a", "must start with a lowercase letter or a number"),
            ("a b", "illegal character ' '"),
            ("aB", "illegal character 'B'"),
            ("a/b", "illegal character '/'"),
        ] {
            let message = format!("jobs: '{name}' is not a valid identifier: {reason}");
            assert_eq!(judge(name), Verdict::Odd(Warning::new("invalid_identifier", message)));
        }
        assert!(matches!(judge(""), Verdict::Empty(_)));
    }
}
