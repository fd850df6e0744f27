//! Every runtime against the one suite of what a runtime must do, and each for what only it does.

mod bounds;
#[macro_use]
mod conformance;
mod docker;
mod embedded;
mod escape;
mod inside;
pub mod layers;
mod owners;
mod walls;
