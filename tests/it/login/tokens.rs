//! Sessions, service accounts, and what the audit trail tells of them.

use serde_json::{Value, json};
use whistlestop::auth::action::{self, TABLE};
use whistlestop::store::audit::AuditQuery;

use crate::world::{Caller, WHOLE, World};

async fn create(owner: &Caller, team: &str, body: Value) -> (u16, Value) {
    let answer = owner.post(&format!("/api/v1/teams/{team}/service-accounts")).json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn a_service_account_has_one_role_on_one_team_and_leaves_a_row_for_each_use() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    world.team("beta", "bob").await;
    let ann = world.sign_in("ann").await;
    let (status, made) =
        create(&ann, "alpha", json!({"name": "deployer", "role": "member", "expires_in": "48h"})).await;
    assert_eq!((status, &made["role"], &made["created_by"]), (201, &json!("member"), &json!("ann")));
    let bot = world.anonymous().with_token(made["token"].as_str().unwrap());
    let file = "{resources: [{name: r, type: mock, source: {}}], jobs: [{name: j, plan: [{get: r}]}]}";
    bot.set_pipeline("alpha", "p", file).await;
    assert_eq!(bot.get("/api/v1/teams/alpha/pipelines/p").await.status(), 200);
    for path in
        ["/api/v1/teams/beta", "/api/v1/teams/alpha/audit", "/api/v1/teams/alpha/service-accounts", "/api/v1/audit"]
    {
        assert_eq!(bot.get(path).await.status(), 403, "{path}");
    }
    let user = bot.json("/api/v1/user").await;
    assert_eq!((&user["teams"], &user["display_user_id"]), (&json!({"alpha": ["member"]}), &json!("service:deployer")));
    let list = ann.json("/api/v1/teams/alpha/service-accounts").await;
    assert_eq!((&list[0]["name"], &list[0]["token"]), (&json!("deployer"), &Value::Null));
    assert!(list[0]["last_used_at"].is_i64());
    let trail = ann.json("/api/v1/teams/alpha/audit?user=service:deployer").await;
    let rows: Vec<_> = trail
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|r| (r["action"].as_str().unwrap(), r["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(rows[..3], [("GetConfig", "invalid"), ("SaveConfig", "done"), ("GetPipeline", "done")]);
    assert!(rows.contains(&("ListTeamAudit", "refused")));
    assert_eq!(trail[0]["address"], json!("127.0.0.1"));
    // It ends, and it is ended.
    world.clock.advance(std::time::Duration::from_secs(48 * 3600));
    assert_eq!(bot.get("/api/v1/user").await.status(), 401);
    let ann = world.sign_in("ann").await;
    let (_, made) = create(&ann, "alpha", json!({"name": "other", "role": "owner"})).await;
    let bot = world.anonymous().with_token(made["token"].as_str().unwrap());
    assert_eq!(create(&bot, "alpha", json!({"name": "child", "role": "owner"})).await.0, 403);
    assert_eq!(bot.get("/sky/logout").await.status(), 403);
    let remove =
        ann.request(reqwest::Method::DELETE, "/api/v1/teams/alpha/service-accounts/other").send().await.unwrap();
    assert_eq!(remove.status(), 204);
    assert_eq!(bot.get("/api/v1/user").await.status(), 401);
}

#[tokio::test]
async fn nonsense_about_service_accounts_is_refused_with_what_to_do() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let ann = world.sign_in("ann").await;
    for (body, expected) in [
        (json!({"name": "a/b", "role": "member"}), "letters, digits"),
        (json!({"name": "x", "role": "king"}), "there are owner, member"),
        (json!({"name": "x", "role": "member", "expires_in": "soon"}), "write it as 720h"),
        (json!({"name": "x", "role": "member", "expires_in": "99999h"}), "up to two years"),
        (json!({"role": "member"}), "missing field `name`"),
    ] {
        let (status, told) = create(&ann, "alpha", body).await;
        assert!(status == 400 && told.as_str().unwrap().contains(expected), "{status} {told}");
    }
    assert_eq!(create(&ann, "alpha", json!({"name": "x", "role": "viewer"})).await.0, 201);
    assert_eq!(create(&ann, "alpha", json!({"name": "x", "role": "viewer"})).await.0, 409);
    assert_eq!(create(&world.sign_in("bob").await, "alpha", json!({"name": "y", "role": "viewer"})).await.0, 403);
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions_and_an_administrator_anybody_s() {
    let world = World::new().await;
    let (one, two, eve) = (world.sign_in("ann").await, world.sign_in("ann").await, world.sign_in("eve").await);
    let sessions = one.json("/api/v1/user/sessions").await;
    let sessions = sessions.as_array().unwrap();
    assert_eq!(
        sessions.iter().map(|s| (&s["kind"], &s["current"])).collect::<Vec<_>>(),
        [(&json!("client"), &json!(false)), (&json!("client"), &json!(true)),]
    );
    let end = |caller: &Caller, id: &Value| {
        caller.request(reqwest::Method::DELETE, &format!("/api/v1/user/sessions/{id}")).send()
    };
    assert_eq!(end(&eve, &sessions[0]["id"]).await.unwrap().status(), 404);
    assert_eq!(end(&one, &sessions[0]["id"]).await.unwrap().status(), 204);
    assert_eq!(
        (two.get("/api/v1/user").await.status(), one.get("/api/v1/user").await.status()),
        (401.try_into().unwrap(), 200.try_into().unwrap())
    );
    let admin = world.admin().await;
    let users = admin.json("/api/v1/users").await;
    let ann = users.as_array().unwrap().iter().find(|u| u["username"] == "ann").unwrap()["id"].clone();
    let answer = admin.request(reqwest::Method::DELETE, &format!("/api/v1/users/{ann}/sessions")).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"ended": 1}));
    assert_eq!(one.get("/api/v1/user").await.status(), 401);
}

