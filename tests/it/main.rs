//! The one integration binary: an area a module.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod corpus;
mod fly;
