//! `git` against real repositories that each test makes with git itself.
#![expect(clippy::cloned_ref_to_slice_refs, reason = "lists of commits read better all alike")]

mod network;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::*;
use crate::base::clock::Time;
use crate::resource::Mirror;

/// A bare repository as the remote, a work tree that pushes to it, and a cache for checks.
pub(super) struct World {
    dir: tempfile::TempDir,
    allow_local: bool,
    cached: bool,
}

impl World {
    pub(super) fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), allow_local: true, cached: true };
        fs::create_dir(world.path("home")).unwrap();
        world.git(".", &["init", "--quiet", "--bare", "-b", "main", "remote.git"]);
        world.git("remote.git", &["config", "uploadpack.allowFilter", "true"]);
        world.git("remote.git", &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        world.git(".", &["clone", "--quiet", "remote.git", "work"]);
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn uri(&self) -> String {
        format!("file://{}", self.path("remote.git").display())
    }

    fn try_git(&self, dir: &str, args: &[&str]) -> (bool, String) {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.path(dir))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.com")])
            .envs([("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.com")])
            .envs([("GIT_AUTHOR_DATE", "1700000000 +0100"), ("GIT_COMMITTER_DATE", "1700000000 +0100")])
            .envs([
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "protocol.file.allow"),
                ("GIT_CONFIG_VALUE_0", "always"),
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        (output.status.success(), if text.is_empty() { String::from_utf8_lossy(&output.stderr).into() } else { text })
    }

    pub(super) fn git(&self, dir: &str, args: &[&str]) -> String {
        let (ok, text) = self.try_git(dir, args);
        assert!(ok, "git {args:?}: {text}");
        text
    }

    fn commit_in(&self, dir: &str, file: &str, message: &str) -> String {
        let path = self.path(dir).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let old = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, format!("{old}{message}\n")).unwrap();
        self.git(dir, &["add", "."]);
        self.git(dir, &["commit", "--quiet", "-m", message]);
        self.git(dir, &["rev-parse", "HEAD"])
    }

    pub(super) fn commit(&self, file: &str, message: &str) -> String {
        let id = self.commit_in("work", file, message);
        self.git("work", &["push", "--quiet", "--force", "origin", "HEAD"]);
        id
    }

    fn tag(&self, name: &str) {
        self.git("work", &["tag", "-f", "-a", "-m", name, name]);
        self.git("work", &["push", "--quiet", "--force", "--tags"]);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Env<'_>) -> T) -> (T, String) {
        let (mut log, build, cache) = (Vec::new(), BTreeMap::new(), self.path("cache"));
        let answer = f(&mut Env {
            log: &mut log,
            cache: self.cached.then_some(cache.as_path()),
            allow_local: self.allow_local,
            cancelled: &|| false,
            build: &build,
            now: Time(0),
            privileged: false,
            mirror: Mirror::Nothing,
            registries: Default::default(),
        });
        (answer, String::from_utf8_lossy(&log).into_owned())
    }

    fn source(&self, more: &Value) -> Map<String, Value> {
        let mut source = json!({"uri": self.uri(), "branch": "main"}).as_object().cloned().unwrap();
        source.extend(more.as_object().cloned().unwrap());
        source
    }

    fn check_full(&self, more: Value, from: Option<&str>) -> Result<Vec<Version>, String> {
        let version = from.map(|r| Version::from([("ref", r)]));
        let request = Request { source: self.source(&more), params: None, version };
        let (answer, log) = self.with(|env| Git.check(&request, env));
        answer.map_err(|f| format!("{f}\n{log}"))
    }

    fn check(&self, more: Value, from: Option<&str>) -> Vec<String> {
        self.check_full(more, from).unwrap().into_iter().map(|v| v.0["ref"].clone()).collect()
    }

    pub(super) fn get(
        &self,
        more: Value,
        params: Value,
        version: Version,
    ) -> Result<(PathBuf, Response, String), String> {
        let number = fs::read_dir(self.dir.path()).unwrap().count();
        let dir = self.path(&format!("get-{number}"));
        fs::create_dir(&dir).unwrap();
        let params = params.as_object().cloned();
        let request = Request { source: self.source(&more), params, version: Some(version) };
        let (answer, log) = self.with(|env| Git.get(&request, &dir, env));
        answer.map(|response| (dir, response, log.clone())).map_err(|f| format!("{f}\n{log}"))
    }

    /// Gets the newest commit as the artifact `repo` of a put.
    fn artifact(&self, name: &str) {
        self.git(".", &["clone", "--quiet", "remote.git", &format!("put/{name}")]);
        self.git(&format!("put/{name}"), &["checkout", "--quiet", "--detach"]);
    }

    fn put(&self, more: Value, params: Value) -> Result<(Response, String), String> {
        let request = Request { source: self.source(&more), params: params.as_object().cloned(), version: None };
        let (answer, log) = self.with(|env| Git.put(&request, &self.path("put"), env));
        answer.map(|response| (response, log.clone())).map_err(|f| format!("{f}\n{log}"))
    }

    fn remote(&self, name: &str) -> String {
        self.git("remote.git", &["rev-parse", name])
    }
}

