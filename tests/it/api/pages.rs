//! The wall between teams on the pages: every page and every form of the router, by strangers; and forms that another
//! site has filled in.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use whistlestop::auth::Claims;
use whistlestop::auth::action::Method as Verb;
use whistlestop::front::{PageRoute, Routes, csrf_of, query_escape};
use whistlestop::store::token::TokenKind;

use super::matrix::{Things, fill, fresh, world};
use super::walls::rows_of;
use crate::world::World;

/// Somebody with a browser.
struct Reader {
    client: Client,
    base: String,
    cookies: Option<String>,
    csrf: String,
}

impl Reader {
    fn nobody(world: &World) -> Reader {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Reader { client, base: world.url(""), cookies: None, csrf: String::new() }
    }

    async fn new(world: &World, name: &str) -> Reader {
        let claims: Claims = world.app().login.password(name, name).await.unwrap().unwrap().unwrap();
        let issued = world.app().login.issue(claims, TokenKind::Browser, String::new()).await.unwrap();
        // A cookie that another host of the domain has set is no token.
        let cookies = format!("skymarshal_auth=\"bearer {}\"; skymarshal_csrf=guess", issued.token);
        Reader { cookies: Some(cookies), csrf: csrf_of(&issued.token), ..Reader::nobody(world) }
    }

    fn request(&self, route: &PageRoute, path: &str, csrf: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        let fields = [("csrf_token", csrf), ("name", "n"), ("value", "v"), ("comment", "c"), ("role", "viewer")];
        let request = match route.method {
            Verb::Get => self.client.get(url).header("accept", "text/html"),
            _ => self.client.post(url).form(&fields),
        };
        match &self.cookies {
            Some(cookies) => request.header("cookie", cookies),
            None => request,
        }
    }

    /// What is answered, without the address that was asked for.
    async fn said(&self, route: &PageRoute, path: &str) -> (u16, String) {
        let answer = self.request(route, path, &self.csrf).send().await.unwrap();
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").map_or("", |l| l.to_str().unwrap()).to_owned();
        let text = match (route.path.contains("/live"), status) {
            // It goes on for ever; its beginning is the page.
            (true, 200) => {
                let mut body = answer.bytes_stream();
                let first = tokio::time::timeout(Duration::from_secs(60), body.next()).await.unwrap();
                String::from_utf8_lossy(&first.unwrap().unwrap()).into_owned()
            }
            _ => answer.text().await.unwrap(),
        };
        let text = format!("{location}\n{text}");
        (status, text.replace(&query_escape(path), "PATH").replace(path, "PATH"))
    }
}

/// An address of the route in a team, with alpha's names or such that nothing has.
fn address(route: &PageRoute, things: &Things, team: &str, theirs: bool) -> String {
    fill(&route.path, |name| {
        let named = match name {
            "team_name" => return team.to_owned(),
            "pipeline_name" => "p".to_owned(),
            "job_name" => "j".to_owned(),
            "resource_name" => "r".to_owned(),
            "build_id" => things.build.to_string(),
            "version_id" => things.version.to_string(),
            "build_name" => "1".to_owned(),
            // Of anything else there is none.
            _ => return "1".to_owned(),
        };
        match (theirs, named.parse::<i64>()) {
            (true, _) => named,
            (false, Ok(_)) => "987654".to_owned(),
            (false, Err(_)) => "zz".to_owned(),
        }
    })
}

fn routes(world: &World) -> Vec<PageRoute> {
    let routes = whistlestop::web::routes(whistlestop::api::routes(Routes::new(world.app().clone())));
    let pages = routes.pages().to_vec();
    assert!(pages.len() > 40, "{}", pages.len());
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_tells_a_stranger_what_is_there() {
    let world = world().await;
    let things = world.app().store.write(|tx| fresh(tx, "alpha", false)).await.unwrap();
    let before = world.app().store.read(|tx| Ok(rows_of(tx, "alpha"))).await.unwrap();
    for (reader, who) in [(Reader::nobody(&world), "nobody"), (Reader::new(&world, "bob").await, "bob")] {
        for route in routes(&world) {
            let alpha = address(&route, &things, "alpha", true);
            let said = reader.said(&route, &alpha).await;
            assert!(!said.1.contains("alpha"), "{alpha} by {who}: {said:?}");
            if !alpha.contains("/1") && !route.path.contains('{') {
                continue;
            }
            for (team, theirs) in [("alpha", false), ("nowhere", true), ("nowhere", false)] {
                let other = address(&route, &things, team, theirs);
                assert_eq!(said, reader.said(&route, &other).await, "{alpha} and {other} by {who}");
            }
            let (theirs, absent) = (address(&route, &things, "beta", true), address(&route, &things, "beta", false));
            if route.path.contains("{team_name}") && theirs != absent {
                let said = (reader.said(&route, &theirs).await, reader.said(&route, &absent).await);
                assert_eq!(said.0, said.1, "{theirs} and {absent} by {who}");
            }
        }
    }
    let after = world.app().store.read(|tx| Ok(rows_of(tx, "alpha"))).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_another_site_has_filled_in_changes_nothing() {
    let world = world().await;
    let things = world.app().store.write(|tx| fresh(tx, "alpha", false)).await.unwrap();
    let ann = Reader::new(&world, "ann").await;
    let rows = async || world.app().store.read(|tx| Ok(rows_of(tx, "alpha"))).await.unwrap();
    let before = rows().await;
    for route in routes(&world).iter().filter(|r| r.method != Verb::Get) {
        let path = address(route, &things, "alpha", true);
        for csrf in ["", "guess"] {
            let answer = ann.request(route, &path, csrf).send().await.unwrap();
            let location = answer.headers().get("location").map_or("", |l| l.to_str().unwrap()).to_owned();
            let refused = answer.status() == 302 && location.starts_with("/sky/login");
            assert!(refused || answer.status().is_client_error(), "{path}: {} {location}", answer.status());
        }
        assert_eq!(before, rows().await, "{path}");
    }
    // The same forms with the session's own token do.
    let pause = routes(&world).into_iter().find(|r| r.path.ends_with("{pipeline_name}/unpause")).unwrap();
    let path = address(&pause, &things, "alpha", true);
    assert_eq!(ann.request(&pause, &path, &ann.csrf).send().await.unwrap().status(), 303);
    assert_ne!(before, rows().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_a_build_is_not_told_why_it_waits() {
    let world = world().await;
    world.app().store.write(|tx| fresh(tx, "alpha", true)).await.unwrap();
    let owner = world.sign_in("ann").await;
    let job = "/api/v1/teams/alpha/pipelines/p/jobs/j";
    assert_eq!(owner.put(&format!("{job}/pause")).send().await.unwrap().status(), 200);
    let build: serde_json::Value = owner.post(&format!("{job}/builds")).send().await.unwrap().json().await.unwrap();
    let page = async |reader: &Reader| {
        let path = format!("{}/builds/{}", reader.base, build["id"]);
        let request = reader.client.get(path).header("accept", "text/html");
        let request = match &reader.cookies {
            Some(cookies) => request.header("cookie", cookies),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    };
    let told = page(&Reader::new(&world, "ann").await).await;
    assert!(told.contains("the job is paused by ann"), "{told}");
    for reader in [Reader::nobody(&world), Reader::new(&world, "bob").await] {
        let hidden = page(&reader).await;
        assert!(!hidden.contains("paused by") && !hidden.contains("moved by"), "{hidden}");
    }
}
