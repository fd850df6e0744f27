//! Real pipelines and recordings of a real Concourse, which live beside the project, not in it. Where they are not
//! there, these tests say so and pass.

use std::path::{Path, PathBuf};

use serde_json::Value;
use whistlestop::pipeline::{self, TaskConfig};

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

fn corpus() -> Option<PathBuf> {
    folder("CONFORMANCE_CORPUS", "../shared/corpus")
}

fn wire() -> Option<PathBuf> {
    folder("CONFORMANCE_WIRE", "../shared/reference/wire")
}

fn lines(path: &Path) -> Vec<Value> {
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
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}
