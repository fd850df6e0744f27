//! The two pipes a process writes to.

use serde::{Deserialize, Serialize};

/// Which pipe a chunk came from. With a terminal everything is `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