fn version(reference: &str) -> Version {
    Version::from([("ref", reference)])
}

#[test]
fn check_lists_from_the_given_commit_on_and_only_the_newest_without() {
    for cached in [true, false] {
        let world = World { cached, ..World::new() };
        let (a, b) = (world.commit("f", "one"), world.commit("f", "two"));
        assert_eq!(world.check(json!({}), None), [b.clone()]);
        assert_eq!(world.check(json!({}), Some(&b)), [b.clone()]);
        let c = world.commit("f", "three");
        assert_eq!(world.check(json!({}), Some(&a)), [a.clone(), b.clone(), c.clone()], "from the very first");
        assert_eq!(world.check(json!({}), Some(&b)), [b.clone(), c.clone()]);
        assert_eq!(world.check(json!({"version_depth": 2}), None), [b.clone(), c.clone()]);
        assert_eq!(world.check(json!({"disable_ci_skip": true}), None), [c.clone()]);
        assert_eq!(world.check(json!({"branch": null}), Some(&b)), [b, c]);
    }
}

#[test]
fn check_of_a_version_that_a_force_push_removed_gives_the_newest() {
    let world = World::new();
    let (a, b) = (world.commit("f", "one"), world.commit("f", "two"));
    assert_eq!(world.check(json!({}), Some(&a)), [a.clone(), b.clone()]);
    world.git("work", &["reset", "--quiet", "--hard", &a]);
    let c = world.commit("f", "other");
    assert_eq!(world.check(json!({}), Some(&b)), [c.clone()]);
    assert_eq!(world.check(json!({}), Some("0123456789012345678901234567890123456789")), [c.clone()]);
    assert_eq!(world.check(json!({}), Some(&a)), [a, c]);
}

