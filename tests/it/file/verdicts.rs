//! What Concourse 8.2.5 says of small pipelines that are odd in one way or another: `tests/data/pipeline/verdicts.jsonl` holds
//! the answers of its own loader, of its client's `validate-pipeline` and of the same with `--strict`.

use serde_json::Value;
use whistlestop::pipeline::{self, Config, Problem, Warning, client};

type Found = Result<(Config, Vec<Warning>), Vec<Problem>>;

/// The lines of what is wrong, without the headings that Concourse writes above them; in sorted order, since it goes
/// through maps by chance.
fn lines<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let trimmed = texts.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<_> =
        trimmed.filter(|l| !(l.starts_with("invalid ") && l.ends_with(':'))).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn wanted(verdict: &Value) -> Option<Vec<String>> {
    verdict.as_array().map(|errors| lines(errors.iter().filter_map(Value::as_str)))
}

fn told(found: &Found) -> Option<Vec<String>> {
    found.as_ref().err().map(|problems| lines(problems.iter().map(|problem| problem.message.as_str())))
}

#[test]
fn odd_pipelines_get_concourses_verdict() {
    let mut wrong = Vec::new();
    for line in include_str!("../../data/pipeline/verdicts.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = row["yaml"].as_str().unwrap().as_bytes();
        let server = pipeline::load(text);
        for (who, found) in
            [("server", &server), ("client", &client::load(text, false)), ("strict", &client::load(text, true))]
        {
            if told(found) != wanted(&row[who]) {
                wrong.push(format!("{line}\n  {who} got {:?}", told(found)));
            }
        }
        let Ok((config, warnings)) = server else { continue };
        let warnings: Vec<_> = warnings.into_iter().map(|warning| (warning.kind, warning.message)).collect();
        let want: Vec<(String, String)> = serde_json::from_value(row["warnings"].clone()).unwrap_or_default();
        if warnings != want || !crate::corpus::same(&serde_json::to_value(&config).unwrap(), &row["config"]) {
            wrong.push(format!("{line}\n  reads back as {}", serde_json::to_string(&config).unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
