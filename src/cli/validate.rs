//! `whistlestop validate`: what Concourse would say of files, without a server.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::input::Input;
use crate::pipeline::{self, Problem, TaskConfig, Warning, client};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Validate {
    /// Files to check; - stands for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files are tasks, not pipelines
    #[arg(long)]
    task: bool,
    /// Print a JSON object a file
    #[arg(long)]
    json: bool,
    /// Check as fly does: keys that stand twice, and a second `<<`, are errors too
    #[arg(long)]
    client: bool,
    /// Check as fly --strict does: also unknown keys anywhere, and warnings, are errors
    #[arg(long)]
    strict: bool,
}

/// What there is to say about one file.
struct Verdict {
    file: String,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Validate {
    /// Prints a verdict on each file; the exit status is 1 if any of them is invalid.
    pub fn run(&self) -> anyhow::Result<i32> {
        let mut out = std::io::stdout().lock();
        let mut status = 0;
        for path in &self.files {
            let verdict = self.verdict(&Input::of(path));
            status |= i32::from(!verdict.problems.is_empty());
            let shown = if self.json { format!("{}\n", verdict.json()) } else { verdict.text() };
            // Nobody reads any more where this fails; the status still counts.
            let _ = out.write_all(shown.as_bytes());
        }
        Ok(status)
    }

    fn verdict(&self, input: &Input) -> Verdict {
        let file = input.name();
        let found = match input.read() {
            Ok(text) if self.task => self.task(&text),
            Ok(text) if self.client || self.strict => client::load(&text, self.strict).map(|(_, warnings)| warnings),
            Ok(text) => pipeline::load(&text).map(|(_, warnings)| warnings),
            Err(unreadable) => Err(vec![Problem::unreadable(unreadable.to_string())]),
        };
        let (problems, warnings) = match found {
            Ok(warnings) => (Vec::new(), warnings),
            Err(problems) => (problems, Vec::new()),
        };
        Verdict { file, problems, warnings }
    }

    fn task(&self, text: &[u8]) -> Result<Vec<Warning>, Vec<Problem>> {
        if self.client || self.strict {
            client::screened(text).map_err(|problem| vec![*problem])?;
        }
        TaskConfig::load(text).map(|_| Vec::new()).map_err(|problem| vec![*problem])
    }
}

impl Verdict {
    fn text(&self) -> String {
        let mut problems = self.problems.iter();
        let mut text = match problems.next() {
            Some(first) => format!("invalid {}: {}\n", self.file, indented(&first.told())),
            None => format!("ok {}\n", self.file),
        };
        text.extend(problems.map(|problem| format!("  {}\n", indented(&problem.told()))));
        text.extend(self.warnings.iter().map(|warning| format!("  warning: {}\n", indented(&warning.message))));
        text
    }

    fn json(&self) -> Value {
        let (valid, errors) = (self.problems.is_empty(), &self.problems);
        json!({ "file": self.file, "valid": valid, "errors": errors, "warnings": self.warnings })
    }
}

/// A text whose further lines stand further in.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}
