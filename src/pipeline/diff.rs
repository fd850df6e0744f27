//! What setting a pipeline would change, as the client shows it.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::Config;
use super::yaml::to_yaml;

/// What turns `before` into `after`, section by section; none where nothing does.
pub fn diff(before: &Config, after: &Config, colour: bool) -> Option<String> {
    let mut shown = Shown { text: String::new(), colour };
    shown.groups(before, after);
    shown.section("variable source", "variable source", (&before.var_sources, &after.var_sources), |s| &s.name);
    shown.section("resources", "resource", (&before.resources, &after.resources), |r| &r.name);
    shown.section("resource types", "resource type", (&before.resource_types, &after.resource_types), |r| &r.name);
    shown.section("jobs", "job", (&before.jobs, &after.jobs), |j| &j.name);
    shown.single("display configuration", before.display.as_ref().map(yaml), after.display.as_ref().map(yaml));
    let data = |config: &Config| (!config.user_data.is_null()).then(|| yaml(&config.user_data));
    shown.single("user_data", data(before), data(after));
    if shown.text.is_empty() {
        // Concourse never shows prototypes and so takes a change of nothing else for none at all.
        shown.section("prototypes", "prototype", (&before.prototypes, &after.prototypes), |p| &p.name);
    }
    (!shown.text.is_empty()).then_some(shown.text)
}

/// Anything of a pipeline as YAML.
pub fn yaml<T: Serialize>(thing: &T) -> String {
    to_yaml(&serde_json::to_value(thing).unwrap_or(Value::Null))
}

struct Shown {
    text: String,
    colour: bool,
}

impl Shown {
    fn groups(&mut self, before: &Config, after: &Config) {
        let mut changes = Vec::new();
        for (index, old) in before.groups.iter().enumerate() {
            let found = after.groups.iter().position(|new| new.name == old.name);
            let Some(position) = found else {
                changes.push((old.name.clone(), Some(yaml(old)), None));
                continue;
            };
            let change = (old.name.clone(), Some(yaml(old)), Some(yaml(&after.groups[position])));
            if change.1 != change.2 {
                changes.push(change.clone());
            }
            if index != position {
                changes.push(change);
            }
        }
        let added = after.groups.iter().filter(|new| !before.groups.iter().any(|old| old.name == new.name));
        changes.extend(added.map(|new| (new.name.clone(), None, Some(yaml(new)))));
        self.changes("groups", "group", changes);
    }

    fn section<T: Serialize>(
        &mut self,
        heading: &str,
        label: &str,
        (before, after): (&[T], &[T]),
        name: impl Fn(&T) -> &str,
    ) {
        let mut changes = Vec::new();
        for old in before {
            let new = after.iter().find(|new| name(new) == name(old)).map(yaml);
            let old_text = yaml(old);
            if new.as_ref() != Some(&old_text) {
                changes.push((name(old).to_owned(), Some(old_text), new));
            }
        }
        let added = after.iter().filter(|new| !before.iter().any(|old| name(old) == name(new)));
        changes.extend(added.map(|new| (name(new).to_owned(), None, Some(yaml(new)))));
        self.changes(heading, label, changes);
    }

    fn changes(&mut self, heading: &str, label: &str, changes: Vec<(String, Option<String>, Option<String>)>) {
        if !changes.is_empty() {
            self.text.push_str(&format!("{heading}:\n"));
        }
        for (name, old, new) in changes {
            self.change(&format!("{label} {name}"), old.as_deref(), new.as_deref());
        }
    }

    fn single(&mut self, label: &str, old: Option<String>, new: Option<String>) {
        if old != new {
            self.change(label, old.as_deref(), new.as_deref());
        }
    }

    fn change(&mut self, what: &str, old: Option<&str>, new: Option<&str>) {
        let verb = match (old, new) {
            (Some(_), Some(_)) => "has changed",
            (Some(_), None) => "has been removed",
            _ => "has been added",
        };
        let title = self.coloured(&format!("{what} {verb}:"), 33);
        _ = writeln!(self.text, "  {title}");
        let split = |text: Option<&str>| text.unwrap_or_default().split('\n').map(str::to_owned).collect::<Vec<_>>();
        for line in lines(&split(old), &split(new)) {
            let (sign, text, colour) = match line {
                Line::Same(text) => {
                    _ = writeln!(self.text, "  {text}");
                    continue;
                }
                Line::Old(text) => ("-", text, 31),
                Line::New(text) => ("+", text, 32),
            };
            // The two backspaces take the indentation back, so that the sign stands in the margin.
            let (sign, text) = (self.coloured(sign, colour), self.coloured(text, colour));
            _ = writeln!(self.text, "  \u{8}\u{8}{sign} {text}");
        }
    }

    fn coloured(&self, text: &str, colour: u8) -> String {
        if self.colour { format!("\u{1b}[0;{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A line of a comparison.
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// Compares line by line along the longest common part; where either could come first, the old line does.
fn lines<'a>(old: &'a [String], new: &'a [String]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tails = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = tails.take_while(|(a, b)| a == b).count();
    let (left, right) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    let width = right.len() + 1;
    let mut common = vec![0u32; (left.len() + 1) * width];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            common[i * width + j] = match left[i] == right[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let mut found: Vec<Line> = old[..start].iter().map(|text| Line::Same(text)).collect();
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            found.push(Line::Same(&left[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < left.len() && (j == right.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            found.push(Line::Old(&left[i]));
            i += 1;
        } else {
            found.push(Line::New(&right[j]));
            j += 1;
        }
    }
    found.extend(old[old.len() - end..].iter().map(|text| Line::Same(text)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        super::super::load(text.as_bytes()).unwrap().0
    }

    #[test]
    fn shows_what_changes() {
        let before = config("resources: [{name: r, type: mock}]\njobs: [{name: j, plan: [{get: r}]}]\n");
        let text = "display: {background_image: x}\njobs: [{name: j, serial: true, plan: []}]\ngroups: [{name: g, jobs: [j]}]\n";
        let after = config(text);
        let shown = diff(&before, &after, false).unwrap().replace('\u{8}', "");
        let want = "groups:
  group g has been added:
  + jobs:
  + - j
  + name: g
  \nresources:
  resource r has been removed:
  - name: r
  - source: null
  - type: mock
  \njobs:
  job j has changed:
  name: j
  - plan:
  - - get: r
  + plan: []
  + serial: true
  \n  display configuration has been added:
  + background_image: x
  \n";
        assert_eq!(shown, want);
        assert_eq!(diff(&before, &before, true), None);
    }
}
