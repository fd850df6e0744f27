//! The one integration binary: a folder for each area.

mod runtime;
