//! The encrypted store: written, listed, used, explained, checked, and never read back.

use std::process::Command;

use serde_json::{Value, json};

use super::{bench, everything, given, put, task};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_written_used_listed_and_never_given_back() {
    let bench = bench(&[]).await;
    let admin = &bench.admin;
    let written = put(admin, "p", "key", "value-of-key").await;
    assert_eq!(written, json!({"path": "main/p/key", "source": "the store of this server"}));
    put(admin, "", "login/user", "ann").await;
    bench.job(json!({"name": "j", "plan": [task("t", json!({"K": "((key))", "U": "((login.user))", "T": "((readonly_team_name))"}))]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded");
    assert_eq!(given(&bench, "t", "K").as_deref(), Some("value-of-key"));
    assert_eq!(given(&bench, "t", "U").as_deref(), Some("ann"));
    assert_eq!(given(&bench, "t", "T").as_deref(), Some("main"));

    let listed = admin.json("/api/v1/teams/main/secrets").await;
    let key = listed.as_array().unwrap().iter().find(|s| s["name"] == "key").unwrap();
    assert_eq!((&key["pipeline"], &key["changed_by"]), (&json!("p"), &json!("admin")));
    assert!(key["last_used"].as_i64().unwrap() > 0 && !listed.to_string().contains("value-of"), "{listed}");
    let answer = admin.get("/api/v1/teams/main/secrets/value?pipeline=p&name=key").await;
    assert_eq!(answer.status(), 403);
    let uses = admin.json("/api/v1/teams/main/secrets/uses?name=key").await;
    assert_eq!((&uses[0]["build"], &uses[0]["path"]), (&json!(id), &json!("main/p/key")));
    let explained = admin.json("/api/v1/teams/main/secrets/explain?pipeline=p&name=key").await;
    let tried: Vec<(&str, bool)> = explained["tried"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["path"].as_str().unwrap(), t["found"].as_bool().unwrap()))
        .collect();
    assert_eq!(tried, [("main/p/key", true), ("main/key", false)]);

    // Other teams neither see nor use it.
    bench.world.team("other", "ann").await;
    let ann = bench.world.sign_in("ann").await;
    assert_eq!(ann.get("/api/v1/teams/main/secrets").await.status(), 403);
    let own = ann.json("/api/v1/teams/other/secrets").await;
    assert!(!own.to_string().contains("login"), "{own}");

    // The audit says who set what, and not to what.
    let audit = bench.world.app().store.read(|tx| tx.audit_entries(&everything())).await.unwrap();
    let row = audit.iter().find(|e| e.action == "SaveSecret" && e.parameters["pipeline"][0] == "p").unwrap();
    assert_eq!((row.user.as_str(), &row.parameters["name"][0]), ("admin", &json!("key")));
    assert!(!format!("{audit:?}").contains("value-of"));

    // A new key of the keyring changes nothing for builds.
    let answer = admin.put("/api/v1/secrets-key").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["sealed"], 2);
    assert_eq!(bench.run("j").await.status, "succeeded");
    let answer =
        admin.request(reqwest::Method::DELETE, "/api/v1/teams/main/secrets?pipeline=p&name=key").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(bench.run("j").await.status, "errored");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_checked_when_a_pipeline_is_set() {
    let bench = bench(&[]).await;
    put(&bench.admin, "p", "key", "v").await;
    let set = async |config: Value| {
        let path = "/api/v1/teams/main/pipelines/p/config?check_creds=";
        let answer = bench
            .admin
            .put(path)
            .header("content-type", "application/json")
            .body(config.to_string())
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let job = |value: &str| json!({"jobs": [{"name": "j", "plan": [task("t", json!({"K": value}))]}]});
    assert_eq!(set(job("((key))")).await.0, 201);
    let (status, text) = set(job("((absent))")).await;
    assert_eq!(status, 400);
    assert!(
        text.contains("credential validation failed")
            && text.contains("undefined vars: absent")
            && text.contains("main/p/absent"),
        "{text}"
    );
    let mut own = job("((vs:x)) ((vs:y))");
    own["var_sources"] = json!([{"name": "vs", "type": "dummy", "config": {"vars": {"x": "1"}}}]);
    let (_, text) = set(own).await;
    assert!(text.contains("undefined vars: vs:y"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_tokens_name_the_build() {
    let bench = bench(&[]).await;
    let anonymous = bench.world.anonymous();
    let discovery = anonymous.json("/.well-known/openid-configuration").await;
    assert!(discovery["jwks_uri"].as_str().unwrap().ends_with("/.well-known/jwks.json"));
    let sources = json!([{"name": "id", "type": "idtoken", "config": {"audience": ["aws"]}}]);
    let jobs = json!([{"name": "j", "plan": [task("t", json!({"T": "((id:token))"}))]}]);
    bench.set(json!({"var_sources": sources, "jobs": jobs})).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    let token = given(&bench, "t", "T").unwrap();
    let part = |n: usize| {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    assert_eq!((&part(1)["sub"], &part(1)["job"], &part(1)["aud"]), (&json!("main/p"), &json!("j"), &json!(["aws"])));
    let keys = anonymous.json("/.well-known/jwks.json").await;
    assert!(keys["keys"].as_array().unwrap().iter().any(|k| k["kid"] == part(0)["kid"] && k["d"].is_null()), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_speaks_every_spelling() {
    let bench = bench(&[]).await;
    let home = tempfile::tempdir().unwrap();
    let token = bench.admin.token.clone().unwrap();
    let target = json!({"api": bench.world.url(""), "team": "main", "token": {"type": "bearer", "value": token}});
    let flyrc = json!({"targets": {"cd-main": target}});
    std::fs::write(home.path().join(".flyrc"), flyrc.to_string()).unwrap();
    let gds = home.path().join("gds");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_whistlestop"), &gds).unwrap();
    let run = |program: &str, args: &[&str], stdin: Option<&str>| {
        let mut command = Command::new(program);
        command.args(args).env("HOME", home.path()).env_remove("FLY_HOME");
        let text = stdin.unwrap_or_default().to_owned();
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (own, gds) = (env!("CARGO_BIN_EXE_whistlestop"), gds.to_str().unwrap());
    for (program, args, stdin, told) in [
        (own, &["secrets", "-t", "cd-main", "add", "p/a", "1"][..], None, "set main/p/a in the store of this server"),
        (own, &["secrets", "add", "p/b", "2"], None, "set main/p/b"),
        (own, &["secrets", "add", "cd-main", "p/c", "3"], None, "set main/p/c"),
        (own, &["secrets", "add", "wide"], Some("line one\nline two\n"), "set main/wide"),
        (gds, &["cd", "secrets", "add", "p/d", "4"], None, "set main/p/d"),
        (gds, &["cd", "secrets", "-t", "cd-main", "rm", "p/d"], None, "removed p/d"),
        (own, &["secrets", "explain", "p/a"], None, "main/p/a in the store of this server"),
    ] {
        let (code, text) = tokio::task::block_in_place(|| run(program, args, stdin));
        assert!(code == Some(0) && text.contains(told), "{args:?}: {code:?} {text}");
    }
    let (_, text) = tokio::task::block_in_place(|| run(own, &["secrets", "ls"], None));
    assert!(
        text.contains("p/a") && text.contains("wide") && !text.contains("p/d") && !text.contains("line one"),
        "{text}"
    );
    for (args, told) in [
        (&["secrets", "add", "readonly_x", "v"][..], "belongs to the platform"),
        (&["secrets", "rm", "nothing"], "nothing is not there"),
        (&["secrets", "get", "p/a"], "never gives a value back"),
        (&["secrets", "add", "p/../x", "v"], "leads out of its place"),
    ] {
        let (code, text) = tokio::task::block_in_place(|| run(own, args, None));
        assert!(code == Some(1) && text.contains(told), "{args:?}: {code:?} {text}");
    }
}
