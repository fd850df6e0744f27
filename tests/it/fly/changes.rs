//! Commands that change something: what they ask of the server, and what they say.

use serde_json::json;

use super::{World, ended};

#[test]
fn a_pipeline_is_paused_or_missed() {
    let world = World::new();
    world.answer("PUT /api/v1/teams/main/pipelines/ci/pause", 200, json!(""));
    world.answer("PUT /api/v1/teams/main/pipelines/ci/pause?vars.branch=%22a%2Fb%22&vars.n=1", 200, json!(""));
    assert_eq!(world.fly(&["-t", "ci", "pp", "-p", "ci"]), ended(0, "paused 'ci'\n", ""));
    let instance = world.fly(&["-t", "ci", "pp", "-p", "ci/n:1,branch:\"a/b\""]);
    assert_eq!(instance, ended(0, "paused 'ci/branch:\"a/b\",n:1'\n", ""));
    assert_eq!(world.fly(&["-t", "ci", "pp", "-p", "x"]), ended(1, "", "pipeline 'x' not found\n\n"));
}

#[test]
fn destroying_asks_first() {
    let world = World::new();
    world.answer("GET /api/v1/teams/main/pipelines/ci", 200, json!({"id": 1, "name": "ci"}));
    world.answer("DELETE /api/v1/teams/main/pipelines/ci", 204, json!(""));
    let warning = "!!! this will remove all data for pipeline `ci`\n\nare you sure? [yN]: ";
    let kept = world.fly_given(&["-t", "ci", "dp", "-p", "ci"], "n\n");
    assert_eq!(kept, ended(0, &format!("{warning}bailing out\n"), ""));
    assert!(!world.asked().iter().any(|a| a.starts_with("DELETE")));
    let gone = world.fly_given(&["-t", "ci", "dp", "-p", "ci"], "y\n");
    assert_eq!(gone, ended(0, &format!("{warning}`ci` deleted\n"), ""));
    assert_eq!(world.fly(&["-t", "ci", "dp", "-n", "-p", "x"]), ended(0, "`x` does not exist\n", ""));
    for command in ["dp", "pp", "up", "ep", "hp", "ap", "gp", "cl", "builds"] {
        let nameless = ended(1, "", "error: pipeline: identifier cannot be an empty string\n");
        assert_eq!(world.fly(&["-t", "ci", command, "-p", ""]), nameless, "{command}");
    }
}

#[test]
fn the_last_admin_team_is_refused_without_a_reason() {
    let world = World::new();
    world.answer("DELETE /api/v1/teams/main", 403, json!(""));
    world.answer("DELETE /api/v1/teams/other", 403, json!("forbidden"));
    let destroy = |team: &str| world.fly(&["-t", "ci", "destroy-team", "--non-interactive", "-n", team]);
    let said = "!!! this will remove all data for team `main`\n\n\ncould not destroy `main`\n\n\
                either your team is not an admin or it is the last admin team\n";
    assert_eq!(destroy("main"), ended(1, said, ""));
    let begun = "!!! this will remove all data for team `other`\n\n";
    assert_eq!(destroy("other"), ended(1, begun, "error: forbidden: forbidden\n"));
}

#[test]
fn what_the_server_says_is_not_there_is_told() {
    let world = World::new();
    let clear = |job: &str| world.fly(&["-t", "ci", "clear-task-cache", "-n", "-j", job, "-s", "t"]);
    let begun = |job: &str| format!("!!! this will remove the task cache(s) for `{job}`, task step `t`\n\n");
    let absent = json!({"errors": [{"title": "Job Not Found Error", "detail": "Job with name 'x' not found."}]});
    world.answer("DELETE /api/v1/teams/main/pipelines/ci/jobs/x/tasks/t/cache", 404, absent);
    let said = "Job with name 'x' not found.\n";
    assert_eq!(clear("ci/x"), ended(1, &(begun("ci/x") + said), &format!("error: {said}")));
    let said = "resource not found\n";
    assert_eq!(clear("zz/x"), ended(1, &(begun("zz/x") + said), &format!("error: {said}")));
}

#[test]
fn pinning_finds_the_version_and_notes_why() {
    let world = World::new();
    let resource = "/api/v1/teams/main/pipelines/ci/resources/code";
    let versions = json!([{"id": 7, "version": {"ref": "x", "at": "y"}, "enabled": true}]);
    world.answer(&format!("GET {resource}/versions?filter=ref%3Ax"), 200, versions);
    world.answer(&format!("GET {resource}/versions?filter=ref%3Az"), 200, json!([]));
    world.answer(&format!("PUT {resource}/versions/7/pin"), 200, json!(""));
    world.answer(&format!("PUT {resource}/pin_comment"), 200, json!(""));
    let pinned = world.fly(&["-t", "ci", "pin-resource", "-r", "ci/code", "-v", "ref:x", "-c", "why"]);
    let said = "pinned 'ci/code' with version {\"at\":\"y\",\"ref\":\"x\"}\npin comment 'why' is saved\n";
    assert_eq!(pinned, ended(0, said, ""));
    assert!(world.asked().contains(&format!("PUT {resource}/pin_comment {{\"pin_comment\":\"why\"}}")));
    let missing = world.fly(&["-t", "ci", "pin-resource", "-r", "ci/code", "-v", "ref:z"]);
    assert_eq!(missing, ended(1, "", "error: could not find version matching {\"ref\":\"z\"}\n"));
    let unsaid = world.fly(&["-t", "ci", "pin-resource", "-r", "ci/code", "-v", "ref:x", "-c", ""]);
    assert_eq!(unsaid, ended(0, "pinned 'ci/code' with version {\"at\":\"y\",\"ref\":\"x\"}\n", ""));
    for nothing in [&["-t", "ci", "pin-resource", "-r", "ci/code"][..], &["-t", "ci", "pr", "-r", "ci/code", "-c", ""]]
    {
        assert_eq!(world.fly(nothing), ended(1, "", "error: the required flag `-v, --version' was not specified\n"));
    }
}

