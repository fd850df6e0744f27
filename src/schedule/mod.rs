//! When something must happen, as decisions over values: which versions a job's next build gets, whether there must
//! be a build, whether it may start, what is checked next, whose turn it is. No SQL, clock or tasks: the caller
//! reads a snapshot, asks, and writes the answer.

pub mod admit;
pub mod demand;
pub mod due;
mod group;
#[cfg(test)]
pub(crate) mod model;
pub mod resolve;
pub mod snapshot;
pub mod turn;

pub use resolve::resolve;
pub use snapshot::Snapshot;
