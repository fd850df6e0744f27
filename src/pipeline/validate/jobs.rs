//! Jobs.

use std::collections::HashMap;

use super::names::Names;
use super::steps::Walk;
use super::{Entry, Findings};
use crate::pipeline::problem::{Problem, Section, Warning};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, Job};

pub(super) fn jobs(config: &Config, names: &Names, findings: &mut Findings) {
    if config.jobs.is_empty() {
        let at = [Segment::Key("jobs".into())];
        let problem = Problem::new(Section::Jobs, &at, "jobs: pipeline must contain at least one job");
        findings.refuse(problem.remedy("add `jobs: [{name: …, plan: […]}]`"));
        return;
    }
    let mut seen = HashMap::new();
    for (index, job) in config.jobs.iter().enumerate() {
        let entry = Entry { section: Section::Jobs, key: "jobs", index, name: &job.name };
        findings.name(&entry);
        findings.unique(&entry, &mut seen);
        if job.name.is_empty() {
            findings.lacks(&entry, "name");
        }
        retention(job, &entry, findings);
        Walk::new(names, findings, entry.identifier(), entry.at()).job(job);
    }
}

fn retention(job: &Job, entry: &Entry, findings: &mut Findings) {
    let identifier = entry.identifier();
    let mut refuse = |key: &str, message: String| {
        findings.problems.push(Problem::new(entry.section, &entry.at_key(key), message));
    };
    if job.build_logs_to_retain != 0 {
        let message = format!("{identifier}.build_logs_to_retain is deprecated. Use build_log_retention instead.");
        findings.warnings.push(Warning::new("deprecated_field", message));
    }
    let (old, new) = ("build_logs_to_retain", "build_log_retention");
    if job.build_log_retention.is_some() && job.build_logs_to_retain != 0 {
        refuse(old, format!("{identifier} can't use both {new} and {old}"));
    } else if job.build_logs_to_retain < 0 {
        refuse(old, format!("{identifier} has negative {old}: {}", job.build_logs_to_retain));
    }
    let Some(kept) = &job.build_log_retention else { return };
    for (key, number) in
        [("builds", kept.builds), ("days", kept.days), ("min_success_builds", kept.minimum_succeeded_builds)]
    {
        if number < 0 {
            refuse(new, format!("{identifier} has negative {new}.{key}: {number}"));
        }
    }
    if kept.builds > 0 && kept.minimum_succeeded_builds > kept.builds {
        let field = format!("{new}.min_success_builds");
        let (minimum, builds) = (kept.minimum_succeeded_builds, kept.builds);
        refuse(new, format!("{identifier} has {field}: {minimum} greater than {field}: {builds}"));
    }
}
