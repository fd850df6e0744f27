//! What the client says to do next, and where it goes by what the server is.

use serde_json::json;

use super::{World, ended};

#[test]
fn what_goes_wrong_says_what_to_do_next() {
    let world = World::new();
    world.answer("PUT /api/v1/teams/main/pipelines/x/expose", 403, json!("no"));
    world.answer("GET /api/v1/teams/main/pipelines/x/config", 404, json!(""));
    for (args, hint) in [
        (&["-t", "ci", "gp", "-p", "x"][..], "see what there is with `fly -t ci pipelines`"),
        (&["-t", "ci", "ep", "-p", "x"], "see your roles with `fly -t ci userinfo`; an owner of the team can give you"),
        (
            &["-t", "zz", "ps"],
            "see those there are with `fly targets`, or log in with `fly -t zz login -c (concourse url)`",
        ),
        (&["login"], "choose one for it, as `ci` in `fly -t ci login -c (concourse url)`"),
        (&["ps", "--zz"], "see how it is done with `fly pipelines -h`"),
        (&["zz"], "see how it is done with `fly -h`"),
        (
            &["-t", "n", "login", "-c", "http://127.0.0.1:1"],
            "see where targets lead with `fly targets`, and change that with",
        ),
    ] {
        let told = world.hint(args);
        assert!(told.starts_with(hint), "{args:?}: {told}");
    }
}

#[test]
fn our_own_server_is_known_whatever_it_speaks_as() {
    let world = World::new();
    world.answer("GET /api/v1/teams/main/pipelines", 200, json!([]));
    world.answer("GET /api/v1/info", 200, json!({"version": "8.1.0", "worker_version": "2.5"}));
    let refused = world.fly(&["-t", "ci", "ps"]);
    assert!(refused.code == 1 && refused.stderr.contains("cowardly refusing to run"), "{refused:?}");
    let real = [("x-whistlestop-concourse-version", "8.2.5")];
    world.answer_with("GET /api/v1/info", 200, &real, json!({"version": "8.1.0", "worker_version": "2.5"}));
    assert_eq!(world.fly(&["-t", "ci", "ps"]), ended(0, "", ""));
    assert_eq!(world.fly(&["-t", "ci", "sync"]), ended(0, "version 8.2.5 already matches; skipping\n", ""));
}
