//! Which version each input of a job's next build gets.

use std::collections::BTreeSet;

use super::group::Group;
use super::snapshot::{Chosen, Facts, Input, Lacking, Page, Picked, Reason, Resolution, Snapshot};
use crate::base::id::{BuildId, JobId};

/// What stops the resolver half way: a page of history that it has not read.
pub(super) type Need = Box<Page>;

/// A version for one input, before it is known whether it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub picked: Picked,
    pub from_builds: Vec<BuildId>,
    pub has_next: bool,
}

/// Says which version each input gets, why there is none, or what must be read to say so.
pub fn resolve(snapshot: &Snapshot) -> Resolution {
    try_resolve(snapshot).unwrap_or_else(|page| Resolution::Need(*page))
}

fn try_resolve(snapshot: &Snapshot) -> Result<Resolution, Need> {
    let mut answers: Vec<Option<Result<Answer, Reason>>> = vec![None; snapshot.inputs.len()];
    for (index, input) in snapshot.inputs.iter().enumerate().filter(|(_, i)| i.passed.is_empty()) {
        answers[index] = Some(alone(snapshot, input)?);
    }
    for members in groups(&snapshot.inputs) {
        let inputs = members.iter().map(|&i| &snapshot.inputs[i]).collect();
        match Group::new(snapshot, inputs).resolve()? {
            Ok(found) => members.iter().zip(found).for_each(|(&i, answer)| answers[i] = Some(Ok(answer))),
            Err(reason) => members.iter().for_each(|&i| answers[i] = Some(Err(reason.clone()))),
        }
    }
    let (mut chosen, mut lacking, mut run_again) = (Vec::new(), Vec::new(), false);
    for (input, answer) in snapshot.inputs.iter().zip(answers.into_iter().flatten()) {
        match answer {
            Ok(answer) => {
                run_again |= answer.has_next;
                chosen.push(Chosen {
                    input: input.name.clone(),
                    resource: input.resource,
                    first_occurrence: !seen(snapshot, input, &answer.picked)?,
                    picked: answer.picked,
                    from_builds: answer.from_builds,
                });
            }
            Err(reason) => {
                lacking.push(Lacking { input: input.name.clone(), resource: input.resource, reason });
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
fn alone(snapshot: &Snapshot, input: &Input) -> Result<Result<Answer, Reason>, Need> {
    let (found, missing) = if let Some(pin) = &input.pin {
        let found = pinned(snapshot, input, pin)?;
        (found.map(|p| (p, false)), Reason::NoPinned(pin.clone()))
    } else if input.every {
        match ask(snapshot, Page::Every(input.resource))? {
            Facts::Every(found) => (found.clone(), Reason::NoVersion),
            _ => (None, Reason::NoVersion),
        }
    } else {
        match ask(snapshot, Page::Latest(input.resource))? {
            Facts::Version(found) => (found.clone().map(|p| (p, false)), Reason::NoLatest),
            _ => (None, Reason::NoLatest),
        }
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

/// The version of a pin.
pub(super) fn pinned(
    snapshot: &Snapshot,
    input: &Input,
    pin: &crate::base::version::Version,
) -> Result<Option<Picked>, Need> {
    match ask(snapshot, Page::Pinned(input.resource, pin.clone()))? {
        Facts::Version(found) => Ok(found.clone()),
        _ => Ok(None),
    }
}

fn seen(snapshot: &Snapshot, input: &Input, picked: &Picked) -> Result<bool, Need> {
    let page = Page::Seen { input: input.name.clone(), resource: input.resource, digest: picked.digest.clone() };
    Ok(matches!(ask(snapshot, page)?, Facts::Seen(true)))
}

/// What is on a page, or that it must be read.
pub(super) fn ask(snapshot: &Snapshot, page: Page) -> Result<&Facts, Need> {
    match snapshot.facts(&page) {
        Some(facts) => Ok(facts),
        None => Err(Box::new(page)),
    }
}
