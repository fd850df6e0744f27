//! The one integration binary: a folder an area.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod fly;
