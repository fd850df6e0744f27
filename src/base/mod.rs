//! What knows nothing of CI: clock, ids, versions, durations, secrets, errors, wake-ups, shutdown.

pub mod chance;
pub mod clock;
mod disguise;
pub mod distance;
pub mod duration;
pub mod error;
pub mod hold;
pub mod id;
pub mod network;
pub mod outgoing;
pub mod packing;
mod redactor;
pub mod secret;
pub mod shutdown;
pub mod stream;
pub mod trust;
pub mod version;
pub mod wake;

/// The Concourse this server speaks as; the client compares major and minor.
pub const CONCOURSE_VERSION: &str = "8.2.5";
/// The header in which the server says that version where it was told to speak as another.
pub const REAL_VERSION: &str = "x-whistlestop-concourse-version";
/// The version of Concourse's worker interface.
pub const WORKER_VERSION: &str = "2.5";