#[test]
fn check_follows_the_branch_and_not_what_was_merged() {
    let world = World::new();
    let a = world.commit("f", "one");
    world.git("work", &["checkout", "--quiet", "-b", "side"]);
    let side = world.commit("g", "side");
    world.git("work", &["checkout", "--quiet", "main"]);
    let b = world.commit("f", "two");
    world.git("work", &["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    world.git("work", &["push", "--quiet"]);
    let merge = world.git("work", &["rev-parse", "HEAD"]);
    assert_eq!(world.check(json!({}), Some(&a)), [a, b, merge]);
    assert_eq!(world.check(json!({"branch": "side"}), None), [side]);
}

#[test]
fn check_knows_a_branch_by_its_whole_name() {
    let world = World::new();
    let a = world.commit("f", "one");
    world.git("work", &["checkout", "--quiet", "-b", "a/main"]);
    world.commit("f", "two");
    for skip in [true, false] {
        assert_eq!(world.check(json!({"disable_ci_skip": skip}), None), [a.clone()]);
    }
    let err = world.check_full(json!({"branch": "ain"}), None).unwrap_err();
    assert!(err.contains("Invalid branch?"), "{err}");
}

#[test]
fn check_skips_what_asks_for_it() {
    let world = World::new();
    let a = world.commit("f", "one");
    let b = world.commit("f", "two [ci skip]");
    let c = world.commit("f", "three\n\n[skip ci]");
    assert_eq!(world.check(json!({}), None), [a.clone()]);
    assert_eq!(world.check(json!({}), Some(&a)), [a.clone()]);
    assert_eq!(world.check(json!({"disable_ci_skip": true}), Some(&a)), [a, b, c]);
}

#[test]
fn check_of_paths_and_messages() {
    let world = World::new();
    let a = world.commit("a/1", "feat: one");
    let b = world.commit("b/1", "fix: two");
    let c = world.commit("a/docs/x", "feat: three");
    let d = world.commit("b/2", "chore: four feat:");
    let cases = [
        (json!({"paths": ["a"]}), Some(&a), vec![&a, &c]),
        (json!({"paths": ["a"]}), None, vec![&c]),
        (json!({"paths": ["a"], "ignore_paths": ["a/docs"]}), None, vec![&a]),
        (json!({"ignore_paths": ["b"]}), Some(&a), vec![&a, &c]),
        (json!({"paths": ["*.txt"]}), None, vec![]),
        (json!({"paths": ["b"]}), Some(&a), vec![&b, &d]),
        (json!({"commit_filter": {"include": ["^feat:", "^fix:"]}}), Some(&a), vec![&a, &b, &c]),
        (json!({"commit_filter": {"include": ["feat:", "chore:"], "include_all_match": true}}), Some(&a), vec![&d]),
        (json!({"commit_filter": {"exclude": ["^feat:"]}}), Some(&a), vec![&b, &d]),
        (json!({"commit_filter": {"include": ["feat:"], "exclude": ["three"]}}), None, vec![&d]),
        (json!({"commit_filter": {"include": ["nothing"]}, "paths": ["a"]}), None, vec![]),
    ];
    let world = World { cached: false, ..world };
    for (source, from, expected) in cases {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(world.check(source.clone(), from.map(String::as_str)), expected, "{source} {from:?}");
    }
}

#[test]
fn check_of_tags() {
    let world = World { cached: false, ..World::new() };
    let _ = world.commit("f", "one");
    world.tag("1.0-staging");
    let b = world.commit("f", "two");
    world.tag("1.0-production");
    world.tag("2.0-staging");
    let c = world.commit("g", "three");
    world.tag("3.0-staging");
    let d = world.commit("f", "four");
    let tagged = |pairs: &[(&str, &String)]| -> Vec<Version> {
        pairs.iter().map(|(tag, id)| Version::from([("ref", *tag), ("commit", id.as_str())])).collect()
    };
    let check = |source: Value, from| world.check_full(source, from).unwrap();
    // The order of tags of the same second is that of their names.
    assert_eq!(check(json!({"tag_filter": "*-staging"}), None), tagged(&[("3.0-staging", &c)]));
    assert_eq!(check(json!({"tag_regex": ".*-production", "branch": null}), None), tagged(&[("1.0-production", &b)]));
    assert_eq!(
        check(json!({"tag_filter": "*-staging", "version_depth": 5, "branch": null}), Some("2.0-staging")),
        tagged(&[("2.0-staging", &b), ("3.0-staging", &c)])
    );
    assert_eq!(
        check(json!({"tag_filter": "*-staging", "version_depth": 5}), Some("2.0-staging")),
        tagged(&[("2.0-staging", &b), ("3.0-staging", &c)])
    );
    assert_eq!(check(json!({"tag_filter": "9*"}), None), []);
    assert_eq!(check(json!({"tag_filter": "*", "paths": ["g"]}), None), tagged(&[("3.0-staging", &c)]));
    assert_eq!(
        check(json!({"tag_filter": "3*", "tag_behaviour": "match_tag_ancestors"}), None),
        [version(&c)],
        "{d} has no tag after it"
    );
    assert_eq!(
        check(json!({"tag_filter": "3*", "tag_behaviour": "match_tag_ancestors", "version_depth": 9}), Some(&b)),
        [version(&b), version(&c)]
    );
}

#[test]
fn check_makes_a_broken_cache_anew_and_fetches_nothing_lazily() {
    let world = World::new();
    let (a, b) = (world.commit("f", "one"), world.commit("f", "two"));
    assert_eq!(world.check(json!({}), Some(&a)), [a.clone(), b.clone()]);
    fs::remove_dir_all(world.path("cache/repository.git/objects")).unwrap();
    let c = world.commit("f", "three");
    assert_eq!(world.check(json!({}), Some(&a)), [a, b, c]);
}

#[test]
fn only_check_minds_unknown_members_of_the_source() {
    let world = World::new();
    let a = world.commit("f", "one");
    let err = world.check_full(json!({"brnach": "x", "y": 1}), None).unwrap_err();
    assert!(err.starts_with("Found unknown keys in source:\n\"brnach\"\n\"y\""), "{err}");
    assert!(world.get(json!({"brnach": "x"}), Value::Null, version(&a)).is_ok());
}

#[test]
fn addresses_of_the_machine_need_leave() {
    let world = World { allow_local: false, ..World::new() };
    let err = world.check_full(json!({}), None).unwrap_err();
    assert!(err.contains("--allow-local-git"), "{err}");
    // Nor may a setting lead there.
    let source = json!({"uri": "https://h.invalid/r",
        "git_config": [{"name": format!("url.{}.insteadOf", world.uri()), "value": "https://h.invalid/r"}]});
    let err = world.check_full(source, None).unwrap_err();
    assert!(err.contains("transport 'file' not allowed"), "{err}");
}

#[test]
fn no_error_shows_a_password() {
    let world = World::new();
    for uri in ["https://me:hunter2@127.0.0.1:1/r", "http://127.0.0.1:1/hunter2"] {
        let err = world.check_full(json!({"uri": uri, "username": "u", "password": "hunter2"}), None).unwrap_err();
        assert!(!err.contains("hunter2") && err.contains("127.0.0.1"), "{err}");
    }
}

#[test]
fn a_cancelled_script_ends_its_git() {
    let world = World::new();
    let build = BTreeMap::new();
    // An ssh that never answers: a listener that nobody accepts from.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("git://127.0.0.1:{}/r", listener.local_addr().unwrap().port());
    let started = std::time::Instant::now();
    let mut log = Vec::new();
    let mut env = Env {
        log: &mut log,
        cache: None,
        allow_local: false,
        cancelled: &|| started.elapsed().as_millis() > 100,
        build: &build,
        now: Time(0),
        privileged: false,
        mirror: Mirror::Nothing,
        registries: Default::default(),
    };
    let request = Request { source: world.source(&json!({"uri": uri})), ..Request::default() };
    assert_eq!(Git.check(&request, &mut env).unwrap_err().to_string(), "interrupted");
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn get_checks_out_the_version_and_tells_of_it() {
    let world = World::new();
    let a = world.commit("f", "one\n\nbody");
    world.tag("v1");
    world.commit("f", "two");
    let (dir, response, log) = world.get(json!({}), Value::Null, version(&a)).unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("f"), "one\n\nbody\n");
    assert_eq!(response.version, version(&a));
    let fields: Vec<(&str, &str)> = response.metadata.iter().map(|f| (f.name.as_str(), f.value.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("commit", a.as_str()),
            ("author", "Ann"),
            ("author_date", "2023-11-14 23:13:20 +0100"),
            ("committer", "Ann"),
            ("committer_date", "2023-11-14 23:13:20 +0100"),
            ("tags", "v1"),
            ("message", "one\n\nbody\n"),
        ]
    );
    for (name, text) in [
        ("ref", format!("{a}\n")),
        ("short_ref", a[..7].to_owned()),
        ("committer", "ann@example.com".into()),
        ("committer_name", "Ann".into()),
        ("commit_message", "one\n\nbody\n".into()),
        ("commit_timestamp", "2023-11-14 23:13:20 +0100\n".into()),
        ("describe_ref", "v1\n".into()),
        ("tags", "v1\n".into()),
        ("branch", String::new()),
        ("url", String::new()),
        ("commit", format!("{a}\n")),
    ] {
        assert_eq!(read(&format!(".git/{name}")), text, "{name}");
    }
    let json: Value = serde_json::from_str(&read(".git/metadata.json")).unwrap();
    assert_eq!(json[2], json!({"name": "author_date", "value": "2023-11-14 23:13:20 +0100", "type": "time"}));
    assert!(log.contains("Cloning into '.'...") && log.contains(&format!("{} one\n", &a[..7])), "{log}");
    assert!(!log.contains(dir.to_str().unwrap()), "{log}");
}

#[test]
fn get_with_parameters() {
    let world = World::new();
    let a = world.commit("a/f", "one");
    world.tag("v1");
    for n in 0..8 {
        world.commit("b/f", &format!("more {n}"));
    }
    world.git("work", &["push", "--quiet", "origin", "HEAD:refs/heads/other"]);
    let params = json!({"depth": 1, "short_ref_format": "dev-%s", "timestamp_format": "format:%Y", "fetch": ["other"],
        "describe_ref_options": "--always --abbrev=4", "fetch_tags": false});
    let (dir, _, log) = world.get(json!({}), params, version(&a)).unwrap();
    assert_eq!(fs::read_to_string(dir.join(".git/short_ref")).unwrap(), format!("dev-{}", &a[..7]));
    assert_eq!(fs::read_to_string(dir.join(".git/commit_timestamp")).unwrap(), "2023\n");
    assert!(log.contains("Deepening the shallow clone"), "{log}");
    let name = dir.file_name().unwrap().to_str().unwrap();
    assert_eq!(world.git(name, &["rev-parse", "HEAD"]), a);
    assert_eq!(world.git(name, &["rev-parse", "other"]), world.remote("other"));
    assert_eq!(world.git(name, &["tag"]), "");

    let tagged = Version::from([("ref", "v1"), ("commit", a.as_str())]);
    let source = json!({"tag_filter": "v*", "sparse_paths": ["a"]});
    let (dir, response, _) = world.get(source, json!({"clean_tags": true}), tagged).unwrap();
    assert_eq!(response.version, version("v1"));
    assert_eq!(world.git(dir.file_name().unwrap().to_str().unwrap(), &["tag"]), "");
    assert!(dir.join("a/f").exists());

    let err = world.get(json!({}), json!({"dept": 1}), version(&a)).unwrap_err();
    assert!(err.starts_with("Found unknown keys in get params:\n\"dept\""), "{err}");
    let err = world.get(json!({}), json!({}), version("--output=x")).unwrap_err();
    assert!(err.starts_with("version.ref must be one word"), "{err}");
    let err = world.get(json!({}), json!({}), version(&"0".repeat(40))).unwrap_err();
    assert!(err.contains("git checkout failed"), "{err}");
}

#[test]
fn get_finds_a_commit_of_another_ref() {
    let world = World::new();
    world.commit("f", "one");
    let hidden = world.commit_in("work", "f", "hidden");
    world.git("work", &["push", "--quiet", "origin", "HEAD:refs/changes/1"]);
    assert!(world.get(json!({}), Value::Null, version(&hidden)).is_err());
    let (_, response, log) = world.get(json!({"search_remote_refs": true}), Value::Null, version(&hidden)).unwrap();
    assert_eq!(response.version, version(&hidden));
    assert!(log.contains("Attempting to fetch refs/changes/1 first."), "{log}");
    let branch = Version::from([("ref", hidden.as_str()), ("branch", "other")]);
    world.git("work", &["push", "--quiet", "origin", "HEAD:refs/heads/other"]);
    assert!(world.get(json!({}), Value::Null, branch).unwrap().2.contains("Override main with other"));
}

#[test]
fn get_with_submodules() {
    let world = World::new();
    world.git(".", &["init", "--quiet", "--bare", "-b", "main", "sub.git"]);
    world.git(".", &["clone", "--quiet", "sub.git", "sub"]);
    world.commit_in("sub", "s", "sub one");
    world.git("sub", &["push", "--quiet", "origin", "HEAD"]);
    let uri = format!("file://{}", world.path("sub.git").display());
    for name in ["one", "two"] {
        world.git("work", &["submodule", "--quiet", "add", &uri, &format!("deps/{name}")]);
    }
    let a = world.commit("f", "with submodules");
    world.commit_in("sub", "s", "sub two");
    world.git("sub", &["push", "--quiet", "origin", "HEAD"]);
    for (params, one, two) in [
        (json!({}), true, true),
        (json!({"submodules": "none"}), false, false),
        (json!({"submodules": ["deps/two"]}), false, true),
        (json!({"depth": 1, "submodule_recursive": false}), true, true),
    ] {
        let (dir, ..) = world.get(json!({}), params.clone(), version(&a)).unwrap();
        assert_eq!((dir.join("deps/one/s").exists(), dir.join("deps/two/s").exists()), (one, two), "{params}");
    }
    let (dir, ..) = world.get(json!({}), json!({"submodule_remote": true}), version(&a)).unwrap();
    assert_eq!(fs::read_to_string(dir.join("deps/one/s")).unwrap(), "sub one\nsub two\n");
}

#[test]
fn put_pushes_commits_and_tags() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    let b = world.commit_in("put/repo", "f", "two");
    fs::write(world.path("put/version"), "1.2.3\n").unwrap();
    fs::write(world.path("put/notes"), "a note").unwrap();
    let params =
        json!({"repository": "repo", "tag": "version", "tag_prefix": "v", "annotate": "notes", "notes": "notes"});
    let (response, _) = world.put(json!({}), params).unwrap();
    assert_eq!(response.version, version(&b));
    assert_eq!(response.metadata[0].value, b);
    assert_eq!((world.remote("main"), world.remote("v1.2.3^{commit}")), (b.clone(), b.clone()));
    assert_eq!(world.git("remote.git", &["notes", "show", &b]), "a note");
    assert_eq!(world.git("remote.git", &["cat-file", "-p", "v1.2.3"]).lines().last(), Some("a note"));

    world.artifact("again");
    let c = world.commit_in("put/again", "f", "three");
    fs::write(world.path("put/version"), "only").unwrap();
    let (response, _) =
        world.put(json!({}), json!({"repository": "again", "tag": "version", "only_tag": true})).unwrap();
    assert_eq!((response.version, world.remote("only"), world.remote("main")), (version(&c), c.clone(), b));
    let (response, log) = world.put(json!({}), json!({"repository": "again", "branch": "side"})).unwrap();
    assert_eq!(response.version, Version::from([("ref", c.as_str()), ("branch", "side")]));
    assert!(log.contains("Override main with side"), "{log}");
    assert_eq!(world.remote("side"), c);
    world.put(json!({}), json!({"repository": "again", "refs_prefix": "refs/for"})).unwrap();
    assert_eq!(world.remote("refs/for/main"), c);
}

#[test]
fn put_does_not_overwrite_unless_forced() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    let mine = world.commit_in("put/repo", "f", "mine");
    let theirs = world.commit("f", "theirs");
    let err = world.put(json!({}), json!({"repository": "repo"})).unwrap_err();
    assert!(err.contains("git push failed") && err.contains("[rejected]"), "{err}");
    assert_eq!(world.remote("main"), theirs);
    world.put(json!({}), json!({"repository": "repo", "force": true})).unwrap();
    assert_eq!(world.remote("main"), mine);
}

