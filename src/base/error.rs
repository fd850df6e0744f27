//! What an error *is* (kind) and what to do about it (hint); each module has its own error type beside its cause.

use std::fmt;

/// The class of an error: decides the HTTP status (`front`) and the exit code (`cli`), each in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller's input is wrong.
    Invalid,
    /// What was named is not there.
    NotFound,
    /// The state does not allow it now.
    Conflict,
    /// Not signed in.
    Unauthenticated,
    /// Signed in, but not allowed.
    Forbidden,
    /// Something outside is missing or down.
    Unavailable,
    /// A fault of our own.
    Internal,
}

/// An error with its kind and, where there is one, the next thing to try.
#[derive(Debug)]
pub struct Error {
    /// What class it is of.
    pub kind: Kind,
    /// What happened, in lower case without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, source: None }
    }

    /// A fault of our own with its cause.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        Error { kind: Kind::Internal, message: source.to_string(), hint: None, source: Some(source) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
