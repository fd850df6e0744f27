//! What is wrong with a pipeline: where, what, and what to do about it; and the form in which Concourse's clients see it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::yaml::document::{Document, Mark};
use super::yaml::value::Segment;

/// Which part of a pipeline a problem belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The file cannot be read as a pipeline at all.
    Malformed,
    /// `groups`
    Groups,
    /// `resources`
    Resources,
    /// `resource_types`
    ResourceTypes,
    /// `prototypes`
    Prototypes,
    /// `var_sources`
    VarSources,
    /// `jobs`
    Jobs,
    /// `display`
    Display,
    /// Jobs that wait for each other.
    Cycle,
    /// Something this server does not do.
    Unsupported,
    /// A warning, where warnings are refused.
    Warned,
}

impl Section {
    /// What Concourse calls it.
    fn title(self) -> &'static str {
        match self {
            Section::Malformed => "config",
            Section::Groups => "groups",
            Section::Resources => "resources",
            Section::ResourceTypes => "resource types",
            Section::Prototypes => "prototypes",
            Section::VarSources => "variable sources",
            Section::Jobs | Section::Cycle => "jobs",
            Section::Display => "display config",
            Section::Unsupported => "constructs",
            Section::Warned => "names or fields",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Part of the pipeline.
    pub section: Section,
    /// What is wrong, in Concourse's words where it has some.
    pub message: String,
    /// Where, as in `jobs[0].plan[1].get`; empty if nowhere in particular.
    pub path: String,
    /// Line in the file, counted from 1.
    pub line: Option<usize>,
    /// Column in the file, counted from 1.
    pub column: Option<usize>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The path as it is looked up in the file.
    #[serde(skip)]
    at: Vec<Segment>,
}

impl Problem {
    /// A problem of one part of a pipeline.
    pub fn new(section: Section, at: &[Segment], message: impl Into<String>) -> Problem {
        Problem {
            section,
            message: message.into(),
            path: path_text(at),
            line: None,
            column: None,
            remedy: None,
            at: at.to_vec(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = Some(remedy.into());
        self
    }

    /// A file that there is nothing to say about.
    pub fn unreadable(message: impl Into<String>) -> Problem {
        Problem::new(Section::Malformed, &[], message)
    }

    /// Concourse's words first, then where it stands and what to do about it.
    pub fn told(&self) -> String {
        let place = self.line.zip(self.column).map(|(line, column)| format!("line {line}, column {column}"));
        let notes: Vec<String> = place.into_iter().chain(self.remedy.clone()).collect();
        let message = self.message.trim_end();
        if notes.is_empty() { message.to_owned() } else { format!("{message} ({})", notes.join("; ")) }
    }

    /// Where it stands and what to do about it; none where there is nothing to add to the message.
    pub fn place(&self) -> Option<String> {
        let at = self.line.zip(self.column).map(|(line, column)| format!("line {line}, column {column}"));
        let at = match (at, self.path.as_str()) {
            (Some(at), "") => at,
            (Some(at), path) => format!("{at} ({path})"),
            (None, path) => path.to_owned(),
        };
        match &self.remedy {
            Some(remedy) if at.is_empty() => Some(remedy.clone()),
            Some(remedy) => Some(format!("{at}: {remedy}")),
            None => (!at.is_empty()).then_some(at),
        }
    }

    /// Says where it stands.
    #[must_use]
    pub fn at_mark(mut self, mark: Option<Mark>) -> Problem {
        self.line = mark.map(|m| m.line);
        self.column = mark.map(|m| m.column);
        self
    }

    /// Looks up where it stands in the file.
    #[must_use]
    pub fn located(self, document: &Document) -> Problem {
        let mark = if self.at.is_empty() { None } else { document.locate(&self.at) };
        self.at_mark(mark)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

fn path_text(at: &[Segment]) -> String {
    let mut text = String::new();
    for segment in at {
        match segment {
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Segment::Index(i) => text.push_str(&format!("[{i}]")),
        }
    }
    text
}

/// The list of texts that Concourse's server answers with: one a section, its lines indented.
pub fn wire(problems: &[Problem]) -> Vec<String> {
    let mut texts: Vec<(Section, String)> = Vec::new();
    for problem in problems {
        if problem.section == Section::Malformed {
            texts.push((problem.section, format!("malformed config: {}", problem.message)));
            continue;
        }
        let line = format!("\t{}\n", problem.message.replace('\n', "\n\t"));
        match texts.last_mut() {
            Some((section, text)) if *section == problem.section => text.push_str(&line),
            _ => texts.push((problem.section, format!("invalid {}:\n{line}", problem.section.title()))),
        }
    }
    texts.into_iter().map(|(_, text)| text).collect()
}

/// Something that is taken but should be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Its kind, such as `invalid_identifier`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What should be changed.
    pub message: String,
}

impl Warning {
    /// A warning of a kind.
    pub fn new(kind: &str, message: impl Into<String>) -> Warning {
        Warning { kind: kind.to_owned(), message: message.into() }
    }
}
