//! What knows nothing of CI: clock, ids, versions, durations, secrets, errors, wake-ups, shutdown.

/// The release of Concourse whose API and client we are compatible with.
pub const CONCOURSE_VERSION: &str = "8.2.5";

pub mod clock;
pub mod duration;
pub mod error;
pub mod id;
pub mod secret;
pub mod shutdown;
pub mod stream;
pub mod version;
pub mod wake;
