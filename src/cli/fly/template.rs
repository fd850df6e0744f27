//! A pipeline's file with the variables of flags and files filled in.

use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::failure::Failure;
use super::reference::{Assignment, assignments, string_assignment, yaml_assignment};
use crate::pipeline::decode::Fault;
use crate::pipeline::yaml::to_yaml;
use crate::pipeline::{self, Config, Problem};
use crate::vars::typed::untyped;
use crate::vars::{Chain, Missing, Static, fill_template};

/// The flags that name a file and its variables.
#[derive(Debug, Clone, clap::Args)]
pub struct Template {
    /// Pipeline configuration file, "-" stands for stdin
    #[arg(short, long, value_name = "PATH", value_parser = existing)]
    pub config: PathBuf,
    /// Specify a string value to set for a variable in the pipeline
    #[arg(short, long, value_name = "NAME=STRING", value_parser = string_assignment)]
    var: Vec<Assignment>,
    /// Specify a YAML value to set for a variable in the pipeline
    #[arg(short, long, value_name = "NAME=YAML", value_parser = yaml_assignment)]
    yaml_var: Vec<Assignment>,
    /// YAML file with values for variables; later ones win over earlier ones, flags over all
    #[arg(short, long, value_name = "PATH", value_parser = existing)]
    load_vars_from: Vec<PathBuf>,
}

/// Takes the path of a file that is there.
pub fn existing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if text == "-" || path.exists() { Ok(path) } else { Err(format!("path '{text}' does not exist")) }
}

/// A file with its variables filled in.
pub struct Filled {
    /// What it says; keys that are no text are marked.
    pub value: Value,
    /// The file as it stands, if there was nothing to fill in.
    own: Option<String>,
}

impl Filled {
    /// What decoding has failed with, and below it the place and the remedy, where the file stands as it was written.
    pub fn located(&self, failure: Failure) -> Failure {
        let (Failure::Said(text), Some(own)) = (&failure, &self.own) else { return failure };
        let Err(problems) = pipeline::load(own.as_bytes()) else { return failure };
        let Some((problem, line)) = problems.iter().find_map(|p| Some((p, p.line?))) else { return failure };
        let remedy = problem.remedy.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        Failure::said(format!("{text}\n  at line {line}, {}{remedy}", problem.path))
    }

    /// What the server is sent: the file as it stands where that is possible, so that the lines which it finds wrong
    /// are those of the file.
    pub fn text(self) -> String {
        self.own.unwrap_or_else(|| to_yaml(&self.value))
    }
}

impl Template {
    /// Whether the file is standard input.
    pub fn is_stdin(&self) -> bool {
        self.config.as_os_str() == "-"
    }

    /// The file as JSON, with every variable filled in that is known here.
    pub fn evaluate(&self, instance: Option<&Map<String, Value>>) -> Result<Value, Failure> {
        self.filled(instance).map(|filled| filled.value)
    }

    /// The file with every variable filled in that is known here.
    pub fn filled(&self, instance: Option<&Map<String, Value>>) -> Result<Filled, Failure> {
        let text = read(&self.config)?;
        let (_, read) = pipeline::client::read_template(&text).map_err(|problem| unreadable(&problem))?;
        let value = fill_template(&read, &self.scope(instance)?, Missing::Leave);
        let value = value.map_err(|e| Failure::said(e.to_string()))?;
        let own = (value == read).then_some(text).and_then(|text| String::from_utf8(text).ok());
        Ok(Filled { value, own })
    }

