//! When something must happen, as decisions over values: which versions a job's next build gets, whether there must
//! be a build, whether it may start, what is checked next, whose turn it is. No SQL, clock or tasks: the caller
//! reads a snapshot, asks, and writes the answer.

pub mod admit;
pub mod demand;
pub mod due;
mod group;
pub mod history;
pub mod input;
pub mod memory;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod naive;
pub mod rate;
pub mod resolve;
pub mod retention;
pub mod turn;

pub use resolve::resolve;
