//! Tables for `mock`; the log lines are those that a real Concourse recorded.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::base::clock::Time;

fn env<'a>(log: &'a mut Vec<u8>, build: &'a BTreeMap<String, String>) -> Env<'a> {
    Env {
        log,
        cache: None,
        allow_local: false,
        cancelled: &|| false,
        build,
        now: Time(0),
        privileged: false,
        mirror: Mirror::Nothing,
        registries: Default::default(),
    }
}

fn request(source: Value, params: Value, version: Option<&str>) -> Request {
    Request {
        source: source.as_object().cloned().unwrap(),
        params: params.as_object().cloned(),
        version: version.map(|v| Version::from([("version", v)])),
    }
}

fn check(source: Value, version: Option<&str>) -> Result<Vec<Version>, String> {
    let (mut log, build) = (Vec::new(), BTreeMap::new());
    Mock.check(&request(source, Value::Null, version), &mut env(&mut log, &build)).map_err(|f| f.to_string())
}

#[test]
fn check_gives_the_forced_the_given_or_the_initial_version() {
    for (source, given, expected) in [
        (json!({}), None, vec!["mock"]),
        (json!({}), Some("a"), vec!["a"]),
        (json!({"initial_version": "one", "log": null}), None, vec!["one"]),
        (json!({"no_initial_version": true}), None, vec![]),
        (json!({"force_version": "f", "check_delay": "1ms"}), Some("a"), vec!["f"]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|v| Version::from([("version", v)])).collect();
        assert_eq!(check(source.clone(), given), Ok(expected), "{source}");
    }
}

#[test]
fn check_fails_as_the_original() {
    for (source, text) in [
        (json!({"check_failure": "boom"}), "\x1b[31mFATA\x1b[0m[0000] intentionally failing to check: boom       "),
        (json!({"nope": 1}), "invalid payload: json: unknown field \"nope\""),
        (json!({"check_delay": "x"}), "malformed check_delay duration (x): time: invalid duration \"x\""),
        (json!({"log": 3}), "invalid payload: json: invalid type"),
    ] {
        let error = check(source.clone(), None).unwrap_err();
        assert!(error.contains(text), "{source}: {error:?}");
    }
}

#[test]
fn a_cancelled_delay_ends() {
    let (mut log, build) = (Vec::new(), BTreeMap::new());
    let mut env = Env { cancelled: &|| true, ..env(&mut log, &build) };
    let r = request(json!({"check_delay": "1h"}), Value::Null, None);
    assert!(Mock.check(&r, &mut env).is_ok());
}

#[test]
fn get_writes_its_files_and_logs_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, build) = (Vec::new(), BTreeMap::new());
    let source = json!({"mirror_self": true, "create_files": {"a/b.txt": "START_VARxEND_VAR", "o": {"k": 1}},
        "metadata": [{"name": "n", "value": "v"}]});
    let r = request(source, json!({"create_files_via_params": {"o": "new"}}), Some("m-7\n"));
    let mut env = Env { mirror: Mirror::HostRootfs, ..env(&mut log, &build) };
    let response = Mock.get(&r, dir.path(), &mut env).unwrap();
    assert_eq!(response.metadata, [MetadataField { name: "n".into(), value: "v".into() }]);
    assert_eq!(response.version, Version::from([("version", "m-7\n")]));
    assert_eq!(
        String::from_utf8(log).unwrap(),
        "\u{1b}[36mINFO\u{1b}[0m[0000] fetching version: m-7                        \n\u{1b}[36mINFO\u{1b}[0m[0000] mirroring self image                          \u{1b}[36mvia_params\u{1b}[0m=false\n"
    );
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("version"), "m-7\n\n");
    assert_eq!(read("privileged"), "false\n");
    assert_eq!(read("a/b.txt"), "((x))");
    assert_eq!(read("o"), "new");
    assert_eq!(
        read("metadata.json"),
        "{\"env\":[\"MIRRORED_VERSION=m-7\\n\"],\"user\":\"root\",\"host_rootfs\":true}\n"
    );
    assert_eq!(read("rootfs/opt/resource/type"), "mock\n");
    for script in ["check", "in", "out"] {
        assert!(dir.path().join("rootfs/opt/resource").join(script).metadata().unwrap().len() > 0);
    }
}

#[test]
fn files_stay_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    for (path, expected) in [
        ("a", Some("a")),
        ("/a/./b", Some("a/b")),
        ("a/../b", Some("b")),
        ("../b", None),
        ("a/../../b", None),
        (".", None),
    ] {
        assert_eq!(below(dir.path(), path), expected.map(|e| dir.path().join(e)), "{path}");
    }
    std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
    assert!(inside(dir.path(), "link/passwd").is_err());
}

#[test]
fn put_takes_the_version_from_params_or_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("v"), "m-7\n").unwrap();
    let put = |params: Value| {
        let (mut log, build) = (Vec::new(), BTreeMap::from([("BUILD_ID".to_owned(), "4".to_owned())]));
        let answer = Mock.put(&request(json!({}), params, None), dir.path(), &mut env(&mut log, &build));
        (answer.map(|r| r.version).map_err(|f| f.to_string()), String::from_utf8(log).unwrap())
    };
    let (version, log) = put(json!({"file": "v"}));
    assert_eq!(version, Ok(Version::from([("version", "m-7\n")])));
    assert_eq!(log, "\u{1b}[36mINFO\u{1b}[0m[0000] pushing version: m-7                         \n");
    let (version, log) = put(json!({"version": "2", "file": "v", "print_env": true}));
    assert_eq!(version, Ok(Version::from([("version", "2")])));
    assert!(log.contains("env: BUILD_ID=4"), "{log}");
    assert!(put(json!({})).0.unwrap_err().contains("no version specified"));
    assert!(put(json!({"file": "../v"})).0.unwrap_err().contains("error reading version from file ../v"));
}

#[test]
fn a_privileged_container_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, build) = (Vec::new(), BTreeMap::new());
    let mut env = Env { privileged: true, ..env(&mut log, &build) };
    assert_eq!(
        Mock.check(&request(json!({}), Value::Null, Some("1")), &mut env).unwrap(),
        [Version::from([("version", "1"), ("privileged", "true")])]
    );
    Mock.get(&request(json!({}), Value::Null, Some("1")), dir.path(), &mut env).unwrap();
    assert!(String::from_utf8(log).unwrap().contains("fetching in a privileged container"));
}
