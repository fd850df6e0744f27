//! Groups, resources, resource types, prototypes and display.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::names::Names;
use super::{Entry, Findings, url};
use crate::pipeline::problem::{Problem, Section};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{Config, glob};

pub(super) fn groups(config: &Config, findings: &mut Findings) {
    let section = Section::Groups;
    let mut grouped: BTreeSet<&str> = BTreeSet::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, group) in config.groups.iter().enumerate() {
        let entry = Entry { section, key: "groups", index, name: &group.name };
        findings.name(&entry);
        *times.entry(&group.name).or_default() += 1;
        for pattern in &group.jobs {
            let Some(matcher) = glob::Group::new(pattern) else {
                let message = format!("invalid glob expression '{pattern}' for group '{}'", group.name);
                findings.refuse(Problem::new(section, &entry.at_key("jobs"), message));
                continue;
            };
            let matching: Vec<_> = config.jobs.iter().filter(|job| matcher.is_match(&job.name)).collect();
            if matching.is_empty() {
                let message = format!("no jobs match '{pattern}' for group '{}'", group.name);
                let remedy = "take it out of the group, or add such a job";
                findings.refuse(Problem::new(section, &entry.at_key("jobs"), message).remedy(remedy));
            }
            grouped.extend(matching.iter().map(|job| job.name.as_str()));
        }
        for resource in group.resources.iter().filter(|name| config.resource(name).is_none()) {
            let message = format!("group '{}' has unknown resource '{resource}'", group.name);
            findings.refuse(Problem::new(section, &entry.at_key("resources"), message));
        }
    }
    for (name, count) in times.into_iter().filter(|(_, count)| *count > 1) {
        let message = format!("group '{name}' appears {count} times. Duplicate names are not allowed.");
        findings.refuse(Problem::new(section, &[Segment::Key("groups".into())], message));
    }
    let mut told = BTreeSet::new();
    for (index, job) in config.jobs.iter().enumerate().filter(|_| !config.groups.is_empty()) {
        if !grouped.contains(job.name.as_str()) && told.insert(&job.name) {
            let at = [Segment::Key("jobs".into()), Segment::Index(index)];
            let problem = Problem::new(section, &at, format!("job '{}' belongs to no group", job.name));
            findings
                .refuse(problem.remedy("add it to the jobs of a group; where there are groups, each job is in one"));
        }
    }
}

pub(super) fn resources(config: &Config, names: &Names, findings: &mut Findings) {
    let section = Section::Resources;
    let mut seen = HashMap::new();
    for (index, resource) in config.resources.iter().enumerate() {
        let entry = Entry { section, key: "resources", index, name: &resource.name };
        findings.name(&entry);
        findings.unique(&entry, &mut seen);
        if resource.name.is_empty() {
            findings.lacks(&entry, "name");
        }
        if resource.kind.is_empty() {
            findings.lacks(&entry, "type");
        }
    }
    for (index, resource) in config.resources.iter().enumerate() {
        if !names.used(&resource.name) {
            let at = [Segment::Key("resources".into()), Segment::Index(index)];
            let problem = Problem::new(section, &at, format!("resource '{}' is not used", resource.name));
            findings.refuse(problem.remedy("get or put it in a job, or take it out"));
        }
    }
}

/// Resource types and prototypes, which share their names.
pub(super) fn types(config: &Config, findings: &mut Findings) {
    let mut seen = HashMap::new();
    for (section, key, list) in [
        (Section::ResourceTypes, "resource_types", &config.resource_types),
        (Section::Prototypes, "prototypes", &config.prototypes),
    ] {
        for (index, kind) in list.iter().enumerate() {
            let entry = Entry { section, key, index, name: &kind.name };
            findings.name(&entry);
            findings.unique(&entry, &mut seen);
            if kind.name.is_empty() {
                findings.lacks(&entry, "name");
            }
            if kind.kind.is_empty() {
                findings.lacks(&entry, "type");
            }
        }
    }
}

pub(super) fn display(config: &Config, findings: &mut Findings) {
    let Some(display) = &config.display else { return };
    let message = match url::parse(&display.background_image) {
        Ok(scheme) if matches!(scheme.as_str(), "http" | "https" | "") => return,
        Ok(_) => "background_image scheme must be either http, https or relative".to_owned(),
        Err(_) => format!("background_image is not a valid URL: {}", display.background_image),
    };
    let at = [Segment::Key("display".into()), Segment::Key("background_image".into())];
    findings.refuse(Problem::new(Section::Display, &at, message));
}
