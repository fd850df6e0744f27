//! What somebody might send: no text makes the readers panic or think for long, and what was read is written so that it
//! reads back as itself. Seeds of failures that were found stay in `SEEDS`.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use whistlestop::pipeline::{Config, TaskConfig, as_yaml, client, load, to_json};
use whistlestop::vars::{Missing, Static, interpolate};

/// Texts that were trouble once, here or elsewhere.
const SEEDS: [&[u8]; 22] = [
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbfjobs: []",
    b"a: \xc3\x28",
    b"a: |",
    b"a: >-\n  x",
    b"\"\\",
    b"'",
    b"[",
    b"{a",
    b"- - -",
    b"%YAML 1.1\n---\na: b\n...\n---\nc",
    b"&a [*a]",
    b"&a {<<: *a}",
    b"{? ? a : b}",
    b"jobs: [null]",
    b"jobs: [{plan: [{try: null}]}]",
    b"jobs: [{plan: [{in_parallel: {steps: null}}]}]",
    b"jobs: [{name: j, plan: [{get: ((a.)), version: {a: ((b))}}]}]",
    b"\"<<\": {\"<<\": [1]}\njobs: [{\"<<\": {name: j}, plan: []}]",
    b"jobs: [{name: j, max_in_flight: 1e999}]",
    b"resources: [{name: r, type: t, check_every: 99999999999999999999h}]",
];

/// Pipelines that use every construct, to be taken apart.
const WHOLE: [&str; 3] = [
    "groups: [{name: g, jobs: [\"*\"], resources: [r]}]
display: {background_image: /x.png, background_filter: blur(1px)}
user_data: {a: [1, 2.5, ~]}
var_sources: [{name: v, type: dummy, config: {vars: {a: b}}}]
resource_types: [{name: t, type: registry-image, source: {a: 1e3}, defaults: {b: y}, check_every: 1m, params: {c: 0x10}}]
prototypes: [{name: p, type: t, source: {}}]
resources: [{name: r, type: t, source: {k: \"a\\nb\"}, version: {ref: \"1\"}, check_every: never, tags: [x], icon: git}]
jobs:
- name: j
  old_name: k
  serial_groups: [a, 1]
  build_log_retention: {builds: 3, days: 1, minimum_succeeded_builds: 1}
  plan: []
",
    "x: &x {platform: linux, run: {path: sh, args: [-c, \"echo ((a))\"]}}
resources: [{name: r, type: mock, source: {}}]
jobs:
- name: j
  plan:
  - {get: r, trigger: true, version: every, params: {a: {b: c}}, timeout: 1h}
  - in_parallel: {limit: 2, fail_fast: true, steps: [{put: r, inputs: [a], get_params: {x: 1}}, {do: [{try: {get: s, resource: r}}]}]}
  - task: t
    config: {<<: *x, inputs: [{name: r, optional: true}], outputs: [{name: o}], caches: [{path: c, ttl: 2h}], container_limits: {cpu: 3, memory: 1GB}}
    attempts: 3
    on_failure: {put: r}
    ensure: {load_var: lv, file: o/x, reveal: true}
  - {task: u, file: o/t.yml, across: [{var: a, values: [1, x], max_in_flight: all}], fail_fast: true, params: {A: 1, B: ~, C: [1]}}
  - {set_pipeline: self, file: o/p.yml, vars: {a: 1}, var_files: [o/v.yml], instance_vars: {b: c}}
  on_abort: {put: r}
",
    "platform: linux\nimage_resource: {type: registry-image, source: {repository: a}}\nparams: {A: 1, B: 010, C: 1_000}\nrun: {path: x}\n",
];

/// Pieces of YAML that mean something.
const PIECES: [&str; 44] = [
    "a",
    "b: ",
    "- ",
    "  ",
    "\n",
    "\n  ",
    "\n    ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&x ",
    "*x",
    "<<: ",
    "'",
    "\"",
    "|",
    "|-\n",
    ">\n",
    "#c",
    "!!str ",
    "1",
    "yes",
    "---",
    "...\n",
    "\t",
    "~",
    "é",
    "\\",
    "@",
    "\r\n",
    "\n\n",
    "((x))",
    "jobs:",
    "plan:",
    "get: r",
    "task: t",
    "config: ",
    "\"<<\": ",
    "2001-01-01",
    "\u{2028}",
];

/// Reads a text in every way there is.
fn read(text: &[u8]) {
    let _ = (client::load(text, false), client::load(text, true), client::screened(text), TaskConfig::load(text));
    if let Ok((config, _)) = load(text) {
        survives(&config);
    }
    if let Ok(value) = to_json(text) {
        filled(&value);
    }
}

/// What was read is written so that it reads back as itself, as YAML and as JSON.
fn survives(config: &Config) {
    let (again, _) = load(as_yaml(config).as_bytes()).unwrap();
    assert_eq!(&again, config);
    let (again, _) = load(serde_json::to_string(config).unwrap().as_bytes()).unwrap();
    assert_eq!(&again, config);
}

/// Filling in nothing changes nothing; filling in everything leaves nothing.
fn filled(value: &Value) {
    if let Ok(same) = interpolate(value, &Static::default(), Missing::Leave) {
        assert_eq!(&same, value);
    }
    let all = Static::from_map(serde_json::json!({"x": "((x))", "a": {"b": 1}}).as_object().unwrap().clone());
    let _ = interpolate(value, &all, Missing::Error);
}

fn spliced() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any::<prop::sample::Index>(), 0..12usize, prop_oneof![select(&PIECES[..]), select(&WHOLE[..])]);
    (select(&WHOLE[..]), prop::collection::vec(cut, 1..5)).prop_map(|(whole, cuts)| {
        let mut text = whole.as_bytes().to_vec();
        for (at, length, piece) in cuts {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.bytes());
        }
        text
    })
}

