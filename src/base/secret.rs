//! A value that cannot be printed, and the redactor that removes such values from what leaves a build.

use std::fmt;
use std::sync::{Arc, RwLock};

/// What replaces a secret in output, Concourse's own word.
pub const REDACTED: &str = "((redacted))";

/// Holds a secret. `Debug` hides it, there is no `Display`; only [`Secret::expose`] shows it.
#[derive(Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value itself. Every call is a place to review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T: std::str::FromStr> std::str::FromStr for Secret<T> {
    type Err = T::Err;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Secret)
    }
}

/// Replaces the secrets one build has learnt in everything that leaves it. Clones share what they know.
///
/// Each line of a secret is matched on its own, trimmed, and only where longer than one character
/// (Concourse: `atc/engine/log_event_writer.go`).
#[derive(Debug, Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<Secret<String>>>>);

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns every line of `value`.
    pub fn learn(&self, value: &str) {
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for line in value.lines().map(str::trim).filter(|l| l.chars().count() > 1) {
            if !known.iter().any(|k| k.expose() == line) {
                known.push(Secret::new(line.to_owned()));
            }
        }
        // Longer first, so that a secret that contains another leaves nothing of itself behind.
        known.sort_by_key(|k| std::cmp::Reverse(k.expose().len()));
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// `text` without any secret.
    pub fn redact(&self, text: &str) -> String {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut out = text.to_owned();
        for secret in known.iter() {
            if out.contains(secret.expose().as_str()) {
                out = out.replace(secret.expose().as_str(), REDACTED);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), REDACTED);
    }

    #[test]
    fn each_line_of_a_secret_is_hidden_and_single_characters_are_not() {
        let r = Redactor::new();
        r.learn("first\n  second \nx");
        assert_eq!(r.redact("a first b second c x"), "a ((redacted)) b ((redacted)) c x");
    }

    #[test]
    fn the_longer_of_two_nested_secrets_wins() {
        let r = Redactor::new();
        r.learn("pass");
        r.learn("password");
        assert_eq!(r.redact("password pass"), "((redacted)) ((redacted))");
    }
}
