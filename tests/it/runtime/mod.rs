//! The runtimes, with real containers.

mod docker;
mod docker_overhead;
