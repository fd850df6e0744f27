//! Which version each input of a job's next build gets.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Group;
use super::history::History;
use super::input::{Chosen, Decision, Input, Lacking, Picked, Reason, Resolution};
use super::memory::Memory;
use crate::base::id::{BuildId, JobId};

/// A version for one input, before it is known whether it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub picked: Picked,
    pub from_builds: Vec<BuildId>,
    pub has_next: bool,
}

/// Says which version each input gets or why there is none. `memories` are those of the last decision about the job.
pub fn resolve<H: History>(
    inputs: &[Input],
    history: &mut H,
    memories: &BTreeMap<String, Memory>,
) -> Result<Decision, H::Error> {
    let mut answers: Vec<Option<Result<Answer, Reason>>> = vec![None; inputs.len()];
    for (index, input) in inputs.iter().enumerate().filter(|(_, i)| i.passed.is_empty()) {
        answers[index] = Some(alone(history, input)?);
    }
    let mut kept = BTreeMap::new();
    for members in groups(inputs) {
        let group: Vec<&Input> = members.iter().map(|&i| &inputs[i]).collect();
        let name = group[0].name.clone();
        let outcome = Group::new(history, group).resolve(memories.get(&name))?;
        kept.extend(outcome.memory.map(|memory| (name, memory)));
        match outcome.answers {
            Ok(found) => members.iter().zip(found).for_each(|(&i, answer)| answers[i] = Some(Ok(answer))),
            Err(reason) => members.iter().for_each(|&i| answers[i] = Some(Err(reason.clone()))),
        }
    }
    Ok(Decision { resolution: told(inputs, answers, history)?, memories: kept })
}

/// The answers with what people and the next steps want to know about them.
fn told<H: History>(
    inputs: &[Input],
    answers: Vec<Option<Result<Answer, Reason>>>,
    history: &mut H,
) -> Result<Resolution, H::Error> {
    let (mut chosen, mut lacking, mut run_again) = (Vec::new(), Vec::new(), false);
    for (input, answer) in inputs.iter().zip(answers.into_iter().flatten()) {
        match answer {
            Ok(answer) => {
                run_again |= answer.has_next;
                chosen.push(Chosen {
                    input: input.name.clone(),
                    resource: input.resource,
                    first_occurrence: !history.seen(&input.name, input.resource, &answer.picked.digest)?,
                    picked: answer.picked,
                    from_builds: answer.from_builds,
                });
            }
            Err(reason) => {
                let passages = match reason {
                    Reason::NoSatisfiableBuilds => Group::passages(history, input)?,
                    _ => Vec::new(),
                };
                lacking.push(Lacking { input: input.name.clone(), resource: input.resource, reason, passages });
            }
        }
    }
    Ok(if lacking.is_empty() {
        Resolution::Ready { chosen, run_again }
    } else {
        Resolution::Missing { chosen, lacking }
    })
}

/// An input that need not have passed anything.
fn alone<H: History>(history: &mut H, input: &Input) -> Result<Result<Answer, Reason>, H::Error> {
    let (found, missing) = if let Some(pin) = &input.pin {
        (history.pinned(input.resource, pin)?.map(|p| (p, false)), Reason::NoPinned(pin.clone()))
    } else if input.every {
        (history.every(input.resource)?, Reason::NoVersion)
    } else {
        (history.latest(input.resource)?.map(|p| (p, false)), Reason::NoLatest)
    };
    Ok(found.map(|(picked, has_next)| Answer { picked, from_builds: Vec::new(), has_next }).ok_or(missing))
}

