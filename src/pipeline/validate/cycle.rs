//! Jobs that wait for each other.

use std::collections::HashMap;

use super::Findings;
use crate::pipeline::problem::{Problem, Section};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, Core, glob};

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Open,
    Done,
}

pub(super) fn cycle(config: &Config, findings: &mut Findings) {
    let before = predecessors(config);
    let mut state = HashMap::new();
    for start in 0..config.jobs.len() {
        if let Some(index) = closes(start, &before, &mut state) {
            let name = &config.jobs[index].name;
            let at = [Segment::Key("jobs".into()), Segment::Index(index)];
            let problem =
                Problem::new(Section::Cycle, &at, format!("pipeline contains a cycle that starts at Job '{name}'"));
            findings.refuse(problem.remedy("take one `passed:` out of the circle"));
            return;
        }
    }
}

/// For each job those it waits for; jobs of one name are one job.
fn predecessors(config: &Config) -> Vec<Vec<usize>> {
    let first = |name: &str| config.jobs.iter().position(|job| job.name == name);
    let mut before = Vec::new();
    for job in &config.jobs {
        let mut list = Vec::new();
        job.each_leaf(&mut |core| {
            let Core::Get(get) = core else { return };
            for pattern in &get.passed {
                let matching = config.jobs.iter().filter(|job| glob::passes(pattern, &job.name));
                list.extend(matching.filter_map(|job| first(&job.name)));
            }
        });
        before.push(list);
    }
    before
}

/// The job at which a walk meets itself. No recursion: a chain of jobs may be long.
fn closes(start: usize, before: &[Vec<usize>], state: &mut HashMap<usize, Visit>) -> Option<usize> {
    if state.contains_key(&start) {
        return None;
    }
    state.insert(start, Visit::Open);
    let mut stack = vec![(start, 0)];
    while let Some((job, position)) = stack.last_mut() {
        let Some(&next) = before[*job].get(*position) else {
            state.insert(*job, Visit::Done);
            stack.pop();
            continue;
        };
        *position += 1;
        match state.get(&next) {
            Some(Visit::Open) => return Some(next),
            Some(Visit::Done) => {}
            None => {
                state.insert(next, Visit::Open);
                stack.push((next, 0));
            }
        }
    }
    None
}
