//! The passes that move everything, one a file.

pub mod feed;

use crate::base::wake::Wake;

/// The bells of the passes. Whoever changes what a pass reads rings its bell after the write.
#[derive(Debug, Clone, Default)]
pub struct Wakes {
    /// Resources may be due for a check.
    pub check: Wake,
    /// Jobs want scheduling, or a build may start or must be aborted.
    pub schedule: Wake,
    /// Builds were started, or an abort of a running one was asked for.
    pub track: Wake,
    /// Something can be collected.
    pub gc: Wake,
}
