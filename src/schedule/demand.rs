//! Whether there must be a build.

use super::snapshot::{Chosen, Input};

/// What a job's next inputs ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// A build must be waiting or be made.
    pub build: bool,
    /// Some input has a version the job never had, which pages show.
    pub has_new_inputs: bool,
}

/// Decides from what the resolver chose, if it found a version for every input: a build is wanted as soon as an input
/// that triggers has a version that the job never had as that input.
pub fn demand(inputs: &[Input], chosen: &[Chosen]) -> Demand {
    let new = |input: &&Input| chosen.iter().any(|c| c.input == input.name && c.first_occurrence);
    Demand {
        build: inputs.iter().filter(new).any(|input| input.trigger),
        has_new_inputs: inputs.iter().any(|input| new(&input)),
    }
}
