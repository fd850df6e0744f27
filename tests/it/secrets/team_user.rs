//! The user that the server makes for each team: it signs in as the client does and is a member there, and only there.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use super::{bench, given, task};
use crate::engine::Bench;
use crate::world::Caller;

/// The password that a build of main was given.
async fn password(bench: &Bench) -> String {
    assert_eq!(bench.run("j").await.status, "succeeded");
    given(bench, "t", "P").unwrap()
}

async fn grant(bench: &Bench, name: &str, password: &str) -> (u16, Value) {
    let form = [("grant_type", "password"), ("username", name), ("password", password), ("scope", "openid")];
    let request = reqwest::Client::new().post(bench.world.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5"));
    let answer = request.form(&form).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn signed_in(bench: &Bench, name: &str, password: &str) -> Caller {
    let (status, answer) = grant(bench, name, password).await;
    assert_eq!(status, 200, "{answer}");
    bench.world.anonymous().with_token(answer["access_token"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_signs_in_as_its_team_and_sets_its_pipelines() {
    let bench = bench(&[]).await;
    assert_eq!(grant(&bench, "main", "").await.0, 401, "nobody has asked for the password yet");
    bench.job(json!({"name": "j", "plan": [task("t", json!({"P": "((readonly_local_user_password))"}))]})).await;
    let first = password(&bench).await;
    assert_eq!(password(&bench).await, first, "it stays");

    // By the client, as a task would.
    let home = tempfile::tempdir().unwrap();
    let pipeline = home.path().join("p.yml");
    std::fs::write(&pipeline, "jobs: [{name: k, plan: [{get: r}]}]\nresources: [{name: r, type: mock, source: {}}]")
        .unwrap();
    let fly = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_whistlestop"));
        let output = command.arg("fly").args(args).env("HOME", home.path()).env_remove("FLY_HOME").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let url = bench.world.url("");
    for args in [
        &["-t", "x", "login", "-c", &url, "-u", "main", "-p", &first][..],
        &["-t", "x", "set-pipeline", "-n", "-p", "own", "-c", pipeline.to_str().unwrap()],
        &["-t", "x", "trigger-job", "-j", "own/k"],
    ] {
        let (ok, text) = tokio::task::block_in_place(|| fly(args));
        assert!(ok, "{args:?}: {text}");
    }
    let (ok, text) = tokio::task::block_in_place(|| {
        fly(&["-t", "x", "set-team", "--non-interactive", "-n", "main", "--local-user", "eve"])
    });
    assert!(!ok, "a member sets no team: {text}");

    let own = signed_in(&bench, "main", &first).await;
    let user = own.json("/api/v1/user").await;
    assert_eq!(
        (&user["name"], &user["teams"], &user["is_admin"]),
        (&json!("main"), &json!({"main": ["member"]}), &json!(false))
    );
    for path in ["/api/v1/audit", "/api/v1/teams/main/audit", "/api/v1/teams/main/service-accounts"] {
        assert_eq!(own.get(path).await.status(), 403, "{path}");
    }
    // A wrong password is nobody, and the trail says who came.
    assert_eq!(grant(&bench, "main", &first[1..]).await.0, 401);
    let trail = bench.admin.json("/api/v1/teams/main/audit?action=SignIn").await;
    assert_eq!((&trail[0]["user"], &trail[0]["connector"]), (&json!("main"), &json!("team")));
    assert!(!bench.admin.json("/api/v1/audit").await.to_string().contains(&first));

    // A new key of the keyring changes nothing; a new password ends what the old one opened.
    bench.admin.put("/api/v1/secrets-key").send().await.unwrap();
    assert_eq!(password(&bench).await, first);
    assert_eq!(own.get("/api/v1/user").await.status(), 200);
    let rotated = own.put("/api/v1/teams/main/secrets/user").send().await.unwrap();
    assert_eq!(rotated.status(), 403, "an owner's right");
    let rotated = bench.admin.put("/api/v1/teams/main/secrets/user").send().await.unwrap();
    assert_eq!(rotated.status(), 204);
    assert_eq!(own.get("/api/v1/user").await.status(), 401);
    assert_eq!(grant(&bench, "main", &first).await.0, 401);
    let second = password(&bench).await;
    let own = signed_in(&bench, "main", &second).await;
    assert_eq!(own.get("/sky/logout").await.status(), 200, "it signs out as people do");
    assert_eq!(own.get("/api/v1/user").await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_nobody_elsewhere_whatever_its_name() {
    let bench = bench(&[]).await;
    // A team is named as a person who owns another team.
    bench.world.team("ann", "bob").await;
    bench.world.team("beta", "ann").await;
    let platform = &bench.world.app().secrets.platform;
    let id = bench.world.app().store.read(|tx| tx.find_team("ann")).await.unwrap().unwrap().id;
    let password = platform.team_user(id).await.unwrap().expose().clone();
    let team = signed_in(&bench, "ann", &password).await;
    assert_eq!(team.json("/api/v1/user").await["teams"], json!({"ann": ["member"]}));
    assert_eq!(team.get("/api/v1/teams/beta/pipelines").await.json::<Value>().await.unwrap(), json!([]));
    assert_eq!(
        team.put("/api/v1/teams/beta/secrets?name=x").json(&json!({"value": "v"})).send().await.unwrap().status(),
        403
    );
    // The person of that name is who she was.
    let person = bench.world.sign_in("ann").await;
    assert_eq!(person.json("/api/v1/user").await["teams"], json!({"beta": ["owner"]}));
    // A list of networks holds for it too, and it goes with its team.
    let networks = json!({"networks": ["192.0.2.0/24"]});
    let set = bench.admin.put("/api/v1/teams/ann/networks").json(&networks).send().await.unwrap();
    assert!(set.status().is_success(), "{}", set.status());
    assert_eq!(team.json("/api/v1/user").await["teams"], json!({}));
    let renamed = bench.admin.put("/api/v1/teams/ann/rename").json(&json!({"name": "zoe"})).send().await.unwrap();
    assert!(renamed.status().is_success(), "{}", renamed.status());
    assert_eq!((grant(&bench, "ann", &password).await.0, grant(&bench, "zoe", &password).await.0), (401, 200));
    assert_eq!(bench.admin.request(Method::DELETE, "/api/v1/teams/zoe").send().await.unwrap().status(), 204);
    assert_eq!(team.get("/api/v1/user").await.status(), 401);
    assert_eq!(grant(&bench, "zoe", &password).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_it_first_all_get_the_same() {
    let bench = bench(&[]).await;
    let app = bench.world.app();
    let id = app.store.read(|tx| tx.find_team("main")).await.unwrap().unwrap().id;
    let asked = (0..16).map(|_| {
        let secrets = app.secrets.clone();
        tokio::spawn(async move { secrets.platform.team_user(id).await.unwrap().expose().clone() })
    });
    let mut all = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        all.push(one.await.unwrap());
    }
    all.dedup();
    assert_eq!(all.len(), 1);
}
