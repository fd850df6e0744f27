//! Every runtime against the one suite of what a runtime must do.

#[macro_use]
mod conformance;
mod embedded;
