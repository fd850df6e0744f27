//! The runtimes, with real containers.

mod docker;