    /// Flags and the instance's own variables first, then files, the last one first.
    fn scope(&self, instance: Option<&Map<String, Value>>) -> Result<Chain<Static>, Failure> {
        let mut flags = Static::default();
        let own = instance.map(assignments).unwrap_or_default();
        for given in self.var.iter().chain(&self.yaml_var).chain(&own) {
            flags.set(&given.reference, given.value.clone());
        }
        let mut places = vec![flags];
        for path in self.load_vars_from.iter().rev() {
            let shown = path.display();
            let text = std::fs::read(path)
                .map_err(|e| Failure::said(format!("could not read template variables file ({shown}): {e}")))?;
            let wrong = |e: &str| Failure::said(format!("could not unmarshal template variables ({shown}): {e}"));
            match pipeline::to_json(&text).map_err(|e| wrong(&e.message))? {
                Value::Object(map) => places.push(Static::from_map(map)),
                Value::Null => {}
                other => {
                    let kind = match other {
                        Value::Array(_) => "array",
                        Value::String(_) => "string",
                        Value::Number(_) => "number",
                        _ => "bool",
                    };
                    return Err(wrong(&format!(
                        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type \
                         vars.StaticVariables: it must be a map of names to values"
                    )));
                }
            }
        }
        Ok(Chain(places))
    }
}

/// What Concourse's client says, and below it the place, which its line often is not, and the remedy.
fn unreadable(problem: &Problem) -> Failure {
    let (Some(line), Some(column)) = (problem.line, problem.column) else {
        return Failure::said(problem.message.clone());
    };
    let remedy = problem.remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
    Failure::said(format!("{}\n  at line {line}, column {column}{remedy}", problem.message))
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let result = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut text).map(drop),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)).map(drop),
    };
    result.map_err(|e| Failure::said(format!("could not read file: {}: {e}", path.display())))?;
    Ok(text)
}

/// Takes JSON as a pipeline. Unlike the server, which refuses them, it passes over keys nobody knows outside of steps.
pub fn decode(value: Value) -> Result<Config, Failure> {
    let wrong = |fault: Fault| Failure::said(format!("error unmarshaling JSON: while decoding JSON: {fault}"));
    pipeline::client::decode(&untyped(value)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        template: Template,
    }

    fn evaluate(files: &[(&str, &str)], args: &[&str], instance: Value) -> Result<Value, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let placed = args.iter().map(|a| a.replace("DIR", dir.path().to_str().unwrap()));
        let line = Line::try_parse_from(std::iter::once("x".to_owned()).chain(placed)).map_err(|e| e.to_string())?;
        line.template.evaluate(instance.as_object()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_win_over_files_and_later_files_over_earlier() {
        let files = [
            ("p", "{a: ((a)), b: ((b)), c: ((c.d)), i: ((i)), z: ((z))}"),
            ("1", "{a: 1, b: 1, c: {d: 1}}"),
            ("2", "b: 2"),
        ];
        let args = ["-c", "DIR/p", "-l", "DIR/1", "-l", "DIR/2", "-v", "a=flag", "-y", "c.d=[x]"];
        let value = evaluate(&files, &args, json!({"i": {"j": true}})).unwrap();
        assert_eq!(value, json!({"a": "flag", "b": 2.0, "c": ["x"], "i": {"j": true}, "z": "((z))"}));
    }

    #[test]
    fn a_key_twice_is_refused_with_its_lines() {
        let failed = evaluate(&[("p", "a: 1\nb: 2\na: 3\n")], &["-c", "DIR/p"], Value::Null).unwrap_err();
        let said = "error parsing yaml before applying templates: yaml: unmarshal errors:\n  line 3: mapping key \"a\" already defined at line 1\n  \
                    at line 3, column 1: take one of them out; the server would take the last one";
        assert_eq!(failed, said);
    }

    #[test]
    fn unknown_keys_are_passed_over_outside_of_steps() {
        let config = decode(
            json!({"zz": 1, "resources": [{"name": "a", "type": "t", "zz": {}}], "jobs": [{"name": "j", "zz": 1}]}),
        );
        assert_eq!(config.unwrap().resources[0].name, "a");
        let step = decode(json!({"jobs": [{"name": "j", "plan": [{"get": "a", "zz": 1}]}]})).unwrap();
        let (problems, _) = pipeline::validate(&step);
        assert!(problems.iter().any(|p| p.message.contains("unknown field")), "{problems:?}");
    }
}
