//! A text taken all the way to a checked pipeline, with the line of everything that is wrong.

use serde_json::Value;

use super::decode::{self, Fault, Reading};
use super::problem::{Problem, Section, Warning};
use super::quote::quoted;
use super::validate::validate;
use super::yaml::document::{Document, YamlError};
use super::yaml::emit::natural;
use super::yaml::screen::{Refusal, Shape, screen};
use super::yaml::value::Segment;
use super::{Config, TaskConfig};
use crate::base::distance::distance;
use crate::vars::typed::untyped;
use crate::vars::{Lookup, Missing, fill_template, number};

/// Reads and checks a pipeline as the server does: problems refuse it, warnings do not.
pub fn load(text: &[u8]) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let (document, value) = read(text).map_err(|problem| vec![*problem])?;
    let config = taken(value, &document).map_err(|problem| vec![*problem])?;
    let (problems, warnings) = validate(&config);
    match problems.is_empty() {
        true => Ok((config, warnings)),
        false => Err(problems.into_iter().map(|problem| problem.located(&document)).collect()),
    }
}

fn taken(mut value: Value, document: &Document) -> Result<Config, Box<Problem>> {
    Again::server(&mut value, document)?;
    number::through_float(&mut value);
    decode::config(&value, Reading::Server).map_err(|fault| Box::new(malformed(&fault, &value).located(document)))
}

/// Reads a pipeline as the step `set_pipeline` does, without checking it: its variables are only looked at if there are
/// any to fill in, and what is filled in is read once more.
pub fn resolve(text: &[u8], scope: Option<&dyn Lookup>) -> Result<Config, Box<Problem>> {
    let refused = |refusal: Refusal| Problem::unreadable(format!("yaml: {}", refusal.message)).at_mark(refusal.mark);
    screen(text, Shape::Anything).map_err(|refusal| Box::new(refused(refusal)))?;
    let Some(scope) = scope else {
        let (document, value) = read(text)?;
        return taken(value, &document);
    };
    let (document, value) = read_plain(text)?;
    let filled = fill_template(&value, scope, Missing::Leave);
    let mut value = untyped(filled.map_err(|error| Box::new(Problem::unreadable(error.to_string())))?);
    Again::client(&mut value)?;
    taken(value, &document)
}

/// Reads a file whose variables are to be filled in, floats and keys that are no text as such: what fails here fails before there is anything to
/// make JSON of.
pub(super) fn read_plain(text: &[u8]) -> Result<(Document, Value), Box<Problem>> {
    let plain = |error: &YamlError| {
        let mut problem = unreadable(error);
        if let Some(words) = problem.message.strip_prefix("error converting YAML to JSON: yaml: ") {
            problem.message = format!("yaml: {words}");
        }
        problem
    };
    let document = Document::parse(text).map_err(|error| plain(&error))?;
    let value = document.to_template().map_err(|error| plain(&error))?;
    Ok((document, value))
}

/// Concourse writes what it has read as YAML and reads that once more. It writes the key `<<` without the quotes in which
/// alone it can have stood until then, and so merges it after all.
#[derive(Default)]
pub(super) struct Again {
    at: Vec<Segment>,
    wrong: bool,
    clashes: Vec<(Vec<Segment>, String)>,
}

impl Again {
    /// As the server does it, which has dropped unknown keys at the top by then, and takes no key from two places.
    pub(super) fn server(value: &mut Value, document: &Document) -> Result<(), Box<Problem>> {
        let mut pass = Again::default();
        for (key, value) in value.as_object_mut().into_iter().flatten().filter(|(_, value)| holds_merge(value)) {
            pass.below(Segment::Key(key.clone()), value);
        }
        pass.refused()?;
        let Some((at, _)) = pass.clashes.first() else { return Ok(()) };
        let lines = pass.clashes.iter().map(|(at, key)| {
            let line = document.locate(at).map_or(1, |mark| mark.line);
            format!("\n  line {line}: key {} already set in map", quoted(key))
        });
        let message = format!("unmarshal errors:{}", lines.collect::<String>());
        Err(unreadable(&YamlError { message, mark: document.locate(at) }))
    }

    /// As the client does it.
    pub(super) fn client(value: &mut Value) -> Result<(), Box<Problem>> {
        let mut pass = Again::default();
        pass.merges(value);
        pass.refused()
    }

    fn refused(&self) -> Result<(), Box<Problem>> {
        if !self.wrong {
            return Ok(());
        }
        let message = "map merge requires map or sequence of maps as the value".to_owned();
        Err(unreadable(&YamlError { message, mark: None }))
    }

    fn below(&mut self, segment: Segment, value: &mut Value) {
        if holds_merge(value) {
            self.at.push(segment);
            self.merges(value);
            self.at.pop();
        }
    }

