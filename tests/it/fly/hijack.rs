//! Commands in containers: streams, the end of input, exit codes, the shell that is there.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{World, ended};

/// A container that has `sh` only; it says what it was asked to run, repeats its input, and exits with 5.
async fn container(mut socket: WebSocket) {
    let spec: Value = serde_json::from_str(socket.recv().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    let say = |value: Value| Message::text(value.to_string());
    if spec["path"] == "bash" {
        socket.send(say(json!({"executable_not_found": true}))).await.unwrap();
        return;
    }
    let words =
        format!("{} {} in {} as {} tty {}\n", spec["path"], spec["args"], spec["dir"], spec["user"], spec["tty"]);
    socket.send(say(json!({"stderr": BASE64.encode(words)}))).await.unwrap();
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        let input: Value = serde_json::from_str(&text).unwrap();
        if input["closed"] == true {
            break;
        }
        socket.send(say(json!({"stdout": input["stdin"]}))).await.unwrap();
    }
    socket.send(say(json!({"exit_status": 5}))).await.unwrap();
}

fn world() -> World {
    let upgrade = |upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(container) };
    let world = World::with_routes(Router::new().route("/api/v1/teams/main/containers/c1/hijack", get(upgrade)));
    let list =
        |step: &str| format!("GET /api/v1/teams/main/containers?job_name=unit&pipeline_name=ci&step_name={step}");
    let one = |id: &str| json!({"id": id, "state": "created", "type": "task", "step_name": "test", "user": "ann", "working_directory": "/w"});
    world.answer(&list("test"), 200, json!([one("c1"), {"id": "c0", "state": "destroying", "type": "task"}]));
    world.answer(&list("many"), 200, json!([one("c1"), one("c2")]));
    world.answer(&list("gone"), 200, json!([]));
    world
}

#[test]
fn input_goes_in_and_output_and_the_exit_code_come_back() {
    let world = world();
    let run = world.fly_given(&["-t", "ci", "i", "-j", "ci/unit", "-s", "test", "--", "cat", "-n", "x"], "héllo\n");
    assert_eq!(run, ended(5, "héllo\n", "\"cat\" [\"-n\",\"x\"] in \"/w\" as \"ann\" tty null\n"));
}

#[test]
fn without_bash_there_is_sh() {
    let run = world().fly_given(&["-t", "ci", "hijack", "-j", "ci/unit", "-s", "test"], "");
    let stderr =
        "\rCouldn't find \"bash\" on container, retrying with \"sh\"\r\n\"sh\" [] in \"/w\" as \"ann\" tty null\n";
    assert_eq!(run, ended(5, "", stderr));
}

#[test]
fn a_choice_needs_somebody_to_make_it() {
    let world = world();
    let args = |step: &'static str| ["-t", "ci", "hijack", "-j", "ci/unit", "-s", step, "ls"];
    let gone = "no containers matched your search parameters!\n\nthey may have expired if your build hasn't recently finished.\n";
    assert_eq!(world.fly(&args("gone")), ended(1, "", gone));
    let many = world.fly(&args("many"));
    assert_eq!((many.code, many.stdout.as_str()), (1, ""));
    assert!(many.stderr.starts_with("error: no answer"), "{}", many.stderr);
}
