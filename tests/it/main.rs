//! The one integration binary: a folder an area.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod runtime;
