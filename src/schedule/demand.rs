//! Whether there must be a build.

use super::input::{Chosen, Input};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ResourceId;
    use crate::base::version::Version;

    #[test]
    fn only_a_new_version_of_a_trigger_wants_a_build() {
        for (trigger, new, build, has_new_inputs) in [
            (true, true, true, true),
            (true, false, false, false),
            (false, true, false, true),
            (false, false, false, false),
        ] {
            let (input, resource) = ("i".to_owned(), ResourceId(1));
            let inputs = [Input { name: input.clone(), resource, passed: [].into(), trigger, every: false, pin: None }];
            let picked = Version::default().into();
            let chosen = [Chosen { input, resource, picked, first_occurrence: new, from_builds: vec![] }];
            assert_eq!(demand(&inputs, &chosen), Demand { build, has_new_inputs }, "{trigger} {new}");
        }
    }
}
