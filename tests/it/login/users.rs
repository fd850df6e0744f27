//! `whistlestop user` beside a running server.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::world::World;

/// Runs the command with something on its standard input; whether it succeeded, and what it printed.
fn user(world: &World, args: &[&str], stdin: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whistlestop"));
    command.arg("user").args(args).arg("--state-dir").arg(world.state_dir());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Some mistakes end it before it has read anything.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

async fn grant(world: &World, name: &str, password: &str) -> u16 {
    let form = [("grant_type", "password"), ("username", name), ("password", password), ("scope", "openid")];
    let request = reqwest::Client::new().post(world.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5"));
    request.form(&form).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn users_come_and_go_without_a_restart() {
    let world = World::new().await;
    assert_eq!(user(&world, &["add", "zoe"], "first\n"), (true, "added zoe\n".into()));
    assert_eq!((grant(&world, "zoe", "first").await, grant(&world, "zoe", "wrong").await), (200, 401));
    let caller = {
        let form = [("grant_type", "password"), ("username", "zoe"), ("password", "first"), ("scope", "openid")];
        let request = reqwest::Client::new().post(world.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5"));
        let answer: serde_json::Value = request.form(&form).send().await.unwrap().json().await.unwrap();
        world.anonymous().with_token(answer["access_token"].as_str().unwrap())
    };
    assert_eq!(caller.json("/api/v1/user").await["name"], json!("zoe"));
    assert_eq!(user(&world, &["passwd", "zoe"], "second\n"), (true, "changed zoe\n".into()));
    assert_eq!(caller.get("/api/v1/user").await.status(), 401, "what the old password opened is closed");
    assert_eq!((grant(&world, "zoe", "first").await, grant(&world, "zoe", "second").await), (401, 200));
    let file = "# trainees\ntom:t1\nZoe:second\n";
    assert_eq!(user(&world, &["add", "--file", "-"], file), (true, "1 added, 0 changed, 1 as they were\n".into()));
    let (ok, list) = user(&world, &["ls"], "");
    assert!(ok && list.contains("tom\nzoe\n") && list.contains("ann  (by --add-local-user)\n"), "{list}");
    for (args, told) in [
        (vec!["add", "ZOE"], "there is a user ZOE already"),
        (vec!["passwd", "ann"], "--add-local-user"),
        (vec!["rm", "nobody"], "there is no user nobody"),
        (vec!["add", "a:b"], "cannot be a user name"),
        (vec!["passwd", "zoe"], "the password is empty"),
    ] {
        let (ok, text) = user(&world, &args, if args[0] == "passwd" && args[1] == "zoe" { "" } else { "x\n" });
        assert!(!ok && text.contains(told), "{args:?}: {text}");
    }
    assert_eq!(user(&world, &["rm", "zoe", "tom"], ""), (true, "removed zoe\nremoved tom\n".into()));
    assert_eq!(grant(&world, "zoe", "second").await, 401);
    let trail = world.admin().await.json("/api/v1/audit?action=RemoveLocalUser").await;
    assert_eq!(trail.as_array().unwrap().len(), 2);
}
