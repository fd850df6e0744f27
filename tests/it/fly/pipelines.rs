//! Setting, getting and checking pipelines.

use serde_json::json;

use super::{Ended, World, ended};

const FILE: &str =
    "resources:\n- {name: tick, type: time, source: {every: ((every))}}\njobs:\n- name: a\n  plan: [{get: tick}]\n";
const CONFIG: &str = "/api/v1/teams/main/pipelines/ci/config";

fn set(world: &World, args: &[&str], typed: &str) -> Ended {
    std::fs::write(world.home.path().join("p.yml"), FILE).unwrap();
    let file = world.home.path().join("p.yml");
    let all = [&["-t", "ci", "sp", "-p", "ci", "-c", file.to_str().unwrap(), "-v", "every=1m"], args].concat();
    world.fly_given(&all, typed)
}

#[test]
fn a_new_pipeline_is_shown_and_saved() {
    let world = World::new();
    world.answer(
        &format!("PUT {CONFIG}"),
        201,
        json!({"warnings": [{"type": "invalid_identifier", "message": "odd"}]}),
    );
    world.answer("GET /api/v1/teams/main/pipelines/ci", 200, json!({"id": 1, "name": "ci", "paused": true}));
    let saved = set(&world, &["--no-color"], "y\n");
    let added = "resources:\n  resource tick has been added:\n  \u{8}\u{8}+ name: tick\n  \u{8}\u{8}+ source:\n  \
                 \u{8}\u{8}+   every: 1m\n  \u{8}\u{8}+ type: time\n  \njobs:\n  job a has been added:\n  \u{8}\u{8}+ name: a\n  \
                 \u{8}\u{8}+ plan:\n  \u{8}\u{8}+ - get: tick\n  \n";
    let url = &world.url;
    let said = format!(
        "{added}\x1b[1mpipeline name: \x1b[0mci\n\napply configuration? [yN]: pipeline created!\nyou can view your pipeline \
         here: {url}/teams/main/pipelines/ci\n\nthe pipeline is currently paused. to unpause, either:\n  - run the \
         unpause-pipeline command:\n    fly -t ci unpause-pipeline -p ci\n  - click play next to the pipeline in the web ui\n"
    );
    let warned = "\nDEPRECATION WARNING:\n  - odd\n\nidentifier schema documentation: \
                  https://concourse-ci.org/config-basics.html#schema.identifier\n\n";
    assert_eq!(saved, ended(0, &said, warned));
    let yaml =
        "jobs:\n- name: a\n  plan:\n  - get: tick\nresources:\n- name: tick\n  source:\n    every: 1m\n  type: time\n";
    assert!(world.asked().contains(&format!("PUT {CONFIG} {yaml}")), "{:?}", world.asked());
}

#[test]
fn what_did_not_change_is_not_saved() {
    let world = World::new();
    let config = json!({"config": {
        "resources": [{"name": "tick", "type": "time", "source": {"every": "1m"}}],
        "jobs": [{"name": "a", "plan": [{"get": "tick"}]}],
    }});
    world.answer_with(&format!("GET {CONFIG}"), 200, &[("x-concourse-config-version", "3")], config);
    assert_eq!(set(&world, &[], ""), ended(0, "no changes to apply\n", ""));
    assert_eq!(set(&world, &["-d", "--no-color", "-v", "every=1m"], "").code, 0);
    let got = world.fly(&["-t", "ci", "gp", "-p", "ci"]);
    let yaml =
        "jobs:\n- name: a\n  plan:\n  - get: tick\nresources:\n- name: tick\n  source:\n    every: 1m\n  type: time\n";
    assert_eq!(got, ended(0, yaml, ""));
    assert_eq!(world.fly(&["-t", "ci", "gp", "-p", "x"]), ended(1, "", "error: pipeline not found\n"));
}

#[test]
fn nothing_is_saved_without_a_yes_and_refusals_are_told() {
    let world = World::new();
    world.answer(&format!("PUT {CONFIG}"), 400, json!({"errors": ["invalid jobs:\n\tjobs.a: odd\n"]}));
    for typed in ["n\n", ""] {
        let left = set(&world, &[], typed);
        assert!(left.code == 0 && left.stdout.ends_with("bailing out\n"), "{left:?}");
    }
    let dry = set(&world, &["-d"], "");
    assert!(dry.code == 0 && dry.stdout.ends_with("Dry-run mode was set, exiting.\n"), "{dry:?}");
    assert!(!world.asked().iter().any(|a| a.starts_with("PUT")));
    let refused = set(&world, &["-n"], "");
    let said = "error: invalid pipeline config:\ninvalid jobs:\n\tjobs.a: odd\n\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (1, said));
}

#[test]
fn a_file_is_checked_without_a_server() {
    let world = World::new();
    let file = world.home.path().join("p.yml");
    let check = |text: &str, args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        world.fly(&[&["vp", "-c", file.to_str().unwrap()], args].concat())
    };
    assert_eq!(check(FILE, &[]), ended(0, "looks good\n", ""));
    let wrong = check("resources: [{name: a, type: t}]\njobs: [{name: j, plan: [{get: b}]}]\n", &[]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (1, ""));
    assert!(wrong.stderr.contains("unknown resource 'b'"), "{}", wrong.stderr);
    assert!(wrong.stderr.ends_with("error: configuration invalid\n"), "{}", wrong.stderr);
    let unknown = format!("{FILE}odd: 1\n");
    assert_eq!(check(&unknown, &[]).code, 0);
    let said = "error: error unmarshaling JSON: while decoding JSON: json: unknown field \"odd\"\n";
    assert_eq!(check(&unknown, &["--strict"]), ended(1, "", said));
}
