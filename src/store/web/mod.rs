//! Reads that only the pages need: what one page shows, in as few queries as it takes.

pub mod build;
pub mod job;
pub mod overview;
