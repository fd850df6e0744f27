//! From rows to the JSON of Concourse's API: members, their order, and what is left out when empty.

pub mod build;
pub mod container;
pub mod job;
pub mod pipeline;
pub mod resource;
pub mod why;

use crate::base::clock::Time;

/// Whole seconds since 1970, if there is a time.
pub fn seconds(time: Option<Time>) -> Option<i64> {
    time.map(Time::unix)
}