/// Inputs with a passed job in common belong together, as indices; each group in the order of the plan.
fn groups(inputs: &[Input]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(BTreeSet<JobId>, Vec<usize>)> = Vec::new();
    for (index, input) in inputs.iter().enumerate().filter(|(_, i)| !i.passed.is_empty()) {
        let (mut jobs, mut members) = (input.passed.clone(), vec![index]);
        groups.retain(|(other_jobs, other_members)| {
            let apart = jobs.is_disjoint(other_jobs);
            if !apart {
                jobs.extend(other_jobs);
                members.extend(other_members);
            }
            apart
        });
        members.sort_unstable();
        groups.push((jobs, members));
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::id::ResourceId;
    use crate::schedule::model::{Built, OWN, World, name, version};

    fn input(resource: i64, passed: &[i64]) -> Input {
        Input {
            name: name(resource),
            resource: ResourceId(resource),
            passed: passed.iter().map(|j| JobId(*j)).collect(),
            trigger: true,
            every: false,
            pin: None,
        }
    }

    fn built(job: i64, inputs: &[(i64, i64)]) -> Built {
        Built {
            job,
            succeeded: true,
            rerun_of: None,
            outputs: BTreeSet::new(),
            inputs: inputs.iter().copied().collect::<BTreeMap<_, _>>(),
            from: BTreeSet::new(),
        }
    }

    fn world(inputs: Vec<Input>, builds: Vec<Built>) -> World {
        World { builds, disabled: BTreeSet::new(), inputs }
    }

    /// The chosen versions by input, those that are new marked `+`, and `!` for another build at once; or the reasons.
    fn says(world: &World) -> String {
        let show = |c: &Chosen| {
            format!("{}={}{}", c.input, c.picked.version.0["v"], if c.first_occurrence { "+" } else { "" })
        };
        match world.resolve() {
            Resolution::Ready { chosen, run_again } => {
                let all: Vec<_> = chosen.iter().map(show).collect();
                format!("{}{}", all.join(" "), if run_again { " !" } else { "" })
            }
            Resolution::Missing { lacking, .. } => {
                lacking.iter().map(|l| format!("{}: {}", l.input, l.reason)).collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn without_passed_it_takes_the_newest_enabled_version() {
        let mut w = world(vec![input(1, &[])], vec![]);
        assert_eq!(says(&w), "r1=3+");
        w.disabled = [(1, 3)].into();
        assert_eq!(says(&w), "r1=2+");
        w.builds = vec![built(OWN.0, &[(1, 2)])];
        assert_eq!(says(&w), "r1=2");
        w.disabled = [(1, 1), (1, 2), (1, 3)].into();
        assert_eq!(says(&w), "r1: latest version of resource not found");
        w.inputs[0].every = true;
        assert_eq!(says(&w), "r1: version of resource not found");
    }

    #[test]
    fn every_version_has_its_turn() {
        let mut w = world(vec![Input { every: true, ..input(1, &[]) }], vec![]);
        assert_eq!(says(&w), "r1=3+", "the first time the newest");
        w.builds = vec![built(OWN.0, &[(1, 1)])];
        assert_eq!(says(&w), "r1=2+ !");
        w.builds.push(built(OWN.0, &[(1, 2)]));
        assert_eq!(says(&w), "r1=3+");
        w.disabled = [(1, 3)].into();
        assert_eq!(says(&w), "r1=2");
    }

    #[test]
    fn a_pin_wins_and_is_missed_by_its_words() {
        let mut w = world(vec![Input { pin: Some(version(1)), ..input(1, &[]) }], vec![]);
        assert_eq!(says(&w), "r1=1+");
        w.inputs[0].pin = Some(crate::base::version::Version::from([("ref", "abc"), ("branch", "main")]));
        assert_eq!(says(&w), "r1: pinned version branch:main ref:abc not found");
    }

    #[test]
    fn passed_takes_from_the_newest_build_that_succeeded() {
        let mut w = world(vec![input(1, &[2])], vec![built(2, &[(1, 1)]), built(2, &[(1, 2)])]);
        assert_eq!(says(&w), "r1=2+");
        w.builds[1].succeeded = false;
        assert_eq!(says(&w), "r1=1+");
        w.builds[0].succeeded = false;
        assert_eq!(says(&w), "r1: no satisfiable builds from passed jobs found for set of inputs");
    }

    #[test]
    fn a_rerun_of_an_old_build_is_not_the_newest() {
        let rerun = Built { rerun_of: Some(0), ..built(2, &[(1, 1)]) };
        let w = world(vec![input(1, &[2])], vec![built(2, &[(1, 1)]), built(2, &[(1, 2)]), rerun]);
        assert_eq!(says(&w), "r1=2+");
    }

    #[test]
    fn what_a_build_made_counts_before_what_it_was_given() {
        let both = Built { outputs: [(1, 3)].into(), ..built(2, &[(1, 2)]) };
        assert_eq!(says(&world(vec![input(1, &[2])], vec![both])), "r1=3+");
    }

    #[test]
    fn all_inputs_come_from_builds_that_go_together() {
        // Job 2 is ahead with resource 1, job 3 has passed older versions only.
        let builds = vec![
            built(2, &[(1, 1), (2, 1)]),
            built(3, &[(1, 1), (2, 1)]),
            built(2, &[(1, 2), (2, 1)]),
            built(2, &[(1, 2), (2, 2)]),
            built(3, &[(1, 2), (2, 1)]),
        ];
        let mut w = world(vec![input(1, &[2, 3]), input(2, &[2, 3])], builds);
        assert_eq!(says(&w), "r1=2+ r2=1+");
        let Resolution::Ready { chosen, .. } = w.resolve() else { panic!("no versions") };
        assert_eq!(chosen[0].from_builds, [BuildId(3), BuildId(5)]);
        w.disabled = [(1, 2)].into();
        assert_eq!(says(&w), "r1=1+ r2=1+");
    }

    #[test]
    fn every_with_passed_goes_on_where_it_stopped() {
        let mut own = built(OWN.0, &[(1, 1)]);
        own.from = [0].into();
        let builds = vec![built(2, &[(1, 1)]), own, built(2, &[(1, 2)]), built(2, &[(1, 3)])];
        let mut w = world(vec![Input { every: true, ..input(1, &[2]) }], builds);
        assert_eq!(says(&w), "r1=2+ !");
        let mut own = built(OWN.0, &[(1, 2)]);
        own.from = [2].into();
        w.builds.push(own);
        assert_eq!(says(&w), "r1=3+");
        w.disabled = [(1, 3)].into();
        assert_eq!(says(&w), "r1=2");
    }

    #[test]
    fn one_group_that_fails_leaves_the_others_their_versions() {
        let w = world(vec![input(1, &[]), input(2, &[2])], vec![]);
        let Resolution::Missing { chosen, lacking } = w.resolve() else { panic!("all found") };
        assert_eq!((chosen.len(), lacking.len()), (1, 1));
        assert_eq!(lacking[0].reason, Reason::NoSatisfiableBuilds);
    }

    #[test]
    fn inputs_with_a_passed_job_in_common_are_one_group_also_through_a_third() {
        let inputs = [input(1, &[2]), input(2, &[3]), input(3, &[]), input(4, &[2, 3]), input(5, &[4])];
        assert_eq!(groups(&inputs), [vec![0, 1, 3], vec![4]]);
    }
}
