//! The JSON Schema against every real file: what Concourse takes validates, what it cannot decode does not.

use serde_json::Value;
use whistlestop::pipeline;

use super::{run, text};
use crate::corpus;

fn printed(args: &[&str]) -> Value {
    let ended = run(args, std::path::Path::new("."), b"");
    assert!(ended.status.success(), "{ended:?}");
    serde_json::from_str(text(&ended.stdout)).unwrap()
}

#[test]
fn the_schema_says_of_the_corpus_what_the_decoder_says() {
    let Some(folder) = corpus::corpus() else { return };
    let [of_pipelines, of_tasks] =
        [&["schema"][..], &["schema", "--task"]].map(|args| jsonschema::draft7::new(&printed(args)).unwrap());
    let mut wrong = Vec::new();
    for line in corpus::lines(&folder.join("verdicts.jsonl")) {
        let file = line["file"].as_str().unwrap();
        let read = std::fs::read(folder.join(file)).unwrap();
        let Ok(value) = pipeline::to_json(&read) else { continue };
        let schema = if file.starts_with("tasks/") { &of_tasks } else { &of_pipelines };
        let found = schema.validate(&value).err().map(|error| error.to_string());
        let told = line["errors"].to_string();
        // What cannot be decoded has the wrong shape, unless a variable stands there that is filled in later.
        let misshapen = told.contains("while decoding JSON") && !told.contains("cannot unmarshal string into");
        match found {
            Some(error) if line["server"] == "accept" => wrong.push(format!("{file}: accepted, but {error}")),
            None if misshapen => wrong.push(format!("{file}: valid, but {told}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