#[test]
fn a_team_is_shown_and_set() {
    let world = World::new();
    world.answer("PUT /api/v1/teams/new", 201, json!({"team": {"id": 2, "name": "new"}}));
    let set = world.fly(&[
        "-t",
        "ci",
        "set-team",
        "-n",
        "new",
        "--local-user",
        "Ann",
        "--github-org",
        "Org",
        "--non-interactive",
    ]);
    let said = "setting team: new\n\nrole owner:\n  users:\n  - local:ann\n\n  groups:\n  - github:org\nteam created\n";
    assert_eq!(set, ended(0, said, ""));
    let body = r#"{"auth":{"owner":{"groups":["github:org"],"users":["local:ann"]}}}"#;
    assert_eq!(world.asked(), [format!("PUT /api/v1/teams/new {body}")]);
    let unnamed = world.fly(&["-t", "ci", "set-team", "-n", "", "--local-user", "Ann"]);
    assert_eq!(unnamed, ended(1, "", "error: team: identifier cannot be an empty string\n"));
    let mut odd = world.fly_typed_at(&["-t", "ci", "set-team", "-n", "New", "--local-user", "Ann"]);
    odd.expect("team: 'New' is not a valid identifier: must start with a lowercase letter or a number");
    odd.expect("apply team configuration? [yN]: ");
    odd.type_in("n\n");
    assert_eq!(odd.end().0, 1);
    let empty = world.fly(&["-t", "ci", "set-team", "-n", "new", "--non-interactive"]);
    assert_eq!(empty, ended(1, "", "error: auth config for the team does not have users and groups configured\n"));
}

#[test]
fn ordering_tells_the_servers_reason() {
    let world = World::new();
    world.answer("PUT /api/v1/teams/main/pipelines/ordering", 400, json!("pipeline 'b' not found"));
    let refused = world.fly(&["-t", "ci", "op", "-p", "b"]);
    assert_eq!(refused, ended(1, "", "failed to order pipelines: pipeline 'b' not found\n"));
}

#[test]
fn refusals_are_told_as_fly_tells_them() {
    let world = World::new();
    let main_only = "error: must be an owner of the 'main' team to interact with components\n";
    world.answer("PUT /api/v1/components/collector/pause", 403, json!("forbidden"));
    world.answer("GET /api/v1/components", 403, json!("forbidden"));
    assert_eq!(world.fly(&["-t", "ci", "pc", "-n", "collector"]), ended(1, "", main_only));
    assert_eq!(world.fly(&["-t", "ci", "gc"]), ended(1, "", main_only));
    let missing = world.fly(&["-t", "ci", "uc", "-n", "nope"]);
    assert_eq!(missing, ended(1, "", "error: component 'nope' not found\n"));
    world.answer("DELETE /api/v1/teams/other", 403, json!("forbidden"));
    let kept = world.fly(&["-t", "ci", "dt", "-n", "other", "--non-interactive"]);
    let warning = "!!! this will remove all data for team `other`\n\n";
    assert_eq!(kept, ended(1, warning, "error: forbidden: forbidden\n"));
    let nowhere = world.fly(&["-t", "x", "login", "-c", "nonsense", "-u", "a", "-p", "b"]);
    assert_eq!((nowhere.code, nowhere.stdout.as_str()), (1, "logging in to team 'main'\n\n"));
}

#[test]
fn a_wall_message_ends_when_the_server_says() {
    let world = World::new();
    world.answer("GET /api/v1/wall", 200, json!({"message": "be nice", "TTL": 3_599_850_000_000u64}));
    let wall = world.fly(&["-t", "ci", "get-wall"]);
    assert_eq!(wall, ended(0, "Wall Message: be nice\nExpires in: 59m59.85s\n", ""));
}

#[test]
fn targets_can_be_edited_and_forgotten() {
    let world = World::new();
    let nothing = world.fly(&["-t", "ci", "etg", "--target-name", "", "-u", "", "-n", ""]);
    assert_eq!(nothing, ended(1, "", "error: error: no attributes specified to update\n"));
    assert_eq!(
        world.fly(&["-t", "ci", "etg", "--target-name", "new", "-u", "", "-n", "other"]),
        ended(0, "Updated target: ci\n", "")
    );
    let listed = world.fly(&["targets"]);
    assert_eq!(listed, ended(0, &format!("new  {}  other  n/a: invalid token\n", world.url), ""));
    assert_eq!(world.fly(&["-t", "new", "delete-target"]), ended(0, "deleted target: new\n", ""));
    assert_eq!(world.fly(&["targets"]), ended(0, "", ""));
}
