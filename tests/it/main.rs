//! The one integration binary: a folder an area.

mod runtime;
