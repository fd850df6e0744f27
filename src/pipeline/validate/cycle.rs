//! Jobs that wait for each other.

use std::collections::HashMap;
use std::rc::Rc;

use super::Findings;
use super::names::Names;
use crate::pipeline::problem::{Problem, Section};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, Core};

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Open,
    Done,
}

pub(super) fn cycle(config: &Config, names: &Names, findings: &mut Findings) {
    let walk = Walk { before: predecessors(config), names };
    let mut state = HashMap::new();
    for start in 0..config.jobs.len() {
        // The second job of a name is looked at by itself; elsewhere the first one stands for it.
        let closed = match names.first(start) == start {
            true => walk.closes(start, &mut state),
            false => walk.closes(start, &mut HashMap::new()),
        };
        if names.exhausted() {
            let at = [Segment::Key("jobs".into())];
            let message = "`passed` names too many jobs to be followed: 4 million in all";
            findings.refuse(Problem::new(Section::Cycle, &at, message).remedy("use narrower globs"));
            return;
        }
        if let Some(index) = closed {
            let name = &config.jobs[index].name;
            let at = [Segment::Key("jobs".into()), Segment::Index(index)];
            let problem =
                Problem::new(Section::Cycle, &at, format!("pipeline contains a cycle that starts at Job '{name}'"));
            findings.refuse(problem.remedy("take one `passed:` out of the circle"));
            return;
        }
    }
}

/// For each job the globs of those it waits for.
fn predecessors(config: &Config) -> Vec<Vec<&str>> {
    let mut before = Vec::new();
    for job in &config.jobs {
        let mut list = Vec::new();
        job.each_leaf(&mut |core| {
            if let Core::Get(get) = core {
                list.extend(get.passed.iter().map(String::as_str));
            }
        });
        before.push(list);
    }
    before
}

struct Walk<'a> {
    before: Vec<Vec<&'a str>>,
    names: &'a Names<'a>,
}

impl Walk<'_> {
    /// The job at which a walk meets itself. No recursion: a chain of jobs may be long.
    fn closes(&self, start: usize, state: &mut HashMap<usize, Visit>) -> Option<usize> {
        let known = |job: usize| self.names.first(job);
        if state.contains_key(&known(start)) {
            return None;
        }
        state.insert(known(start), Visit::Open);
        let mut stack = vec![self.visit(start)];
        while let Some(open) = stack.last_mut() {
            let Some(next) = self.next(open) else {
                state.insert(known(open.job), Visit::Done);
                stack.pop();
                continue;
            };
            match state.get(&known(next)) {
                Some(Visit::Open) => return Some(next),
                Some(Visit::Done) => {}
                None => {
                    state.insert(known(next), Visit::Open);
                    stack.push(self.visit(next));
                }
            }
        }
        None
    }

    fn visit(&self, job: usize) -> Open {
        Open { job, glob: 0, matching: Rc::default(), position: 0 }
    }

    /// The next job that an open one waits for.
    fn next(&self, open: &mut Open) -> Option<usize> {
        loop {
            if let Some(&next) = open.matching.get(open.position) {
                open.position += 1;
                return Some(next);
            }
            let glob = *self.before[open.job].get(open.glob).filter(|_| !self.names.exhausted())?;
            open.glob += 1;
            open.position = 0;
            open.matching = self.names.passed(glob);
        }
    }
}

/// A job whose predecessors are being looked at.
struct Open {
    job: usize,
    /// Which of its globs comes next.
    glob: usize,
    /// The jobs that the last one means.
    matching: Rc<[usize]>,
    position: usize,
}
