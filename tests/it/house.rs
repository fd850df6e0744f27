//! The house rules that a compiler cannot see: layers, purity, size, licences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules that are functions over values.
const PURE: &[&str] = &["base", "vars", "event", "pipeline", "plan", "schedule", "auth"];
/// What of them gives the rest of the house the time, chance, an end and a way out; of addresses only their values.
const LENT: &[&str] = &[
    "base/chance.rs",
    "base/clock.rs",
    "base/network.rs",
    "base/outgoing.rs",
    "base/shutdown.rs",
    "base/trust/mod.rs",
    "base/wake.rs",
];
/// What a pure module must not name.
const IMPURE: &[&str] =
    &["tokio", "rusqlite", "std::fs", "std::net", "std::process", "std::env", "std::time::Instant", "reqwest"];
/// Who alone may name a crate.
const ONLY: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("bollard", &["runtime/docker"]),
    ("askama", &["web"]),
    ("aws_sdk_ssm", &["secrets/ssm"]),
    ("aws_config", &["secrets/ssm"]),
    ("axum", &["front", "api", "web", "server", "worker"]),
];
/// Every HTTP client begins in one place, which knows whom to believe.
const CLIENTS: (&[&str], &str) =
    (&["reqwest::Client::builder", "reqwest::Client::new", "ClientBuilder::new"], "base/trust/mod.rs");
/// Longer files are two nouns.
const MOST_LINES: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `src` with its text, tests cut off.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            (path.strip_prefix(&src).unwrap().to_owned(), code)
        })
        .collect()
}

/// The layers from the module doc of `lib.rs`: each module with its level.
fn layers() -> BTreeMap<String, usize> {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let line = lib.lines().find(|l| l.starts_with("//! base < ")).expect("lib.rs names the layers");
    let levels = line.trim_start_matches("//! ").split('<').enumerate();
    levels.flat_map(|(level, names)| names.split_whitespace().map(move |n| (n.to_owned(), level))).collect()
}

fn module(path: &Path) -> String {
    path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a text imports by `crate::NAME`.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    code.flat_map(|l| l.match_indices("crate::").map(move |(at, _)| &l[at + 7..]))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn no_module_imports_from_its_right_or_its_own_level() {
    let layers = layers();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = module(&path);
        let Some(level) = layers.get(&from) else { continue };
        for to in imports(&text) {
            if layers.get(&to).is_some_and(|l| to != from && l >= level) {
                wrong.push(format!("{} imports {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let layers = layers();
    for (path, _) in sources() {
        let name = module(&path);
        assert!(matches!(name.as_str(), "lib" | "main") || layers.contains_key(&name), "{name} is in no layer");
    }
}

#[test]
fn the_core_is_pure_and_crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let names: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        let has =
            |word: &str| names.iter().any(|l| l.contains(&format!("{word}::")) || l.contains(&format!("use {word};")));
        if PURE.contains(&module(&path).as_str()) && !LENT.iter().any(|lent| path == Path::new(lent)) {
            wrong.extend(IMPURE.iter().filter(|w| has(w)).map(|w| format!("{} names {w}", path.display())));
        }
        for (name, homes) in ONLY {
            if has(name) && !homes.iter().any(|h| path.starts_with(h) || path.with_extension("").starts_with(h)) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    let (calls, home) = CLIENTS;
    for (path, text) in sources().iter().filter(|(path, _)| path != Path::new(home)) {
        let called = calls.iter().filter(|call| text.contains(&format!("{call}(")));
        wrong.extend(called.map(|call| format!("{} calls {call}: begin with {home}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_for_and_end() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not open with its purpose", path.display()));
        }
        if text.lines().count() > MOST_LINES {
            wrong.push(format!("{} has more than {MOST_LINES} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_is_part_of_this_binary() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "tests/it/{name} is forgotten");
    }
}

/// A licence expression is good if some way through its `OR`s takes only allowed ones.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" OR ").any(|way| way.split(" AND ").all(|one| allow.iter().any(|a| a == one.trim())))
}

#[test]
fn licences_are_those_that_deny_toml_allows() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = deny.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let allow: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata answers");
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    let wrong: Vec<String> = packages
        .iter()
        .filter(|p| !p["license"].as_str().is_some_and(|l| allowed(l, &allow)))
        .map(|p| format!("{} {}: {}", p["name"], p["version"], p["license"]))
        .collect();
    assert!(wrong.is_empty(), "licences that are not allowed:\n{}", wrong.join("\n"));
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix=none", "--format={p}"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().count() > 100);
    for name in deny.match_indices("{ name = \"").map(|(at, _)| deny[at + 10..].split('"').next().unwrap()) {
        assert!(!tree.lines().any(|l| l.split(' ').next() == Some(name)), "{name} is banned by deny.toml");
    }
}
