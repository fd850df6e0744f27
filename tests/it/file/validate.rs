//! `validate` and `format` through the program itself.

use std::path::Path;

use serde_json::Value;

use super::{run, text};
use crate::corpus;

/// The commands that can check files, with the field of a verdict that says what Concourse did.
const WAYS: [(&[&str], &str); 3] = [(&[], "server"), (&["--client"], "fly"), (&["--strict"], "fly_strict")];

fn accepted(verdict: &Value) -> bool {
    *verdict == "accept" || *verdict == 0
}

/// The verdict on each of these files, by the lines that are not indented.
fn verdicts(flags: &[&str], files: &[&str], directory: &Path) -> Vec<(bool, String)> {
    let mut args = vec!["validate"];
    args.extend(flags);
    args.extend(files);
    let ended = run(&args, directory, b"");
    let lines = text(&ended.stdout).lines().filter(|line| !line.starts_with(' '));
    let judged: Vec<_> = lines.zip(files).map(|(line, file)| judged(line, file)).collect();
    let wrong = judged.iter().any(|(ok, _)| !ok);
    assert_eq!((judged.len(), ended.status.code()), (files.len(), Some(i32::from(wrong))), "{flags:?}");
    judged
}

fn judged(line: &str, file: &str) -> (bool, String) {
    match line.strip_prefix("ok ") {
        Some(name) => {
            assert_eq!(name, file);
            (true, String::new())
        }
        None => {
            let told = line.strip_prefix(&format!("invalid {file}: "));
            (false, told.unwrap_or_else(|| panic!("{file}: {line}")).to_owned())
        }
    }
}

#[test]
fn every_file_of_the_corpus_is_judged_as_by_server_and_client() {
    let Some(folder) = corpus::corpus() else { return };
    let all = corpus::lines(&folder.join("verdicts.jsonl"));
    let (tasks, pipelines): (Vec<_>, Vec<_>) =
        all.iter().partition(|line| line["file"].as_str().unwrap().starts_with("tasks/"));
    let names = |lines: &[&Value]| lines.iter().map(|l| l["file"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for (flags, field) in WAYS {
        let files = names(&pipelines);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        for (line, (ok, told)) in pipelines.iter().zip(verdicts(flags, &files, &folder)) {
            if !line[field].is_null() && ok != accepted(&line[field]) {
                wrong.push(format!("{field} {}: {} but {told}", line["file"], line[field]));
            }
        }
    }
    let files = names(&tasks);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for (line, (ok, told)) in tasks.iter().zip(verdicts(&["--task"], &files, &folder)) {
        if ok != accepted(&line["server"]) {
            wrong.push(format!("task {}: {} but {told}", line["file"], line["server"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BROKEN: &str = "jobs:\n- name: A\n  plan:\n  - get: r\n    attempts: 0\n  - put: s\n";

#[test]
fn a_file_gets_a_line_and_its_further_problems_stand_below() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("good.yml", "jobs: [{name: j, plan: []}]\n");
    write("odd.yml", "jobs: [{name: J, plan: []}]\n");
    write("broken.yml", BROKEN);
    let ended = run(&["validate", "good.yml", "odd.yml", "broken.yml", "none.yml", "."], directory.path(), b"");
    assert_eq!(ended.status.code(), Some(1));
    let want = "ok good.yml
ok odd.yml
  warning: jobs.J: 'J' is not a valid identifier: must start with a lowercase letter or a number
invalid broken.yml: jobs.A.plan.do[0].get(r): unknown resource 'r' (line 4, column 5; add it under `resources:`, or correct the name)
  jobs.A.plan.do[0].attempts: must be greater than 0 (line 5, column 5)
  jobs.A.plan.do[1].put(s): unknown resource 's' (line 6, column 5; add it under `resources:`, or correct the name)
invalid none.yml: there is no such file; is the path right?
invalid .: it is a directory; name the files in it
";
    assert_eq!(text(&ended.stdout), want);

    let ended = run(&["validate", "--json", "-"], directory.path(), BROKEN.as_bytes());
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (told["file"].as_str(), told["valid"].as_bool(), ended.status.code()),
        (Some("-"), Some(false), Some(1))
    );
    assert_eq!(told["errors"][1]["path"], "jobs[0].plan[0].attempts");
    assert_eq!((&told["errors"][1]["line"], &told["errors"][1]["column"]), (&Value::from(5), &Value::from(5)));

    let twice = b"a: 1\na: 2\njobs: [{name: j, plan: []}]\n";
    assert_eq!(run(&["validate", "-"], directory.path(), twice).status.code(), Some(0));
    let ended = run(&["validate", "--client", "-"], directory.path(), twice);
    assert!(text(&ended.stdout).contains("line 2: mapping key \"a\" already defined at line 1"), "{ended:?}");
    let ended = run(&["validate", "--strict", "odd.yml"], directory.path(), b"");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let ended = run(&["validate", "--task", "-"], directory.path(), b"run: {path: x}\n");
    assert_eq!(text(&ended.stdout), "invalid -: invalid task configuration:\n    missing 'platform'\n");
}

#[test]
fn a_file_is_formatted_as_the_server_gives_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.yml");
    std::fs::write(&path, "# x\njobs: [{plan: [{task: t, file: a/b, tags: [1x]}], name: j}]\n").unwrap();
    let want = "jobs:\n- name: j\n  plan:\n  - file: a/b\n    tags:\n    - 1x\n    task: t\n";
    for args in [&["format", "-c", "p.yml"][..], &["format", "p.yml"]] {
        assert_eq!(text(&run(args, directory.path(), b"").stdout), want, "{args:?}");
    }
    assert!(run(&["format", "-w", "-c", "p.yml"], directory.path(), b"").stdout.is_empty());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    let ended = run(&["format", "none.yml"], directory.path(), b"");
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("none.yml: there is no such file"), "{ended:?}");
    let ended = run(&["format", "-"], directory.path(), b"jobs: 1\n");
    assert!(text(&ended.stderr).contains("-: line 1, column 1: error unmarshaling JSON"), "{ended:?}");
}

#[test]
fn what_was_formatted_over_the_corpus_means_the_same_and_stays() {
    let Some(folder) = corpus::corpus() else { return };
    let read = |text: &[u8]| whistlestop::pipeline::client::read(text);
    for line in corpus::lines(&folder.join("verdicts.jsonl")) {
        let file = line["file"].as_str().unwrap();
        if file.starts_with("tasks/") || line["server"] != "accept" {
            continue;
        }
        let config = read(&std::fs::read(folder.join(file)).unwrap()).unwrap();
        let formatted = whistlestop::pipeline::as_yaml(&config);
        let again = read(formatted.as_bytes()).unwrap();
        assert_eq!(again, config, "{file}");
        assert_eq!(whistlestop::pipeline::as_yaml(&again), formatted, "{file}");
    }
}
