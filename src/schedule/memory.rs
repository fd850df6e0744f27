//! What is known to lead nowhere, so that it is not searched again for every decision.
//!
//! History only grows. If no builds went together when it was last searched, a set that goes together now must have a
//! build in it that succeeded since. The same holds for the newest part of the history of the job that is gone through
//! first: where nothing in it worked out and nothing new goes with it, the search goes on below it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::history::{Heard, Place};
use super::input::Input;
use crate::base::id::JobId;
use crate::base::version::{canonical_json, digest};

/// What a group of inputs is remembered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What it was found under: if that is another now, it means nothing.
    pub basis: String,
    /// The successes that were known.
    pub heard: Heard,
    /// The newest place that was looked at, of the job that is gone through first.
    pub top: Option<Place>,
    /// No place from the top down to before this one works out; without one, nothing does at all.
    pub floor: Option<Place>,
}

/// A digest of what a memory depends on: the inputs, and which versions of their resources can be used.
pub fn basis(inputs: &[&Input], versions: &str) -> String {
    let inputs: Vec<_> = inputs
        .iter()
        .map(|i| serde_json::json!([i.name, i.resource, i.passed, i.every, i.pin.as_ref().map(|p| p.canonical())]))
        .collect();
    digest(canonical_json(&serde_json::json!([inputs, versions])).as_bytes())
}

/// The jobs of a group, none of which has been heard of.
pub fn unheard(jobs: &BTreeSet<JobId>) -> Heard {
    jobs.iter().map(|job| (*job, -1)).collect()
}