    fn merges(&mut self, value: &mut Value) {
        let map = match value {
            Value::Array(items) => {
                return items.iter_mut().enumerate().for_each(|(i, item)| self.below(Segment::Index(i), item));
            }
            Value::Object(map) => map,
            _ => return,
        };
        map.iter_mut().for_each(|(key, value)| self.below(Segment::Key(key.clone()), value));
        let Some(merged) = map.shift_remove("<<") else { return };
        let maps = match merged {
            Value::Array(items) => items,
            single => vec![single],
        };
        for merged in maps.into_iter().rev() {
            let Value::Object(merged) = merged else {
                self.wrong = true;
                return;
            };
            for (key, value) in merged {
                let there = map.contains_key(&key);
                if there {
                    self.clashes.push((self.at.clone(), key.clone()));
                }
                if !there || natural(&key, "<<").is_lt() {
                    map.insert(key, value);
                }
            }
        }
        map.sort_keys();
    }
}

/// Whether the key `<<` stands anywhere within.
fn holds_merge(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_merge),
        Value::Object(map) => map.iter().any(|(key, value)| key == "<<" || holds_merge(value)),
        _ => false,
    }
}

/// Reads YAML or JSON as JSON with sorted keys.
pub fn to_json(text: &[u8]) -> Result<Value, Box<Problem>> {
    read(text).map(|(_, value)| value)
}

fn read(text: &[u8]) -> Result<(Document, Value), Box<Problem>> {
    let document = Document::parse(text).map_err(|error| unreadable(&error))?;
    let value = document.to_json().map_err(|error| unreadable(&error))?;
    Ok((document, value))
}

pub(super) fn unreadable(error: &YamlError) -> Box<Problem> {
    let foreign = error.message.starts_with("json: ") || error.message.starts_with("unsupported map key");
    let library = if foreign { "" } else { "yaml: " };
    let message = format!("error converting YAML to JSON: {library}{}", error.message);
    let mut problem = Problem::new(Section::Malformed, &[], message).at_mark(error.mark);
    problem.remedy = yaml_remedy(&error.message).map(str::to_owned);
    Box::new(problem)
}

pub(super) fn yaml_remedy(message: &str) -> Option<&'static str> {
    let remedies = [
        ("invalid map key: map", "write variables as ((name)), not {{name}}, or put the value in quotes"),
        ("cannot start any token", "put the value in quotes; indent with spaces, not tabs"),
        ("unknown anchor", "define the anchor with & before it is used with *"),
        ("excessive aliasing", "use fewer nested aliases"),
        ("could not find expected ':'", "a key needs a colon and a space; check the indentation of the lines before"),
        ("did not find expected", "check the indentation, and put text that holds `: ` or `#` in quotes"),
        ("mapping values are not allowed", "put text that holds `: ` in quotes, or check the indentation"),
    ];
    remedies.iter().find(|(part, _)| message.contains(part)).map(|(_, remedy)| *remedy)
}

pub(super) fn malformed(fault: &Fault, value: &Value) -> Problem {
    let message = format!("error unmarshaling JSON: while decoding JSON: {fault}");
    let problem = Problem::new(Section::Malformed, &fault.at, message);
    match remedy(fault, value) {
        Some(remedy) => problem.remedy(remedy),
        None => problem,
    }
}

fn remedy(fault: &Fault, root: &Value) -> Option<String> {
    let there = fault.at.iter().try_fold(root, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(i) => value.get(i),
    });
    let text = fault.to_string();
    if let (Some(Segment::Key(key)), [_, ..]) = (fault.at.last(), fault.known()) {
        return Some(match closest(key, fault.known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("take it out; known here are: {}", fault.known().join(", ")),
        });
    }
    if let Some(Value::String(found)) = there
        && found.contains("((")
        && text.contains("cannot unmarshal string")
    {
        return Some("a variable cannot stand here when the pipeline is set: fill it in with -v, -y or -l".into());
    }
    let has = |key: &str| there.is_some_and(|v| v.get(key).is_some());
    if text.contains("no step configured") {
        return Some(match there {
            _ if has("aggregate") => "`aggregate` is gone, use `in_parallel`".into(),
            Some(Value::Null) | None => "write a step, or take the key out".into(),
            _ => "a step needs one of: get, put, task, set_pipeline, load_var, try, do, in_parallel".into(),
        });
    }
    if text.contains("no core step type declared") && has("aggregate") {
        return Some("`aggregate` is gone, use `in_parallel`".into());
    }
    let wanted = text.rsplit_once("of type ").map(|(_, wanted)| wanted)?;
    Some(match wanted {
        "bool" => "write true or false, without quotes".into(),
        "int" => "write a whole number, without quotes".into(),
        "string" => "put the value in quotes".into(),
        _ if wanted.starts_with("[]") || wanted.ends_with('s') && text.contains("unmarshal object") => {
            "write a list".into()
        }
        _ => "write a map of keys and values".into(),
    })
}

/// The known key that is at most two letters away.
fn closest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let near = known.iter().map(|k| (distance(key, k), *k)).min()?;
    (near.0 <= 2 && near.0 < key.len()).then_some(near.1)
}

