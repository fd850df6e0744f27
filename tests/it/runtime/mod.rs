//! Every runtime, with real containers, against the one suite of what a runtime must do.

#[macro_use]
mod conformance;
mod docker;
mod embedded;
