//! What knows nothing of CI: clock, ids, versions, durations, secrets, errors, wake-ups, shutdown.

pub mod clock;
pub mod duration;
pub mod error;
pub mod id;
pub mod secret;
pub mod shutdown;
pub mod stream;
pub mod version;
pub mod wake;
