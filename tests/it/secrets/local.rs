//! The encrypted store: written, listed, used, explained, checked, and never read back.

use serde_json::{Value, json};

use super::{Home, OWN, bench, everything, given, press, put, task};

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
    let home = Home::of(&bench);
    let gds = home.path().join("gds");
    std::os::unix::fs::symlink(OWN, &gds).unwrap();
    let (own, gds) = (OWN, gds.to_str().unwrap());
    for (program, args, stdin, told) in [
        (own, &["secrets", "-t", "cd-main", "add", "p/a", "1"][..], None, "set main/p/a in the store of this server"),
        (own, &["secrets", "add", "p/b", "2"], None, "set main/p/b"),
        (own, &["secrets", "add", "cd-main", "p/c", "3"], None, "set main/p/c"),
        (own, &["secrets", "add", "wide"], Some("line one\nline two\n"), "set main/wide"),
        (gds, &["cd", "secrets", "add", "p/d", "4"], None, "set main/p/d"),
        (gds, &["cd", "secrets", "-t", "cd-main", "rm", "p/d"], None, "removed p/d"),
        (own, &["secrets", "explain", "p/a"], None, "main/p/a in the store of this server"),
    ] {
        let (code, text) = home.run(program, args, stdin);
        assert!(code == Some(0) && text.contains(told), "{args:?}: {code:?} {text}");
    }
    let (_, text) = home.run(own, &["secrets", "ls"], None);
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
        let (code, text) = home.run(own, args, None);
        assert!(code == Some(1) && text.contains(told), "{args:?}: {code:?} {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_sets_explains_and_removes_and_shows_no_value() {
    let bench = bench(&[]).await;
    let page = async |path: &str| bench.admin.get(path).await.text().await.unwrap();
    let home = "/teams/main/secrets";
    let form = [("pipeline", "p"), ("name", "key"), ("value", "line one\r\nline two")];
    assert_eq!(press(&bench, home, "wrong", &form).await, 302, "without its token: sign in again");
    assert_eq!(press(&bench, home, "c", &form).await, 303);
    assert_eq!(press(&bench, home, "c", &[("pipeline", ""), ("name", "readonly_x"), ("value", "v")]).await, 403);
    let text = page(home).await;
    assert!(text.contains("p/key") && text.contains("by admin") && !text.contains("line one"), "{text}");
    bench.job(json!({"name": "j", "plan": [task("t", json!({"K": "((key))"}))]})).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(given(&bench, "t", "K").as_deref(), Some("line one\nline two"));
    let text = page("/teams/main/secrets/explain?pipeline=p&name=key").await;
    assert!(text.contains("main/p/key") && text.contains("<b>found</b>") && !text.contains("line one"), "{text}");
    let text = page("/teams/main/secrets/explain?pipeline=p&name=%22%2Fother%2Fx%22").await;
    assert!(text.contains("cannot be looked up"), "{text}");
    assert_eq!(press(&bench, "/teams/main/secrets/remove?pipeline=p&name=key", "c", &[]).await, 303);
    assert!(!page(home).await.contains("p/key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_settings_is_changed_at_a_start() {
    let (old, new) = ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=");
    let mut bench = bench(&["--secrets-key", old]).await;
    put(&bench.admin, "", "key", "value-of-key").await;
    bench
        .job(
            json!({"name": "j", "plan": [task("t", json!({"K": "((key))", "P": "((readonly_local_user_password))"}))]}),
        )
        .await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    let password = given(&bench, "t", "P");
    assert_eq!(bench.admin.put("/api/v1/secrets-key").send().await.unwrap().status(), 409, "it is not ours to change");
    for flags in [&["--secrets-key", new, "--old-secrets-key", old][..], &["--secrets-key", new]] {
        bench.world.restart(&[crate::world::WHOLE, flags].concat()).await;
        bench.admin = bench.world.admin().await;
        assert_eq!(bench.run("j").await.status, "succeeded", "{flags:?}");
        assert_eq!(
            (given(&bench, "t", "K").as_deref(), given(&bench, "t", "P")),
            (Some("value-of-key"), password.clone())
        );
    }
    // Without the right key it is told, and nothing else is hurt.
    bench.world.restart(&[crate::world::WHOLE, &["--secrets-key", old]].concat()).await;
    bench.admin = bench.world.admin().await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "errored");
    let error = super::errors(&bench.events(id).await);
    assert!(error.contains("a secret was sealed with the key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_s_token_may_be_a_secret() {
    let bench = bench(&[]).await;
    put(&bench.admin, "p", "hook", "t0ken-of-the-hook").await;
    let sources = json!([{"name": "vs", "type": "dummy", "config": {"vars": {"hook": "t0ken-of-the-source"}}}]);
    let resource =
        |name: &str, token: &str| json!({"name": name, "type": "mock", "source": {}, "webhook_token": token});
    let resources = json!([resource("r", "x-((hook))"), resource("s", "((vs:hook))"), resource("a", "((absent))")]);
    let jobs = json!([{"name": "j", "plan": [{"get": "r"}, {"get": "s"}, {"get": "a"}]}]);
    bench.set(json!({"var_sources": sources, "resources": resources, "jobs": jobs})).await;
    let anonymous = bench.world.anonymous();
    let call = async |resource: &str, token: &str| {
        let path = format!("/api/v1/teams/main/pipelines/p/resources/{resource}/check/webhook");
        let request = anonymous.post(&path).query(&[("webhook_token", token)]);
        request.send().await.unwrap().status().as_u16()
    };
    for (name, token, status) in [
        ("r", "x-t0ken-of-the-hook", 201),
        ("r", "t0ken-of-the-hook", 401),
        ("r", "x-((hook))", 401),
        ("s", "t0ken-of-the-source", 201),
        ("s", "((vs:hook))", 401),
        ("a", "((absent))", 401),
        ("a", "", 400),
        ("none", "x", 401),
    ] {
        assert_eq!(call(name, token).await, status, "{name} {token}");
    }
    put(&bench.admin, "p", "hook", "another").await;
    assert_eq!((call("r", "x-t0ken-of-the-hook").await, call("r", "x-another").await), (401, 201));
    let trail = bench.admin.json("/api/v1/audit").await.to_string();
    assert!(!trail.contains("t0ken-of"), "{trail}");
}
