//! Reads for those who ask from outside: what a permission depends on, and the rows behind the API's objects.
//!
//! Nothing here changes anything.

pub mod access;
pub mod causality;
pub mod container;
pub mod job;
pub mod preparation;
pub mod resource;
pub mod versions_db;
pub mod why;