impl TaskConfig {
    /// Reads and checks a task's file.
    pub fn load(text: &[u8]) -> Result<TaskConfig, Box<Problem>> {
        let (document, value) = read(text)?;
        TaskConfig::taken(&value).map_err(|problem| Box::new(problem.located(&document)))
    }

    /// Takes a task whose variables have been filled in, which must be as whole as a file.
    pub fn filled(mut value: Value) -> Result<TaskConfig, Box<Problem>> {
        number::settle(&mut value);
        TaskConfig::taken(&value)
    }

    fn taken(value: &Value) -> Result<TaskConfig, Box<Problem>> {
        let task = decode::task(value).map_err(|fault| Box::new(malformed(&fault, value)))?;
        if !task.unknown.is_empty() {
            let names: Vec<_> = task.unknown.keys().map(String::as_str).collect();
            let at = [Segment::Key(names[0].to_owned())];
            let message = format!("unknown fields: [{}]", names.join(" "));
            let near = closest(names[0], &decode::TASK);
            let remedy = near.map_or("take them out".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(Box::new(Problem::new(Section::Malformed, &at, message).remedy(remedy)));
        }
        let shortcomings = task.shortcomings();
        if !shortcomings.is_empty() {
            let message = format!("invalid task configuration:\n{}", shortcomings.join("\n"));
            return Err(Box::new(Problem::new(Section::Malformed, &[], message)));
        }
        Ok(task)
    }

    /// What a task that could be read still lacks.
    pub fn shortcomings(&self) -> Vec<String> {
        let mut lacking = Vec::new();
        if self.platform.is_empty() {
            lacking.push("missing 'platform'".to_owned());
        }
        let nameless = |what: &str, i: usize| format!("  {what} in position {i} is missing a name");
        let inputs = self.inputs.iter().enumerate().filter(|(_, input)| input.name.is_empty());
        lacking.extend(inputs.map(|(i, _)| nameless("input", i)));
        let outputs = self.outputs.iter().enumerate().filter(|(_, output)| output.name.is_empty());
        lacking.extend(outputs.map(|(i, _)| nameless("output", i)));
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        load(text.as_bytes()).unwrap_err().remove(0)
    }

    #[test]
    fn a_problem_says_where_and_what_to_do() {
        let text = "jobs:\n- name: j\n  plan:\n  - get: r\n    triger: true\nresources:\n- {name: r, type: mock}\n";
        let found = problem(text);
        assert_eq!(found.message, r#"jobs.j.plan.do[0]: unknown fields ["triger"]"#);
        assert_eq!((found.line, found.column, found.path.as_str()), (Some(5), Some(5), "jobs[0].plan[0].triger"));

        let found = problem("jobs:\n- name: j\n  plan: []\n  serail: true\n");
        assert_eq!((found.line, found.remedy.as_deref()), (Some(4), Some("did you mean `serial`?")));

        let found = problem("jobs:\n- name: j\n  plan:\n  - aggregate: []\n");
        assert_eq!((found.line, found.remedy.as_deref()), (Some(4), Some("`aggregate` is gone, use `in_parallel`")));

        let found = problem("jobs:\n- name: j\n  serial: ((x))\n");
        assert_eq!(found.line, Some(3));
        assert!(found.remedy.is_some_and(|r| r.contains("variable")));

        let found = problem("jobs:\n- name: {{x}}\n");
        assert_eq!(found.line, Some(2));
        assert!(found.remedy.is_some_and(|r| r.contains("((name))")));
    }

    #[test]
    fn steps_side_by_side_are_found_in_both_forms() {
        for list in ["in_parallel:\n    - get: zz", "in_parallel:\n      steps:\n      - get: zz"] {
            let found = problem(&format!("jobs:\n- name: j\n  plan:\n  - {list}\n"));
            assert!(found.message.starts_with("jobs.j.plan.do[0].in_parallel.steps[0].get(zz)"), "{found}");
            assert_eq!(found.line, Some(if list.contains("steps") { 6 } else { 5 }), "{found}");
        }
    }

    #[test]
    fn a_task_file_is_read_with_concourses_words() {
        let load = |text: &str| TaskConfig::load(text.as_bytes()).map_err(|p| p.message);
        let task = load("platform: linux\nparams: {A: 1, B: yes, C: ~, D: [1], E: 12345678901234567890}\n").unwrap();
        let texts: Vec<_> = task.params.values().map(String::as_str).collect();
        assert_eq!(texts, ["1", "true", "", "[1]", "12345678901234567890"]);
        assert_eq!(load("platform: linux\nimage: x").unwrap_err(), "unknown fields: [image]");
        let both = "invalid task configuration:\nmissing 'platform'\n  input in position 0 is missing a name";
        assert_eq!(load("inputs: [{}]").unwrap_err(), both);
    }
}
