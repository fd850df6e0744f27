//! GitHub, played by a server that speaks its OAuth and its API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Browser, EXTERNAL};
use crate::world::World;

/// Somebody there.
#[derive(Clone)]
pub struct Person {
    id: u64,
    login: &'static str,
    name: &'static str,
    teams: Vec<(&'static str, &'static str, &'static str)>,
}

#[derive(Default)]
struct Inner {
    who: Option<Person>,
    challenges: BTreeMap<String, String>,
    count: u32,
}

/// The stand-in; whoever is set signs in.
#[derive(Clone)]
pub struct Stand {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

type Pairs = BTreeMap<String, String>;

impl Stand {
    pub async fn start() -> Stand {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand = Stand { url: format!("http://{}", listener.local_addr().unwrap()), inner: Arc::default() };
        let router = Router::new()
            .route("/login/oauth/authorize", get(authorize))
            .route("/login/oauth/access_token", post(redeem))
            .route("/api/v3/user", get(user))
            .route("/api/v3/user/orgs", get(orgs))
            .route("/api/v3/user/teams", get(teams))
            .with_state(stand.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stand
    }

    pub fn is(&self, person: Person) {
        self.inner.lock().unwrap().who = Some(person);
    }

    fn known(&self, headers: &HeaderMap) -> Option<Person> {
        (headers.get("authorization")? == "Bearer gho_x").then(|| self.inner.lock().unwrap().who.clone()).flatten()
    }
}

async fn authorize(State(stand): State<Stand>, Query(query): Query<Pairs>) -> Response {
    assert_eq!((query["client_id"].as_str(), query["scope"].as_str()), ("ci", "read:org"));
    let mut inner = stand.inner.lock().unwrap();
    inner.count += 1;
    let code = format!("code{}", inner.count);
    inner.challenges.insert(code.clone(), query["code_challenge"].clone());
    Redirect::to(&format!("{}?code={code}&state={}", query["redirect_uri"], query["state"])).into_response()
}

async fn redeem(State(stand): State<Stand>, Form(form): Form<Pairs>) -> Json<Value> {
    let challenge = stand.inner.lock().unwrap().challenges.remove(&form["code"]);
    let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    if form["client_secret"] != "hush" || challenge != Some(proof) {
        // GitHub says so with status 200.
        return Json(
            json!({"error": "bad_verification_code", "error_description": "The code is incorrect or expired."}),
        );
    }
    Json(json!({"access_token": "gho_x", "token_type": "bearer", "scope": "read:org"}))
}

async fn user(State(stand): State<Stand>, headers: HeaderMap) -> Response {
    match stand.known(&headers) {
        Some(p) => {
            Json(json!({"id": p.id, "login": p.login, "name": p.name, "email": "x@example.com"})).into_response()
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn orgs(State(stand): State<Stand>, headers: HeaderMap) -> Json<Value> {
    let teams = stand.known(&headers).map(|p| p.teams).unwrap_or_default();
    Json(teams.iter().map(|(org, ..)| json!({"login": org})).collect())
}

/// One team a page.
async fn teams(State(stand): State<Stand>, Query(query): Query<Pairs>, headers: HeaderMap) -> Response {
    let teams = stand.known(&headers).map(|p| p.teams).unwrap_or_default();
    let page: usize = query.get("page").map_or(1, |p| p.parse().unwrap());
    let found: Vec<Value> = teams
        .iter()
        .skip(page - 1)
        .take(1)
        .map(|(org, name, slug)| json!({"name": name, "slug": slug, "organization": {"login": org}}))
        .collect();
    let next = format!("<{}/api/v3/user/teams?per_page=100&page={}>; rel=\"next\"", stand.url, page + 1);
    let mut answer = Json(found).into_response();
    if page < teams.len() {
        answer.headers_mut().insert(header::LINK, next.parse().unwrap());
    }
    answer
}

pub async fn world(stand: &Stand) -> World {
    let flags = ["--external-url", EXTERNAL, "--github-client-id", "ci", "--github-client-secret", "hush"];
    World::with(&[&flags[..], &["--github-host", &stand.url]].concat()).await
}

pub fn person(id: u64, login: &'static str, name: &'static str) -> Person {
    Person { id, login, name, teams: Vec::new() }
}

#[tokio::test]
async fn logins_orgs_and_teams_give_roles_and_names_do_not() {
    let stand = Stand::start().await;
    let world = world(&stand).await;
    let auth = json!({"auth": {"owner": {"users": ["github:Alice"]}, "member": {"groups": ["github:org:dev-team"]},
        "viewer": {"groups": ["github:org"]}}});
    let answer = world.admin().await.put("/api/v1/teams/alpha").json(&auth).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    for (who, expected) in [
        (person(7, "alice", "A. Lice"), json!({"alpha": ["owner"]})),
        (person(8, "mallory", "alice"), json!({})),
        (person(9, "github:alice", "Alice"), json!({})),
        (
            Person { teams: vec![("org", "Ops", "ops"), ("org", "Dev Team", "dev-team")], ..person(10, "bob", "Bob") },
            json!({"alpha": ["member", "viewer"]}),
        ),
        (Person { teams: vec![("org2", "dev-team", "dev-team")], ..person(11, "carl", "org:dev-team") }, json!({})),
        (
            Person { teams: vec![("org", "dev-team", "dev-team-1")], ..person(12, "dora", "Dora") },
            json!({"alpha": ["viewer"]}),
        ),
    ] {
        stand.is(who.clone());
        let mut browser = Browser::new(&world);
        let answer = browser.sign_in("github", "/teams/alpha/members").await;
        assert_eq!(answer.headers()["location"], "/teams/alpha/members", "{}", who.login);
        let user = browser.user().await;
        assert_eq!((&user["teams"], &user["connector"]), (&expected, &json!("github")), "{}", who.login);
        assert_eq!((&user["user_id"], &user["user_name"]), (&json!(who.id.to_string()), &json!(who.login)));
    }
}

#[tokio::test]
async fn groups_are_read_again_at_the_next_sign_in_and_their_age_is_told() {
    let stand = Stand::start().await;
    let world = world(&stand).await;
    let auth = json!({"auth": {"viewer": {"groups": ["github:org"]}, "owner": {"users": ["local:ann"]}}});
    world.admin().await.put("/api/v1/teams/alpha").json(&auth).send().await.unwrap();
    stand.is(Person { teams: vec![("org", "t", "t")], ..person(7, "alice", "") });
    let mut browser = Browser::new(&world);
    browser.sign_in("github", "/").await;
    let before = browser.user().await;
    assert_eq!((&before["teams"], &before["groups"]), (&json!({"alpha": ["viewer"]}), &json!(["org", "org:t"])));
    stand.is(person(7, "alice", ""));
    world.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(browser.user().await["groups_read_at"], before["groups_read_at"]);
    let page = world.sign_in("ann").await.get("/teams/alpha/members").await.text().await.unwrap();
    assert!(page.contains("alice") && page.contains("10m ago"), "{page}");
    let mut again = Browser::new(&world);
    again.sign_in("github", "/").await;
    assert_eq!(again.user().await["teams"], json!({}));
}

#[tokio::test]
async fn the_page_offers_each_way_and_the_client_gets_its_token() {
    let stand = Stand::start().await;
    let world = world(&stand).await;
    stand.is(person(7, "alice", ""));
    let mut browser = Browser::new(&world);
    let form = browser.walk("/login?fly_port=4444", &format!("{EXTERNAL}/sky/login")).await;
    let page = browser.get(&form).await.text().await.unwrap();
    assert!(page.contains("Sign in with GitHub") && page.contains("name=\"password\""), "{page}");
    let answer = browser.sign_in("github", "/fly_success?fly_port=4444").await;
    let location = browser.location(&answer);
    assert_eq!(location, format!("{EXTERNAL}/fly_success?fly_port=4444"));
    let page = browser.get(&location).await.text().await.unwrap();
    assert!(page.contains("http://127.0.0.1:4444/?token=bearer%20"), "{page}");
}