#[test]
fn put_rebases_and_merges() {
    let world = World::new();
    world.commit("f", "one");
    for (name, params) in [("r", json!({"rebase": true})), ("m", json!({"merge": true})), ("u", json!({"merge": true}))]
    {
        world.artifact(name);
        let mine = world.commit_in(&format!("put/{name}"), &format!("mine-{name}"), "mine");
        world.git("work", &["pull", "--quiet", "--rebase", "origin", "main"]);
        let theirs = world.commit(&format!("theirs-{name}"), "theirs");
        fs::write(world.path("put/version"), name).unwrap();
        let mut params = params.as_object().cloned().unwrap();
        params.extend(json!({"repository": name, "tag": "version"}).as_object().cloned().unwrap());
        if name == "u" {
            params.insert("returning".into(), "unmerged".into());
        }
        let (response, log) = world.put(json!({}), Value::Object(params)).unwrap();
        let head = world.remote("main");
        assert_eq!(response.version, version(if name == "u" { &mine } else { &head }));
        assert_eq!(world.remote("main^1"), if name == "r" { theirs } else { mine.clone() });
        assert_eq!(world.remote(name), head);
        assert!(log.contains("pushed\n"), "{log}");
    }
}

#[test]
fn put_tries_again_when_somebody_was_faster() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    world.commit_in("put/repo", "mine", "mine");
    // The first push that arrives finds that another commit has just come in.
    let other = world.commit_in("work", "other", "other");
    world.git("work", &["push", "--quiet", "origin", "HEAD:refs/heads/waiting"]);
    let hook = world.path("remote.git/hooks/pre-receive");
    fs::write(&hook, format!("#!/bin/sh\n[ -e raced ] && exit 0\ntouch raced\nunset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/main {other}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hook, mode).unwrap();
    fs::write(world.path("put/version"), "v9").unwrap();
    let (response, log) =
        world.put(json!({}), json!({"repository": "repo", "rebase": true, "tag": "version"})).unwrap();
    assert!(log.contains("rebasing and trying again..."), "{log}");
    assert_eq!((world.remote("main^1"), version(&world.remote("main"))), (other, response.version));
    assert_eq!(world.remote("v9"), world.remote("main"));
}

#[test]
fn put_into_an_empty_repository() {
    for params in [json!({}), json!({"rebase": true}), json!({"merge": true})] {
        let world = World::new();
        fs::create_dir(world.path("put")).unwrap();
        world.git("put", &["init", "--quiet", "repo"]);
        let a = world.commit_in("put/repo", "f", "first");
        let mut all = json!({"repository": "repo"}).as_object().cloned().unwrap();
        all.extend(params.as_object().cloned().unwrap());
        let (response, _) = world.put(json!({}), Value::Object(all)).unwrap();
        assert_eq!((response.version, world.remote("main")), (version(&a), a), "{params}");
    }
}

#[test]
fn put_of_a_shallow_clone() {
    let world = World::new();
    for n in 0..4 {
        world.commit("f", &format!("{n}"));
    }
    fs::create_dir(world.path("put")).unwrap();
    world.git("put", &["clone", "--quiet", "--depth", "1", &world.uri(), "repo"]);
    let mine = world.commit_in("put/repo", "f", "mine");
    world.put(json!({}), json!({"repository": "repo"})).unwrap();
    assert_eq!(world.remote("main"), mine);
    world.git("work", &["pull", "--quiet", "--rebase", "origin", "main"]);
    world.git("put", &["clone", "--quiet", "--depth", "1", &world.uri(), "next"]);
    world.commit_in("put/next", "g", "mine too");
    let theirs = world.commit("h", "theirs");
    world.put(json!({}), json!({"repository": "next", "rebase": true})).unwrap();
    assert_eq!(world.remote("main^"), theirs);
}

#[test]
fn put_fails_where_a_rebase_conflicts() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    world.commit_in("put/repo", "f", "mine");
    let theirs = world.commit("f", "theirs");
    let err = world.put(json!({}), json!({"repository": "repo", "rebase": true})).unwrap_err();
    assert!(err.contains("git pull failed") && err.contains("CONFLICT"), "{err}");
    assert_eq!(world.remote("main"), theirs);
    let params = json!({"repository": "repo", "rebase": true, "rebase_strategy_option": "theirs"});
    world.put(json!({}), params).unwrap();
    assert_eq!(world.remote("main^"), theirs);
}

