//! What has been tried against Concourse and its peers at the sign-in: each is refused.

use reqwest::Method;
use serde_json::json;

use super::github::{Stand, person, world};
use super::{Browser, EXTERNAL};
use crate::world::World;

const EVIL: &[&str] = &[
    "//evil.example.com",
    "///evil.example.com",
    "/\\evil.example.com",
    "\\\\evil.example.com",
    "%2f%2fevil.example.com",
    "/%2fevil.example.com",
    "/%252fevil.example.com",
    "/%25252fevil.example.com",
    "https://evil.example.com",
    "http://ci.example.com@evil.example.com",
    "ci.example.com@evil.example.com",
    "/\t/evil.example.com",
    "/\n/evil.example.com",
    "/%09/evil.example.com",
    "/x\r\nlocation: https://evil.example.com",
    "/%0d%0alocation:%20https://evil.example.com",
    "javascript:alert(1)",
];

/// The state of the form in a page.
fn state(page: &str) -> String {
    page.split("name=\"state\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn no_sign_in_leads_to_another_host() {
    let stand = Stand::start().await;
    let world = world(&stand).await;
    stand.is(person(7, "alice", ""));
    for evil in EVIL {
        let escaped = whistlestop::front::query_escape(evil);
        let mut browser = Browser::new(&world);
        let answer = browser.sign_in("github", evil).await;
        assert_eq!(answer.headers()["location"], "/", "{evil:?}");
        // Signed in already.
        let answer = browser.get(&format!("/sky/login?redirect_uri={escaped}")).await;
        assert_eq!(answer.headers()["location"], "/", "{evil:?}");
        // By password.
        let mut browser = Browser::new(&world);
        let page = browser.get(&format!("/sky/login?redirect_uri={escaped}")).await.text().await.unwrap();
        assert!(page.contains("name=\"redirect_uri\" value=\"/\""), "{evil:?}");
        let state = state(&page);
        let form = [("login", "ann"), ("password", "ann"), ("state", state.as_str()), ("redirect_uri", *evil)];
        let answer = browser.send(Method::POST, "/sky/login", &form).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/".parse().unwrap()), "{evil:?}");
        for (name, value) in answer.headers() {
            assert!(name == "set-cookie" || !value.to_str().unwrap().contains("bearer"), "{name}");
        }
    }
}

#[tokio::test]
async fn a_state_is_good_once_in_its_own_browser_and_in_time() {
    let stand = Stand::start().await;
    let world = world(&stand).await;
    stand.is(person(7, "alice", ""));
    let until = format!("{EXTERNAL}/sky/issuer/callback");
    let mut victim = Browser::new(&world);
    let mut attacker = Browser::new(&world);
    // The attacker's own callback, opened by the victim: else the victim would work as the attacker.
    let theirs = attacker.walk("/sky/login/github", &until).await;
    assert_eq!(victim.get(&theirs).await.status(), 403);
    assert_eq!(victim.get("/api/v1/user").await.status(), 401);
    // Also if the victim is in the middle of a sign-in.
    let own = victim.walk("/sky/login/github", &until).await;
    assert_eq!(victim.get(&theirs).await.status(), 403);
    // The victim's callback in the attacker's browser.
    assert_eq!(attacker.get(&own).await.status(), 403);
    // A code of the attacker's with the victim's state: the proof key does not fit.
    let code = |url: &str| url.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let mixed = own.replace(&code(&own), &code(&theirs));
    let kept = victim.cookies.clone();
    assert_eq!(victim.get(&mixed).await.status(), 403);
    // The state is used up now, even with its cookie put back.
    victim.cookies = kept;
    assert_eq!(victim.get(&own).await.status(), 403);
    // Once is good, twice is not.
    let own = victim.walk("/sky/login/github", &until).await;
    let kept = victim.cookies.clone();
    assert_eq!(victim.get(&own).await.status(), 303);
    victim.cookies = kept;
    assert_eq!(victim.get(&own).await.status(), 403);
    // Too late.
    let mut late = Browser::new(&world);
    let own = late.walk("/sky/login/github", &until).await;
    world.clock.advance(std::time::Duration::from_secs(16 * 60));
    assert_eq!(late.get(&own).await.status(), 403);
    // Without any state, and with nonsense.
    for query in ["", "?code=x", "?state=&code=x", "?state=zz&code=x", "?error=access_denied"] {
        assert_eq!(late.get(&format!("/sky/issuer/callback{query}")).await.status(), 403, "{query}");
    }
}

#[tokio::test]
async fn a_sign_in_form_of_another_browser_is_refused() {
    let world = World::with(&["--external-url", EXTERNAL]).await;
    let mut attacker = Browser::new(&world);
    let page = attacker.get("/sky/login").await.text().await.unwrap();
    let state = state(&page);
    let form = [("login", "eve"), ("password", "eve"), ("state", state.as_str()), ("redirect_uri", "/")];
    let mut victim = Browser::new(&world);
    assert_eq!(victim.send(Method::POST, "/sky/login", &form).await.status(), 400);
    victim.get("/sky/login").await;
    assert_eq!(victim.send(Method::POST, "/sky/login", &form).await.status(), 400);
    assert_eq!(attacker.send(Method::POST, "/sky/login", &form).await.status(), 303);
}

#[tokio::test]
async fn a_change_by_cookie_needs_the_page_s_token_and_a_get_changes_nothing() {
    let world = World::with(&["--external-url", EXTERNAL]).await;
    let mut browser = Browser::new(&world);
    let page = browser.get("/sky/login").await.text().await.unwrap();
    let state = state(&page);
    let form = [("login", "admin"), ("password", "admin"), ("state", state.as_str()), ("redirect_uri", "/")];
    browser.send(Method::POST, "/sky/login", &form).await;
    let before = browser.cookies.clone();
    for (path, form) in [
        ("/teams/main/service-accounts", vec![("name", "x"), ("role", "owner")]),
        ("/teams/main/service-accounts", vec![("name", "x"), ("role", "owner"), ("csrf_token", "guess")]),
        ("/teams/main/networks", vec![("networks", "10.0.0.0/8")]),
        ("/sky/logout", vec![("csrf_token", "guess")]),
    ] {
        let answer = browser.send(Method::POST, path, &form).await;
        assert!(matches!(answer.status().as_u16(), 302 | 401), "{path}: {}", answer.status());
        browser.cookies = before.clone();
    }
    assert_eq!(browser.send(Method::DELETE, "/api/v1/user/sessions/1", &[]).await.status(), 401);
    browser.cookies = before.clone();
    // A browser that is sent to the sign-out page is asked, not signed out.
    let page = browser.get("/sky/logout").await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Sign out?"));
    assert_eq!(browser.user().await["is_admin"], json!(true));
    assert_eq!(world.admin().await.json("/api/v1/teams/main/service-accounts").await, json!([]));
    let csrf = before.iter().find(|((_, name), _)| name == "skymarshal_csrf").unwrap().1.clone();
    let answer = browser.send(Method::POST, "/sky/logout", &[("csrf_token", csrf.as_str())]).await;
    assert_eq!(answer.status(), 303);
    browser.cookies = before;
    assert_eq!(browser.get("/api/v1/user").await.status(), 401, "the token is gone, not only the cookie");
}

#[tokio::test]
async fn a_websocket_by_cookie_must_come_from_a_page_of_ours() {
    let world = World::with(&["--external-url", EXTERNAL]).await;
    let token = world.admin().await.token.unwrap();
    let hijack = |origin: &'static str| {
        let client = reqwest::Client::new();
        let request = client.get(world.url("/api/v1/teams/main/containers/x/hijack"));
        let request = request.header("cookie", format!("skymarshal_auth=\"bearer {token}\"")).header("origin", origin);
        request.header("upgrade", "websocket").header("connection", "upgrade").send()
    };
    assert_eq!(hijack("https://evil.example.com").await.unwrap().status(), 401);
    assert_ne!(hijack(EXTERNAL).await.unwrap().status(), 401);
}

