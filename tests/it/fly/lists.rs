//! Commands that only read: columns, headers, colours, JSON.

use serde_json::{Value, json};

use super::{World, ended};

fn build(id: i64, status: &str) -> Value {
    json!({"id": id, "team_name": "main", "name": "3", "status": status, "job_name": "unit", "pipeline_id": 1,
        "pipeline_name": "ci", "start_time": 1_700_000_000, "end_time": 1_700_000_065, "created_by": "ann"})
}

fn world() -> World {
    let world = World::new();
    let pipeline = |id: i64, name: &str, paused: bool| {
        json!({"id": id, "name": name, "paused": paused, "public": true, "archived": false, "team_name": "main",
            "last_updated": 1_700_000_000})
    };
    let mut instance = pipeline(2, "ci", true);
    instance["instance_vars"] = json!({"branch": "a/b", "n": 1});
    let mut archived = pipeline(3, "old", true);
    archived["archived"] = json!(true);
    let pipelines = json!([pipeline(1, "ci", false), instance, archived]);
    world.answer("GET /api/v1/teams/main/pipelines", 200, pipelines.clone());
    world.answer("GET /api/v1/pipelines", 200, pipelines);
    let job = json!({"id": 1, "name": "unit", "team_name": "main", "pipeline_id": 1, "pipeline_name": "ci",
        "finished_build": build(7, "failed")});
    let held = json!({"id": 2, "name": "ship", "team_name": "main", "pipeline_id": 1, "pipeline_name": "ci",
        "paused": true, "next_build": build(8, "pending")});
    world.answer("GET /api/v1/teams/main/pipelines/ci/jobs", 200, json!([job, held]));
    world.answer("GET /api/v1/builds?limit=50", 200, json!([build(9, "started"), build(7, "failed")]));
    world.answer(
        "GET /api/v1/teams/main/pipelines/ci/resources",
        200,
        json!([{"name": "code", "type": "git", "pinned_version": {"ref": "x", "at": "y"}, "build": build(5, "succeeded")},
            {"name": "idle", "type": "time"}]),
    );
    world.answer(
        "GET /api/v1/teams/main/pipelines/ci/resources/code/versions?limit=50",
        200,
        json!([{"id": 3, "version": {"b": "2", "a": "1"}, "enabled": true}, {"id": 1, "version": {"a": "0"}}]),
    );
    world.answer(
        "GET /api/v1/user",
        200,
        json!({"teams": {"main": ["owner"], "a": ["viewer", "member"]}, "display_user_id": "ann"}),
    );
    world
}

#[test]
fn lists_for_programs_have_no_header() {
    let world = world();
    for (args, stdout) in [
        (
            &["ps"][..],
            "1  ci                   no   yes  2023-11-14 22:13:20 +0000 UTC\n2  ci/branch:\"a/b\",n:1  yes  yes  2023-11-14 22:13:20 +0000 UTC\n",
        ),
        (&["jobs", "-p", "ci"], "unit  no   failed  n/a    \nship  yes  n/a     pending\n"),
        (&["paused-jobs", "-p", "ci"], "ship  yes  n/a  n/a\n"),
        (&["resources", "-p", "ci"], "code  git   at:y,ref:x  succeeded\nidle  time  n/a         n/a      \n"),
        (&["rvs", "-r", "ci/code"], "3  a:1,b:2  yes\n1  a:0      no \n"),
        (&["userinfo"], "ann  a/member,a/viewer,main/owner\n"),
        (
            &["builds"],
            "9  ci/unit/3  started  2023-11-14@22:13:20+0000  2023-11-14@22:14:25+0000  1m5s  main  ann\n\
             7  ci/unit/3  failed   2023-11-14@22:13:20+0000  2023-11-14@22:14:25+0000  1m5s  main  ann\n",
        ),
    ] {
        assert_eq!(world.fly(&[&["-t", "ci"], args].concat()), ended(0, stdout, ""), "{args:?}");
    }
}

