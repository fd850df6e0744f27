//! Signing in and out, as the client and as a browser.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use serde_json::{Value, json};

use crate::world::World;

const TOKEN: &str = "/sky/issuer/token";

#[tokio::test]
async fn the_password_grant_answers_as_concourse_does() {
    let world = World::new().await;
    let grant = |secret: &'static str, password: &'static str| {
        let form = [("grant_type", "password"), ("username", "ann"), ("password", password), ("scope", "openid")];
        Client::new().post(world.url(TOKEN)).basic_auth("fly", Some(secret)).form(&form).send()
    };
    let answer = grant("Zmx5", "ann").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(86399)));
    for (secret, password, expected) in [
        ("Zmx5", "zz", r#"{"error":"access_denied","error_description":"Invalid username or password"}"#),
        ("zz", "ann", r#"{"error":"invalid_client","error_description":"Invalid client credentials."}"#),
    ] {
        let answer = grant(secret, password).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text().await.unwrap().trim(), expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_grant_is_said_in_concourse_s_order() {
    let world = World::new().await;
    let said = async |client: &'static str, form: &[(&str, &str)]| {
        let request = Client::new().post(world.url(TOKEN)).basic_auth(client, Some("Zmx5")).form(form);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let grant =
        |kind, password, scope| [("grant_type", kind), ("username", "ann"), ("password", password), ("scope", scope)];
    let missing = r#"Missing required scope(s) ["openid"]."#;
    for (client, kind, password, scope, status, error, why) in [
        ("zz", "zz", "zz", "zz", 400, "unsupported_grant_type", None),
        ("zz", "password", "zz", "zz", 401, "invalid_client", None),
        ("fly", "password", "zz", "", 400, "invalid_request", Some(missing)),
        ("fly", "password", "zz", "email zz", 400, "invalid_request", Some(missing)),
        ("fly", "password", "zz", "openid x  y", 400, "invalid_request", Some(r#"Unrecognized scope(s) ["x" "y"]"#)),
        (
            "fly",
            "password",
            "zz",
            "openid audience:server:client_id:x",
            400,
            "invalid_request",
            Some(r#"Client can't request scope(s) ["audience:server:client_id:x"]"#),
        ),
        ("fly", "password", "zz", " openid offline_access federated:id", 401, "access_denied", None),
    ] {
        let (got, body) = said(client, &grant(kind, password, scope)).await;
        assert_eq!((got, &body["error"]), (status, &json!(error)), "{client} {kind} {scope}");
        if let Some(why) = why {
            assert_eq!(body["error_description"], why, "{scope}");
        }
    }
    let (status, body) = said("fly", &grant("password", "ann", "openid audience:server:client_id:fly")).await;
    assert_eq!(status, 200, "{body}");
    let get = world.anonymous().get(TOKEN).await;
    assert_eq!(get.status(), 400);
    let expected = r#"{"error":"invalid_request","error_description":"method not allowed"}"#;
    assert_eq!(get.text().await.unwrap().trim(), expected);
}

#[tokio::test]
async fn who_asks_for_it_gets_a_signed_statement_of_who_signed_in() {
    let world = World::new().await;
    let form = [("grant_type", "password"), ("username", "ann"), ("password", "ann"), ("scope", "openid profile")];
    let answer = Client::new().post(world.url(TOKEN)).basic_auth("fly", Some("Zmx5")).form(&form).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    let token = body["id_token"].as_str().unwrap();
    let part = |n: usize| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let claims = part(1);
    let issuer = world.url("/sky/issuer");
    assert_eq!(
        (&claims["iss"], &claims["aud"], &claims["sub"]),
        (&json!(issuer), &json!("fly"), &json!("CgNhbm4SBWxvY2Fs"))
    );
    assert_eq!(claims["federated_claims"], json!({"connector_id": "local", "user_id": "ann"}));
    assert_eq!(
        (&claims["email_verified"], &claims["name"], &claims["groups"]),
        (&json!(true), &json!("ann"), &Value::Null)
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 86_400);
    // It is believed by keys of its own: what signs for builds does not sign for people.
    let anonymous = world.anonymous();
    let discovery = anonymous.json("/sky/issuer/.well-known/openid-configuration").await;
    assert_eq!((&discovery["issuer"], &discovery["jwks_uri"]), (&json!(issuer), &json!(format!("{issuer}/keys"))));
    let known = async |path: &str| {
        let set = anonymous.json(path).await;
        set["keys"].as_array().unwrap().iter().any(|k| k["kid"] == part(0)["kid"])
    };
    assert!(known("/sky/issuer/keys").await && !known("/.well-known/jwks.json").await);
}

#[tokio::test]
async fn the_token_tells_who_it_is_until_it_ends() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let ann = world.sign_in("ann").await;
    let expected = r#"{"sub":"CgNhbm4SBWxvY2Fs","name":"ann","user_id":"ann","user_name":"","email":"ann","is_admin":false,"is_system":false,"teams":{"alpha":["owner"]},"connector":"local","display_user_id":"ann"}"#;
    assert_eq!(ann.get("/api/v1/user").await.text().await.unwrap(), format!("{expected}\n"));
    let garbage = world.anonymous();
    for header in ["Bearer zz", "Basic Zmx5OlpteDU="] {
        let request = garbage.request(reqwest::Method::GET, "/api/v1/info").header("authorization", header);
        assert_eq!(request.send().await.unwrap().status(), 401, "{header}");
    }
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(ann.get("/api/v1/user").await.status(), 401);
}

#[tokio::test]
async fn a_browser_signs_in_by_form_and_must_repeat_its_token() {
    let world = World::new().await;
    let browser = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let start = browser.get(world.url("/login?fly_port=44444")).send().await.unwrap();
    assert_eq!(start.headers()["location"], "/sky/login?redirect_uri=/fly_success%3Ffly_port=44444");
    let form = browser.get(world.url("/sky/login?redirect_uri=/fly_success%3Ffly_port=44444")).send().await.unwrap();
    let state = cookie(&form, "skymarshal_state");
    assert!(form.text().await.unwrap().contains(&state));

    let submit = |password: &'static str, with: String| {
        let fields = [
            ("login", "admin"),
            ("password", password),
            ("state", &state),
            ("redirect_uri", "/fly_success?fly_port=4"),
        ];
        browser.post(world.url("/sky/login")).header("cookie", with).form(&fields).send()
    };
    let right = format!("skymarshal_state={state}");
    assert_eq!(submit("zz", right.clone()).await.unwrap().status(), 401);
    assert_eq!(submit("admin", String::new()).await.unwrap().status(), 400);
    let done = submit("admin", right).await.unwrap();
    assert_eq!(
        (done.status().as_u16(), &done.headers()["location"]),
        (303, &"/fly_success?fly_port=4".parse().unwrap())
    );
    let (auth, csrf) = (cookie(&done, "skymarshal_auth"), cookie(&done, "skymarshal_csrf"));
    let session = format!("skymarshal_auth={auth}; skymarshal_csrf={csrf}");

    let page = browser.get(world.url("/fly_success?fly_port=4")).header("cookie", &session).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("http://127.0.0.1:4/?token=bearer%20"));

    let change = |token: &'static str| {
        browser.put(world.url("/api/v1/teams/x")).header("cookie", &session).header("x-csrf-token", token).body("{}")
    };
    assert_eq!(change("zz").send().await.unwrap().status(), 401);
    let with_token = change("").header("x-csrf-token", &csrf);
    assert_eq!(with_token.send().await.unwrap().status(), 401, "two tokens are no token");
    let own = browser.put(world.url("/api/v1/teams/x")).header("cookie", &session).header("x-csrf-token", &csrf);
    assert_eq!(own.body("{}").send().await.unwrap().status(), 400);

    let out = browser.get(world.url("/sky/logout")).header("cookie", &session).send().await.unwrap();
    assert_eq!((out.status().as_u16(), cookie(&out, "skymarshal_auth")), (200, String::new()));
    let after = browser.get(world.url("/api/v1/user")).header("cookie", &session).send().await.unwrap();
    assert_eq!((after.status().as_u16(), cookie(&after, "skymarshal_csrf")), (401, String::new()));
}

fn cookie(answer: &reqwest::Response, name: &str) -> String {
    let start = format!("{name}=");
    let values = answer.headers().get_all("set-cookie").iter().map(|v| v.to_str().unwrap());
    let value = values.into_iter().find_map(|v| v.strip_prefix(&start)).unwrap_or_else(|| panic!("no cookie {name}"));
    value.split(';').next().unwrap().to_owned()
}
