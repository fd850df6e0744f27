//! Logging in with a password and with a pasted token, and logging out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

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
fn a_connection_that_says_nothing_holds_nobody_up() {
    let world = world();
    let mut command = world.command(&["-t", "ci", "login"]);
    let mut login = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(login.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("?fly_port=") {
        line.clear();
        assert_ne!(shown.read_line(&mut line).unwrap(), 0);
    }
    let port: u16 = line.trim().rsplit_once('=').unwrap().1.parse().unwrap();
    let _silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut browser = TcpStream::connect(("127.0.0.1", port)).unwrap();
    browser.write_all(b"GET /?token=bearer%20abc HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("target saved\r\n"), "{rest}");
    assert!(login.wait().unwrap().success());
}

#[test]
fn a_token_is_not_shown_while_it_is_pasted() {
    let world = world();
    let mut login = world.fly_typed_at(&["-t", "ci", "login"]);
    login.expect("or enter token manually (input hidden): ");
    login.type_in("se cr et\n");
    login.expect("token must be of the format 'TYPE VALUE', e.g. 'Bearer ...'\n\nor enter token manually");
    login.type_in("bearer abc\n");
    let (code, shown) = login.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("abc") && !shown.contains("cr et"), "{shown}");
    let mut login = world.fly_typed_at(&["-t", "ci", "login"]);
    login.expect("or enter token manually (input hidden): ");
    login.type_in("bearer\x03");
    let (code, shown) = login.end();
    assert!(code == 1 && shown.contains("error: no token was entered"), "{shown}");
}

#[test]
fn whoever_is_not_logged_in_logs_in_at_a_terminal_and_goes_on() {
    let world = world();
    let flyrc = json!({"targets": {"ci": {"api": world.url, "team": "main"}}});
    std::fs::write(world.home.path().join(".flyrc"), flyrc.to_string()).unwrap();
    world.answer("GET /api/v1/teams/main/pipelines", 200, json!([{"id": 1, "name": "mine"}]));
    let mut list = world.fly_typed_at(&["-t", "ci", "pipelines"]);
    list.expect("or enter token manually (input hidden): ");
    list.type_in("bearer abc\n");
    let (code, shown) = list.end();
    assert!(shown.starts_with("could not find a valid token.\nlogging in to team 'main'\n\n"), "{shown}");
    let (_, after) = shown.split_once("target saved").unwrap();
    assert!(code == 0 && after.contains("mine"), "{shown}");
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
