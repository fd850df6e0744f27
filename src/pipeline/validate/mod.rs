//! Whether a pipeline that could be read makes sense: Concourse's rules in Concourse's words and order.

mod credentials;
mod cycle;
mod jobs;
mod manager;
mod names;
mod secret_path;
mod sections;
mod steps;
mod url;

use std::collections::HashMap;

use super::problem::{Problem, Section, Warning};
use super::yaml::value::Segment;
use super::{Config, identifier};

/// More than anybody reads; a hostile file could make millions.
const MOST_PROBLEMS: usize = 5000;

/// What was found so far.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// All problems, by section in Concourse's order, and all warnings.
pub fn validate(config: &Config) -> (Vec<Problem>, Vec<Warning>) {
    let mut findings = Findings::default();
    let names = names::Names::of(config);
    sections::groups(config, &mut findings);
    sections::resources(config, &names, &mut findings);
    sections::types(config, &mut findings);
    credentials::var_sources(config, &mut findings);
    jobs::jobs(config, &names, &mut findings);
    sections::display(config, &mut findings);
    cycle::cycle(config, &names, &mut findings);
    (findings.problems, findings.warnings)
}

/// One of a list of named things.
struct Entry<'a> {
    section: Section,
    /// The key at the top of the file.
    key: &'static str,
    index: usize,
    name: &'a str,
}

impl Entry<'_> {
    /// Such as `jobs[3]`.
    fn location(&self) -> String {
        format!("{}[{}]", self.key, self.index)
    }

    /// Such as `jobs.unit`, or the location where it has no name.
    fn identifier(&self) -> String {
        if self.name.is_empty() { self.location() } else { format!("{}.{}", self.key, self.name) }
    }

    fn at(&self) -> Vec<Segment> {
        vec![Segment::Key(self.key.to_owned()), Segment::Index(self.index)]
    }

    fn at_key(&self, key: &str) -> Vec<Segment> {
        let mut at = self.at();
        at.push(Segment::Key(key.to_owned()));
        at
    }
}

impl Findings {
    fn refuse(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Judges the name of an entry.
    fn name(&mut self, entry: &Entry) {
        match identifier::judge(entry.name, &[entry.identifier()]) {
            identifier::Verdict::Fine => {}
            identifier::Verdict::Odd(warning) => self.warnings.push(warning),
            identifier::Verdict::Empty(message) => {
                self.refuse(Problem::new(entry.section, &entry.at(), message).remedy("add a `name:`"));
            }
        }
    }

    /// Refuses a second thing of the same name; `seen` holds the locations of those before.
    fn unique<'a>(&mut self, entry: &Entry<'a>, seen: &mut HashMap<&'a str, String>) {
        if let Some(other) = seen.get(entry.name) {
            let message = format!("{other} and {} have the same name ('{}')", entry.location(), entry.name);
            self.refuse(Problem::new(entry.section, &entry.at_key("name"), message).remedy("rename one of them"));
        } else if !entry.name.is_empty() {
            seen.insert(entry.name, entry.location());
        }
    }

    fn lacks(&mut self, entry: &Entry, what: &str) {
        let message = format!("{} has no {what}", entry.identifier());
        self.refuse(Problem::new(entry.section, &entry.at(), message).remedy(format!("add a `{what}:`")));
    }
}