#[tokio::test]
async fn tricks_with_paths_and_methods_open_nothing() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let anonymous = world.anonymous();
    for path in [
        "/api/v1/teams/alpha;/",
        "/api/v1/info/../teams/alpha/audit",
        "/api/v1/info/..;/audit",
        "/api/v1//audit",
        "//api/v1/audit",
        "/API/v1/audit",
        "/api/v1/audit/",
        "/api/v1/audit%2f",
        "/api/v1%2faudit",
        "/api/v1/%61udit",
        "/api/v1/audit;x=y",
        "/api/v1/audit.json",
        "/api/v1/users?x=/api/v1/info",
        "/teams/alpha/audit?.css",
        "/teams/alpha/members/.css",
    ] {
        let status = anonymous.get(path).await.status();
        assert!(!status.is_success(), "{path}: {status}");
    }
    for header in ["x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"] {
        let request = anonymous.request(Method::GET, "/api/v1/audit").header(header, "/api/v1/info");
        assert_eq!(request.send().await.unwrap().status(), 401, "{header}");
    }
}

#[tokio::test]
async fn foreign_expired_and_malformed_tokens_are_refused() {
    let (world, other) = (World::new().await, World::new().await);
    let mut caller = world.admin().await;
    let foreign = other.admin().await.token.unwrap();
    let own = caller.token.clone().unwrap();
    for bad in [
        foreign,
        format!("{own}x"),
        own[1..].to_owned(),
        own.to_lowercase(),
        "' or 1=1 --".to_owned(),
        "a".repeat(5000),
    ] {
        caller.token = Some(bad);
        assert_eq!(caller.get("/api/v1/user").await.status(), 401);
    }
    caller.token = Some(own);
    assert_eq!(caller.get("/api/v1/user").await.status(), 200);
    world.clock.advance(std::time::Duration::from_secs(24 * 3600));
    assert_eq!(caller.get("/api/v1/user").await.status(), 401);
}
