//! Real pipelines and recordings of a real Concourse, which live beside the project, not in it. Where they are not
//! there, these tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use whistlestop::pipeline::{self, Config, TaskConfig, yaml};
use whistlestop::vars::{Chain, Missing, Reference, Static, interpolate};

/// The folder an environment variable names, or the usual one; none where it does not exist.
fn folder(variable: &str, usual: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    let path = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(usual));
    if !path.exists() {
        println!("SKIPPED: {} is not there; {variable} may name another place", path.display());
        return None;
    }
    Some(path)
}

/// Real pipelines and tasks, if they are there.
pub(crate) fn corpus() -> Option<PathBuf> {
    folder("CONFORMANCE_CORPUS", "../shared/corpus")
}

/// Recordings of a real Concourse, if they are there.
pub fn wire() -> Option<PathBuf> {
    folder("CONFORMANCE_WIRE", "../shared/reference/wire")
}

/// A file of JSON lines.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(|s| s.trim_end().to_owned()).collect()
}

/// What our loader says of a file in the corpus: errors and warnings in the client's form.
fn verdict(file: &str, text: &[u8]) -> (Vec<String>, Vec<(String, String)>) {
    if file.starts_with("tasks/") {
        return match TaskConfig::load(text) {
            Ok(_) => (Vec::new(), Vec::new()),
            Err(problem) => (vec![problem.message], Vec::new()),
        };
    }
    match pipeline::load(text) {
        Ok((_, warnings)) => (Vec::new(), warnings.into_iter().map(|w| (w.kind, w.message)).collect()),
        Err(problems) => {
            let texts = pipeline::wire(&problems).into_iter();
            let bare = texts.map(|t| t.trim_start_matches("malformed config: ").trim_end().to_owned());
            (bare.collect(), Vec::new())
        }
    }
}