#[test]
fn put_runs_nothing_that_the_artifact_names() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    world.commit_in("put/repo", "f", "two");
    let trap = world.path("trap.sh");
    fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", world.path("sprung").display())).unwrap();
    fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let trap = trap.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "filter.x.smudge",
        "filter.x.clean",
        "diff.external",
        "gpg.program",
        "core.pager",
        "core.editor",
        "remote.origin.uploadpack",
        "remote.push-target.receivepack",
    ] {
        world.git("put/repo", &["config", key, trap]);
    }
    fs::write(world.path("put/repo/.gitattributes"), "* filter=x\n").unwrap();
    world.git("put/repo", &["-c", "filter.x.clean=cat", "-c", "core.fsmonitor=false", "add", "."]);
    world.git("put/repo", &["-c", "core.fsmonitor=false", "commit", "--quiet", "-m", "attributes"]);
    for hook in ["pre-push", "post-checkout", "reference-transaction", "pre-rebase", "post-rewrite", "pre-commit"] {
        fs::copy(trap, world.path("put/repo/.git/hooks").join(hook)).unwrap();
    }
    let _ = fs::remove_file(world.path("sprung"));
    world.put(json!({}), json!({"repository": "repo", "rebase": true})).unwrap();
    assert!(!world.path("sprung").exists());
}

