//! Registries of images: names, manifests, and a client for the distribution protocol.
//!
//! Everything here goes through [`crate::base::outgoing`], since the addresses are tenants' words.

pub mod archive;
pub mod auth;
pub mod client;
pub mod manifest;
pub mod reference;

use std::sync::Arc;

use serde::Deserialize;

use crate::base::outgoing::Outgoing;
use crate::base::secret::Secret;

pub use client::{Access, Registry};
pub use manifest::{Config, Descriptor, Index, Manifest, Platform};
pub use reference::Repository;

/// What the operator has set about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Where requests may not go.
    pub outgoing: Outgoing,
    /// A registry that is asked before Docker Hub where a source names none.
    pub mirror: Option<Arc<Mirror>>,
    /// Whether sources without keys of their own use the server's identity for Amazon's registry.
    pub ecr_as_server: bool,
}

/// A registry that stands for Docker Hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// Where: `host`, or with its scheme.
    pub host: String,
    /// Who.
    pub username: String,
    /// And how to prove it.
    pub password: Secret<String>,
    /// Authorities of its own, PEM.
    pub ca_certs: Vec<String>,
}

/// Why a registry did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The name of a repository or a setting cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers, or the answer broke off: worth another try.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Which host.
        host: String,
        /// Why.
        reason: String,
    },
    /// It answers, but not with what was asked for.
    #[error("{what}: {host} answered {status}{}", told(detail))]
    Refused {
        /// What was asked.
        what: String,
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// Its own words.
        detail: String,
    },
    /// It does not let these credentials in.
    #[error("{what}: {host} answered {status}: {}{}", if *anonymous {
        "it wants a sign-in, or there is no such image: set source.username and source.password"
    } else {
        "it does not accept these credentials for this image: check source.username and source.password"
    }, told(detail))]
    Unauthorized {
        /// What was asked.
        what: String,
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// Whether no credentials were sent.
        anonymous: bool,
        /// Its own words.
        detail: String,
    },
    /// The content is not what its digest says.
    #[error("{what} is damaged: its digest is {found} and not {expected}")]
    Damaged {
        /// Which content.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The image has not what is asked for.
    #[error("{0}")]
    Unusable(String),
}

fn told(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

/// Result of a question to a registry.
pub type Result<T> = std::result::Result<T, Error>;
