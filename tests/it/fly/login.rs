//! Logging in with a password and with a pasted token, and logging out.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{World, ended};

const TOKEN: &str = "POST /sky/issuer/token";

fn world() -> World {
    let world = World::new();
    world.answer(TOKEN, 200, json!({"access_token": "abc", "token_type": "bearer", "expires_in": 1}));
    world.answer("GET /api/v1/user", 200, json!({"is_admin": false, "teams": {"main": ["owner"]}}));
    world
}

#[test]
fn a_password_gives_a_target() {
    let world = world();
    let login = world.fly(&["-t", "new", "login", "-c", &world.url, "-u", "ann", "-p", "s&c ret"]);
    assert_eq!(login, ended(0, "logging in to team 'main'\n\n\n\rtarget saved\r\n", ""));
    let form = "grant_type=password&username=ann&password=s%26c+ret&scope=openid+profile+email+federated%3Aid+groups";
    assert_eq!(world.asked(), [format!("{TOKEN} {form}"), "GET /api/v1/user".to_owned()]);
    let flyrc = world.home.path().join(".flyrc");
    assert_eq!(std::fs::metadata(&flyrc).unwrap().permissions().mode() & 0o777, 0o600);
    let saved =
        format!("  new:\n    api: {}\n    team: main\n    token:\n      type: bearer\n      value: abc\n", world.url);
    assert!(std::fs::read_to_string(&flyrc).unwrap().ends_with(&saved));
    assert_eq!(world.fly(&["-t", "new", "status"]), ended(0, "logged in successfully\n", ""));
}

#[test]
fn a_wrong_password_and_a_foreign_team_are_refused() {
    let world = world();
    let foreign = world.fly(&["-t", "new", "login", "-c", &world.url, "-u", "ann", "-p", "p", "-n", "beta"]);
    let said = "error: you are not a member of 'beta' or the team does not exist\n";
    assert_eq!(foreign, ended(1, "logging in to team 'beta'\n\n\n", said));
    let refusal = json!({"error": "access_denied", "error_description": "Invalid username or password"});
    world.answer(TOKEN, 401, refusal);
    let wrong = world.fly(&["-t", "new", "login", "-c", &world.url, "-u", "ann", "-p", "zz"]);
    let said = "error: oauth2: \"access_denied\" \"Invalid username or password\"\n";
    assert_eq!(wrong, ended(1, "logging in to team 'main'\n\n", said));
    assert_eq!(world.fly(&["-t", "new", "status"]), ended(1, "", "error: unknown target: new\n"));
}

#[test]
fn a_token_can_be_pasted() {
    let world = world();
    let login = world.fly_given(&["-t", "ci", "login"], "nonsense\nbearer abc\n");
    assert_eq!((login.code, login.stderr.as_str()), (0, ""));
    assert!(login.stdout.contains(&format!("  {}/login?fly_port=", world.url)), "{}", login.stdout);
    assert!(login.stdout.contains("token must be of the format 'TYPE VALUE'"), "{}", login.stdout);
    assert!(login.stdout.ends_with("target saved\r\n"), "{}", login.stdout);
}

#[test]
fn logging_out_gives_the_token_back() {
    let world = world();
    world.answer("GET /sky/logout", 200, json!(""));
    assert_eq!(world.fly(&["-t", "ci", "logout"]), ended(0, "logged out of target: ci\n", ""));
    assert_eq!(world.asked(), ["GET /sky/logout"]);
    assert_eq!(world.fly(&["-t", "ci", "status"]), ended(1, "", "logged out\n"));
    let refused = world.fly(&["-t", "ci", "userinfo"]);
    assert_eq!(refused, ended(1, "", "not authorized. run the following to log in:\n\n    fly -t ci login\n\n"));
}