#[test]
fn put_reads_nothing_outside_of_its_artifacts() {
    let world = World::new();
    world.commit("f", "one");
    world.artifact("repo");
    fs::write(world.path("secret"), "x").unwrap();
    std::os::unix::fs::symlink(world.path("secret"), world.path("put/link")).unwrap();
    std::os::unix::fs::symlink(world.path("work"), world.path("put/elsewhere")).unwrap();
    fs::create_dir(world.path("put/pointer")).unwrap();
    fs::write(world.path("put/pointer/.git"), format!("gitdir: {}\n", world.path("work/.git").display())).unwrap();
    for (params, text) in [
        (json!({"repository": "../work"}), "there is no git repository"),
        (json!({"repository": "elsewhere"}), "there is no git repository"),
        (json!({"repository": "pointer"}), "there is no git repository"),
        (json!({"repository": "nowhere"}), "there is no git repository"),
        (json!({"repository": "repo", "tag": "link"}), "tag file 'link' does not exist"),
        (json!({"repository": "repo", "tag": "../secret"}), "tag file '../secret' does not exist"),
        (json!({"repository": "repo", "annotate": "none"}), "annotation file 'none' does not exist"),
    ] {
        let err = world.put(json!({}), params.clone()).unwrap_err();
        assert!(err.contains(text), "{params}: {err}");
    }
    let alternates = world.path("put/repo/.git/objects/info/alternates");
    fs::write(alternates, format!("{}\n", world.path("work/.git/objects").display())).unwrap();
    let err = world.put(json!({}), json!({"repository": "repo"})).unwrap_err();
    assert!(err.contains("keeps its objects outside"), "{err}");
}