#[test]
fn every_file_of_the_corpus_gets_concourses_verdict() {
    let Some(corpus) = corpus() else { return };
    let mut wrong = Vec::new();
    let verdicts = lines(&corpus.join("verdicts.jsonl"));
    for line in &verdicts {
        let file = line["file"].as_str().unwrap();
        let (errors, warnings) = verdict(file, &std::fs::read(corpus.join(file)).unwrap());
        let want = strings(&line["errors"]);
        if errors.is_empty() != (line["server"] == "accept") || errors != want {
            wrong.push(format!("{file}\n  want {want:?}\n  got  {errors:?}"));
        }
        let told: Vec<(String, String)> = serde_json::from_value(line["warnings"].clone()).unwrap_or_default();
        if errors.is_empty() && warnings != told {
            wrong.push(format!("{file}\n  want {told:?}\n  got  {warnings:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
}

#[test]
fn what_was_accepted_reads_back_as_itself() {
    let Some(corpus) = corpus() else { return };
    for line in lines(&corpus.join("verdicts.jsonl")) {
        let file = line["file"].as_str().unwrap();
        if let Ok((config, _)) = pipeline::load(&std::fs::read(corpus.join(file)).unwrap()) {
            let json = serde_json::to_string(&config).unwrap();
            let (again, _) = pipeline::load(json.as_bytes()).unwrap();
            assert_eq!(again, config, "{file}");
            assert_eq!(serde_json::from_str::<pipeline::Config>(&json).unwrap(), config, "{file}");
        }
    }
}

#[test]
fn every_small_configuration_gets_concourses_answer() {
    let Some(wire) = wire() else { return };
    let mut wrong = Vec::new();
    let cases = lines(&wire.join("config-cases.jsonl"));
    for case in &cases {
        let text = case["yaml"].as_str().unwrap();
        let refused = case["status"].as_u64().unwrap() >= 400;
        match pipeline::load(text.as_bytes()) {
            Ok((config, warnings)) => {
                let read_back = serde_json::to_value(&config).unwrap();
                let told = serde_json::to_value(&warnings).unwrap();
                let want = case["answer"].get("warnings").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
                if refused || !same(&read_back, &case["read_back"]) || told != want {
                    wrong.push(format!("{text}  want {case}\n  got  {read_back} {told}"));
                }
            }
            Err(problems) => {
                let errors = serde_json::to_value(pipeline::wire(&problems)).unwrap();
                if !refused || errors != case["answer"]["errors"] {
                    wrong.push(format!("{text}  want {}\n  got  {errors}", case["answer"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Equal as JSON: 1 and 1.0 are one number.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

#[test]
fn the_client_refuses_the_same_duplicate_keys() {
    let Some(corpus) = corpus() else { return };
    for line in lines(&corpus.join("verdicts.jsonl")) {
        let file = line["file"].as_str().unwrap();
        if line.get("fly").is_none() || line["server"] != "accept" {
            continue;
        }
        let looked = pipeline::client::screened(&std::fs::read(corpus.join(file)).unwrap());
        let text = looked.as_ref().err().map(|problem| format!("error: {}", problem.message));
        assert_eq!(text.as_deref(), line.get("fly_error").and_then(Value::as_str), "{file}");
    }
}

/// The variables with which the templates were recorded.
const VARIABLES: &str = r#"s: str
n: 5
num: 5
b: true
z: null
f: 1.50
l: [1, two]
m: {k: v, deep: {er: 9}, "a.b": dotted, "c:d": colon, UP: up, list: [{x: y}]}
date: 2001-01-01
big: 12345678901234567890
empty: ""
multi: "a\nb"
"q.r": top-dotted
"#;

/// What the client's flags set: first all `-v`, then all `-y`; or what is wrong with them.
fn given(flags: &[&str]) -> Result<Static, String> {
    let mut set = Static::default();
    for wanted in ["-v", "-y"] {
        for pair in flags.windows(2).filter(|pair| pair[0] == wanted) {
            let (name, value) = pair[1].split_once('=').ok_or("must be name=value")?;
            let value = match wanted {
                "-v" => Value::from(value),
                _ => pipeline::to_json(value.as_bytes()).map_err(|e| e.message)?,
            };
            set.set(&Reference::parse(name).map_err(|e| e.to_string())?, value);
        }
    }
    Ok(set)
}

#[test]
fn templates_become_what_the_client_makes_of_them() {
    let Some(wire) = wire() else { return };
    let table = std::fs::read_to_string(wire.join("interpolation.tsv")).unwrap();
    let file = pipeline::to_json(VARIABLES.as_bytes()).unwrap();
    let mut wrong = Vec::new();
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (template, exit, want, message) = (cells[0], cells[1], cells[2], cells.get(3).copied().unwrap_or(""));
        let mut scope = Chain(vec![Static::from_map(file.as_object().unwrap().clone())]);
        let source = match template.strip_prefix("flags ") {
            // Flags the recorded client does not know, or a file that is not there: not a matter of templates.
            Some(flags) if flags.starts_with("-i") || flags.starts_with("-l") => continue,
            Some(flags) => {
                let words: Vec<&str> = match flags {
                    "-y y={z: 4}" => vec!["-y", "y={z: 4}"],
                    "-v y.z=3 -y y={z: 4}" => vec!["-v", "y.z=3", "-y", "y={z: 4}"],
                    other => other.split(' ').collect(),
                };
                match given(&words) {
                    Ok(set) => scope.0 = vec![set],
                    Err(why) if exit == "1" && message.contains(&why) => continue,
                    Err(why) => panic!("{template}: {why}"),
                }
                "{v: ((x)), w: ((y.z)), k: ((i))}".to_owned()
            }
            None if template.starts_with("key ") || template.starts_with("twice ") => {
                template[template.find('{').unwrap()..].to_owned()
            }
            None => format!("{{v: {}}}", Value::from(template)),
        };
        let whole = format!("resources: [{{name: r, type: mock, source: {source}}}]\n");
        let value = pipeline::to_json(whole.as_bytes()).unwrap();
        let got: String = match interpolate(&value, &scope, Missing::Leave) {
            Ok(filled) => {
                let text = yaml::to_yaml(&filled).replace('\n', "\\n");
                let shown = text[text.find("source:").unwrap()..].to_owned();
                let field = shown.strip_prefix("source:\\n    v: ").or_else(|| shown.strip_prefix("source:\\n    v:"));
                let field = field.and_then(|field| field.split("\\n  type").next()).unwrap_or_default();
                let first = field.trim_start_matches("\\n").trim_start();
                if source.starts_with("{v: \"") { first.to_owned() } else { shown }
            }
            Err(error) => format!("error: {error}"),
        };
        let want = match exit {
            "0" => want.trim_end_matches("\\n").to_owned(),
            _ => message.to_owned(),
        };
        if got.trim_end_matches("\\n") != want {
            wrong.push(format!("{template}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The part of a recording that was printed when it was not on a terminal.
fn printed(wire: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(wire.join("fly").join(name)).unwrap();
    let start = text.find("--- stdout, piped\n").unwrap() + "--- stdout, piped\n".len();
    text[start..text.find("--- stderr, piped").unwrap()].to_owned()
}

fn world(wire: &Path, name: &str) -> Config {
    let value = pipeline::to_json(&std::fs::read(wire.join("world").join(name)).unwrap()).unwrap();
    pipeline::decode::config(&value, pipeline::decode::Reading::Server).unwrap()
}

#[test]
fn changes_are_shown_as_the_client_shows_them() {
    let Some(wire) = wire() else { return };
    let empty = Config::default();
    let [small, victim, warn, bad] = ["small.yml", "victim.yml", "warn.yml", "bad.yml"].map(|name| world(&wire, name));
    for (recording, before, after) in [
        ("set-pipeline-new.txt", &empty, &small),
        ("set-pipeline-diff.txt", &small, &victim),
        ("set-pipeline-dry-run.txt", &victim, &small),
        ("set-pipeline-bad.txt", &victim, &bad),
        ("set-pipeline-warn.txt", &empty, &warn),
    ] {
        let text = printed(&wire, recording);
        let want = &text[..text.find("\u{1b}[1mpipeline name").unwrap()];
        assert_eq!(pipeline::diff(before, after, true).as_deref(), Some(want), "{recording}");
    }
    assert_eq!(pipeline::diff(&small, &small, true), None);
}

#[test]
fn pipelines_are_printed_as_the_client_prints_them() {
    let Some(wire) = wire() else { return };
    let want = printed(&wire, "get-pipeline.txt");
    let kitchen = world(&wire, "kitchen.yml").sorted_by_name();
    assert_eq!(pipeline::as_yaml(&kitchen).trim_end(), want.trim_end());
    assert_eq!(pipeline::as_yaml(&world(&wire, "small.yml")), printed(&wire, "format.txt"));
}