#[test]
fn options_change_the_columns() {
    let world = world();
    let args = ["-t", "ci", "--print-table-headers", "pipelines", "-a", "--include-archived"];
    insta::assert_snapshot!(world.fly(&args).stdout, @r#"
    id  name                 team  paused  public  archived  last updated                 
    1   ci                   main  no      yes     no        2023-11-14 22:13:20 +0000 UTC
    2   ci/branch:"a/b",n:1  main  yes     yes     no        2023-11-14 22:13:20 +0000 UTC
    3   old                  main  yes     yes     yes       2023-11-14 22:13:20 +0000 UTC
    "#);
}

#[test]
fn a_terminal_gets_headers_and_colours() {
    let shown = "\x1b[1mname\x1b[22m  \x1b[1mpaused\x1b[22m  \x1b[1mstatus\x1b[22m  \x1b[1mnext\x1b[22m   \n\
                 unit  no      \x1b[31mfailed\x1b[0m  n/a    \n\
                 ship  \x1b[36myes\x1b[0m     n/a     \x1b[37mpending\x1b[0m\n";
    assert_eq!(world().fly_on_terminal(&["-t", "ci", "jobs", "-p", "ci"]), (0, shown.to_owned()));
}

#[test]
fn jobs_as_json_have_gos_fields() {
    let all = world().fly(&["-t", "ci", "jobs", "-p", "ci", "--json"]);
    let jobs: Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!((jobs[0]["next_build"].clone(), jobs[0]["finished_build"]["api_url"].clone()), (Value::Null, json!("")));
    assert!(all.stdout.starts_with("[\n  {\n    \"id\": 1,\n    \"name\": \"unit\",\n"), "{}", all.stdout);
}

#[test]
fn who_one_is_as_json_has_gos_fields_only() {
    let world = World::new();
    world.answer(
        "GET /api/v1/user",
        200,
        json!({"sub": "s", "groups": ["x"], "groups_read_at": 1, "teams": {"b": [], "a": []}}),
    );
    let shown = "{\n  \"sub\": \"s\",\n  \"name\": \"\",\n  \"user_id\": \"\",\n  \"user_name\": \"\",\n  \"email\": \"\",\n  \
                 \"is_admin\": false,\n  \"is_system\": false,\n  \"teams\": {\n    \"a\": [],\n    \"b\": []\n  },\n  \
                 \"connector\": \"\",\n  \"display_user_id\": \"\"\n}\n";
    assert_eq!(world.fly(&["-t", "ci", "userinfo", "--json"]), ended(0, shown, ""));
}

#[test]
fn what_is_not_there_or_not_allowed_is_said() {
    let world = world();
    world.answer("GET /api/v1/teams/main/pipelines/secret/jobs", 403, json!("forbidden"));
    world.answer("GET /api/v1/teams/main/pipelines/broken/jobs", 500, json!("boom"));
    for (args, stderr) in [
        (&["-t", "ci", "jobs", "-p", "nope"][..], "error: resource not found\n"),
        (&["-t", "ci", "jobs", "-p", "secret"], "error: forbidden: forbidden\n"),
        (
            &["-t", "ci", "jobs", "-p", "broken"],
            "error: Unexpected Response\nStatus: 500 Internal Server Error\nBody: boom\n",
        ),
        (&["-t", "ci", "jobs", "-p", "ci", "--team", "x"], "error: team 'x' does not exist\n"),
        (&["-t", "ci", "builds", "-p", "nope"], "pipeline not found\n"),
        (&["-t", "zz", "pipelines"], "error: unknown target: zz\n"),
        (
            &["pipelines"],
            "no target specified. specify the target with -t or log in like so:\n\n    fly -t (alias) login -c (concourse url)\n\n",
        ),
        (&["-t", "ci", "jobs"], "error: the required flag `-p, --pipeline' was not specified\n"),
    ] {
        assert_eq!(world.fly(args), ended(1, "", stderr), "{args:?}");
    }
}

#[test]
fn another_minor_version_is_refused_and_another_patch_told_of() {
    let world = world();
    world.answer("GET /api/v1/info", 200, json!({"version": "8.3.0"}));
    let refused = world.fly(&["-t", "ci", "userinfo"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused.stderr.starts_with("fly version (8.2.5) is out of sync with the target (8.3.0)."),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.ends_with("cowardly refusing to run due to significant version discrepancy\n"));
    world.answer("GET /api/v1/info", 200, json!({"version": "8.2.6"}));
    let told = world.fly(&["-t", "ci", "userinfo"]);
    assert_eq!((told.code, told.stdout.as_str()), (0, "ann  a/member,a/viewer,main/owner\n"));
    assert!(told.stderr.starts_with("WARNING:\n\nfly version (8.2.5)"), "{}", told.stderr);
}

#[test]
fn the_version_needs_no_target() {
    let world = world();
    for asked in [&["--version"][..], &["-v"], &["ps", "-v"], &["-t", "ci", "teams", "--version"], &["sp", "--version"]]
    {
        assert_eq!(world.fly(asked), ended(0, "8.2.5\n", ""), "{asked:?}");
    }
}