#[tokio::test]
async fn each_sign_in_is_one_row_and_no_secret_is_in_any() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let form = [("grant_type", "password"), ("username", "ann"), ("password", "hunter2-wrong"), ("scope", "openid")];
    let grant = reqwest::Client::new().post(world.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5")).form(&form);
    assert_eq!(grant.send().await.unwrap().status(), 401);
    let ann = world.sign_in("ann").await;
    let token = ann.token.clone().unwrap();
    let hook = "/api/v1/teams/alpha/pipelines/p/resources/r/check/webhook?webhook_token=hunter3";
    ann.post(hook).send().await.unwrap();
    let admin = world.admin().await;
    let trail = admin.json("/api/v1/audit?limit=1000").await;
    let of_ann: Vec<_> = trail
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["action"] == "SignIn" && r["user"] == "ann")
        .map(|r| (r["outcome"].as_str().unwrap(), r["sub"] == ""))
        .collect();
    assert_eq!(of_ann, [("done", false), ("refused", true)]);
    let text = trail.to_string();
    for secret in ["hunter2", "hunter3", &token, &admin.token.clone().unwrap()] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(ann.get("/api/v1/audit").await.status(), 403);
    let page = admin.get("/audit").await.text().await.unwrap();
    assert!(page.contains("none changed or taken out"), "{page}");
}

#[tokio::test]
async fn every_changing_route_leaves_exactly_one_row() {
    let world = World::new().await;
    let admin = world.admin().await;
    for row in TABLE.iter().filter(|row| row.method != action::Method::Get) {
        let mut path = String::new();
        for (n, part) in row.path.split(['{', '}']).enumerate() {
            let named = if part.ends_with("id") { "999999" } else { "nothing" };
            path.push_str(if n % 2 == 0 { part } else { named });
        }
        let method = match row.method {
            action::Method::Post => reqwest::Method::POST,
            action::Method::Delete => reqwest::Method::DELETE,
            _ => reqwest::Method::PUT,
        };
        for caller in [&admin, &world.anonymous()] {
            let count = || async {
                let wanted = AuditQuery { action: Some(row.name.into()), limit: 9, ..AuditQuery::default() };
                world.app().store.read(move |tx| tx.audit_entries(&wanted)).await.unwrap().len()
            };
            let before = count().await;
            let status = caller.request(method.clone(), &path).body("{}").send().await.unwrap().status();
            assert_eq!(count().await, before + 1, "{} {path}: {status}", row.name);
        }
    }
}

#[tokio::test]
async fn checking_passwords_does_not_keep_others_waiting() {
    let world = World::new().await;
    let admin = world.admin().await;
    let guesses: Vec<_> = (0..24)
        .map(|n| {
            let user = format!("u{n}");
            let form = [("grant_type", "password"), ("username", &user), ("password", "x"), ("scope", "openid")];
            let request =
                reqwest::Client::new().post(world.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5")).form(&form);
            tokio::spawn(request.send())
        })
        .collect();
    tokio::task::yield_now().await;
    let mut answered_while_guessing = 0;
    while !guesses.iter().all(|g| g.is_finished()) {
        assert_eq!(admin.get("/api/v1/info").await.status(), 200);
        answered_while_guessing += 1;
    }
    assert!(answered_while_guessing >= 24, "{answered_while_guessing}");
    for guess in guesses {
        assert_eq!(guess.await.unwrap().unwrap().status(), 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_kept_as_long_as_the_operator_says() {
    let world = World::with(&[WHOLE, &["--audit-retention", "24h"]].concat()).await;
    world.team("alpha", "ann").await;
    world.clock.advance(std::time::Duration::from_secs(23 * 3600));
    world.team("beta", "bob").await;
    world.clock.advance(std::time::Duration::from_secs(2 * 3600));
    let teams = async || {
        let wanted = AuditQuery { action: Some("SetTeam".into()), limit: 9, ..AuditQuery::default() };
        let rows = world.app().store.read(move |tx| tx.audit_entries(&wanted)).await.unwrap();
        rows.into_iter().map(|r| r.team).collect::<Vec<_>>()
    };
    let gone = async {
        while teams().await != ["beta"] {
            world.app().wakes.gc.ring();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), gone).await.expect("the old row goes, the new one stays");
}