#[test]
fn seeds_of_old_trouble_are_no_trouble() {
    SEEDS.iter().for_each(|seed| read(seed));
    WHOLE.iter().for_each(|whole| read(whole.as_bytes()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_do_no_harm(text in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&text);
    }

    #[test]
    fn pieces_in_any_order_do_no_harm(pieces in prop::collection::vec(select(&PIECES[..]), 0..24)) {
        read(pieces.concat().as_bytes());
    }

    #[test]
    fn pipelines_taken_apart_do_no_harm(text in spliced()) {
        read(&text);
    }

    #[test]
    fn variables_in_any_text_do_no_harm(text in "[(){}a-z.:\"/@ é-]{0,40}", value in any::<i64>()) {
        let scope = Static::from_map(serde_json::json!({"a": value, "b": {"c": "((a))"}}).as_object().unwrap().clone());
        let template = Value::from(text.clone());
        let once = interpolate(&template, &scope, Missing::Leave);
        prop_assert_eq!(interpolate(&template, &scope, Missing::Leave), once);
        filled(&Value::from(vec![template, Value::from(format!("(({text}))"))]));
    }
}

/// Texts that are small and would be large, deep or slow.
fn bombs() -> Vec<(&'static str, String)> {
    let chain = |item: fn(usize) -> String, n: usize| (1..n).map(item).collect::<String>();
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let tower = chain(|i| format!("a{i}: &a{i} [{0},{0},{0},{0},{0},{0},{0},{0},{0}]\n", format!("*a{}", i - 1)), 12);
    let ladder = chain(|i| format!("- &b{i} [*b{}]\n", i - 1), 4000);
    let merges = chain(|i| format!("m{i}: &m{i} {{<<: [*m{0}, *m{0}], k{i}: 1}}\n", i - 1), 40);
    let padded = "- 1\n".repeat(100_000);
    let steps = nested("{try: ", "}", 2000);
    vec![
        ("billion", format!("a0: &a0 [x,x,x,x,x,x,x,x,x]\n{tower}")),
        ("ladder", format!("{padded}- &b0 1\n{ladder}")),
        ("merges", format!("m0: &m0 {{k: 1}}\n{merges}")),
        ("long text", format!("t: &t {}\nl: [{}]\n", "x".repeat(1 << 20), "*t,".repeat(5000))),
        ("deep list", nested("[", "]", 100_000)),
        ("deep map", nested("{a: ", "}", 100_000)),
        ("deep block", (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        ("deep steps", format!("jobs: [{{name: j, plan: [{steps}]}}]\n")),
        ("one key", "a: 1\n".repeat(20_000)),
        ("one job", format!("jobs:\n{}", "- {name: j, plan: []}\n".repeat(5000))),
        (
            "stars",
            format!("jobs: [{{name: {}, plan: [{{get: a, passed: [{}b]}}]}}]\n", "a".repeat(60), "a*".repeat(30)),
        ),
        ("passed", {
            let jobs = (0..400).map(|i| format!("- {{name: j{i}, plan: [{{get: r, passed: [\"j*\"]}}]}}\n"));
            format!("resources: [{{name: r, type: t}}]\njobs:\n{}", jobs.collect::<String>())
        }),
        ("variables", format!("user_data: \"{}\"\njobs: [{{name: j, plan: []}}]\n", "((a))".repeat(20_000))),
        ("parentheses", format!("user_data: \"{}\"\njobs: [{{name: j, plan: []}}]\n", "(".repeat(200_000))),
        ("numbers", format!("user_data: {}\njobs: [{{name: j, plan: []}}]\n", "9".repeat(200_000))),
        ("quotes", format!("user_data: '{}'\njobs: [{{name: j, plan: []}}]\n", "''".repeat(200_000))),
    ]
}

#[test]
fn bombs_do_not_go_off() {
    for (name, text) in bombs() {
        let begin = Instant::now();
        read(text.as_bytes());
        // Readers of a debug build on a busy machine; what explodes takes minutes.
        assert!(begin.elapsed() < Duration::from_secs(120), "{name}: {:?}", begin.elapsed());
    }
}

#[test]
fn steps_may_be_nested_forty_deep_and_no_deeper() {
    for open in ["{try: ", "{do: [", "{in_parallel: {steps: [", "{get: r, ensure: "] {
        let close: String = open.chars().rev().filter_map(|c| "{}[]".find(c).map(|at| &"}{]["[at..=at])).collect();
        let nested = |levels: usize| {
            let steps = format!("{}{{get: r}}{}", open.repeat(levels), close.repeat(levels));
            format!("resources: [{{name: r, type: t}}]\njobs: [{{name: j, plan: [{steps}]}}]\n")
        };
        let levels = 39.min(94 / close.len());
        read(nested(levels).as_bytes());
        if !open.contains("ensure") {
            assert!(load(nested(levels).as_bytes()).is_ok(), "{open}");
        }
        let refused = load(nested(90).as_bytes()).unwrap_err();
        let whys = ["steps are nested more than 40 deep", "exceeded max depth"];
        assert!(whys.iter().any(|why| refused[0].message.contains(why)), "{}", refused[0]);
    }
}
