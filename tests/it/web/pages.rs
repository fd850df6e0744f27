//! What holds for every page, and what the buttons and live streams do.

use futures_util::StreamExt;
use reqwest::Client;
use reqwest::redirect::Policy;
use whistlestop::auth::Claims;
use whistlestop::event::{Event, Origin};
use whistlestop::front::csrf_of;
use whistlestop::store::token::TokenKind;

use super::seed::{self, Seeded};
use crate::world::World;

/// A browser that has signed in as `admin`.
pub struct Browser {
    client: Client,
    base: String,
    cookies: String,
    /// What its forms repeat.
    csrf: String,
}

impl Browser {
    /// Signs in.
    pub async fn new(world: &World) -> Browser {
        let claims: Claims = world.app().login.password("admin", "admin").await.unwrap().unwrap().unwrap();
        let issued = world.app().login.issue(claims, TokenKind::Browser, String::new()).await.unwrap();
        let cookies = format!("skymarshal_auth=\"bearer {}\"", issued.token);
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Browser { client, base: world.url(""), cookies, csrf: csrf_of(&issued.token) }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base)).header("accept", "text/html");
        request.header("cookie", &self.cookies).send().await.unwrap()
    }

    /// The text of a page that must be there.
    pub async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        answer.text().await.unwrap()
    }

    /// Presses a button.
    pub async fn post(&self, path: &str, csrf: &str) -> reqwest::Response {
        let form = [("csrf_token", csrf), ("back", "/teams/main/pipelines/delivery")];
        let request = self.client.post(format!("{}{path}", self.base)).header("cookie", &self.cookies);
        request.form(&form).send().await.unwrap()
    }
}

/// Addresses of all pages, with a name for each.
pub fn addresses(seeded: &Seeded) -> Vec<(&'static str, String)> {
    let p = "/teams/main/pipelines/delivery";
    vec![
        ("dashboard", "/".into()),
        ("search", "/?search=status%3Afailed".into()),
        ("nothing", "/?search=zzz".into()),
        ("pipeline", p.into()),
        ("group", format!("{p}?group=release")),
        ("chain", "/teams/main/pipelines/docs".into()),
        ("instance", "/teams/main/pipelines/branches?vars.branch=%22main%22".into()),
        ("empty-pipeline", "/teams/main/pipelines/empty".into()),
        ("job", format!("{p}/jobs/unit")),
        ("job-waiting", format!("{p}/jobs/publish")),
        ("build-failed", format!("/builds/{}", seeded.failed)),
        ("build-running", format!("/builds/{}", seeded.running)),
        ("build-pending", format!("/builds/{}", seeded.pending)),
        ("build-latest", format!("{p}/jobs/unit/builds/latest")),
        ("resource", format!("{p}/resources/app-source")),
        ("resource-broken", format!("{p}/resources/version")),
        ("resource-new", format!("{p}/resources/nightly")),
        ("download", "/download-fly".into()),
    ]
}

#[tokio::test]
async fn every_page_is_whole_and_nothing_in_it_is_inline() {
    let world = World::new().await;
    let seeded = seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    for (name, address) in addresses(&seeded) {
        let page = browser.page(&address).await;
        assert!(page.trim_end().ends_with("</html>"), "{name}");
        assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains("onclick"), "{name}");
        assert!(!page.contains("<script>"), "{name}: only modules with a source");
        for (open, close) in
            [("<section", "</section>"), ("<div", "</div>"), ("<details", "</details>"), ("<a ", "</a>")]
        {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{name}: {open}");
        }
    }
}

#[tokio::test]
async fn who_may_not_is_sent_to_sign_in_or_told() {
    let world = World::new().await;
    let seeded = seed::fill(world.app()).await;
    let anonymous = world.anonymous();
    let private = anonymous.get("/teams/main/pipelines/delivery").await;
    assert_eq!(private.status(), 302);
    assert!(private.headers()["location"].to_str().unwrap().starts_with("/sky/login?redirect_uri=%2Fteams"));
    let dashboard = anonymous.get("/").await.text().await.unwrap();
    assert!(dashboard.contains("website") && !dashboard.contains("delivery"), "only what is public");
    assert_eq!(anonymous.get("/teams/main/pipelines/website").await.status(), 200);
    let browser = Browser::new(&world).await;
    let missing = browser.get("/teams/main/pipelines/delivery/jobs/nope").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("There is nothing here"));
    assert_eq!(anonymous.get(&format!("/builds/{}/log.txt", seeded.failed)).await.status(), 302);
}

#[tokio::test]
async fn buttons_do_what_they_say_and_only_with_their_token() {
    let world = World::new().await;
    seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    let p = "/teams/main/pipelines/delivery";
    assert_eq!(browser.post(&format!("{p}/pause"), "wrong").await.status(), 302, "without its token: sign in again");
    assert!(!browser.page(p).await.contains("paused by admin"));
    let answer = browser.post(&format!("{p}/pause"), &browser.csrf).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, p));
    assert!(browser.page(p).await.contains("paused by admin"));
    assert_eq!(browser.post(&format!("{p}/unpause"), &browser.csrf).await.status(), 303);
    let made = browser.post(&format!("{p}/jobs/unit/trigger"), &browser.csrf).await;
    assert_eq!(made.headers()["location"], format!("{p}/jobs/unit/builds/20"));
    assert!(browser.page(&format!("{p}/jobs/unit/builds/20")).await.contains("Why this build has not started"));
    let rerun = browser.post(&format!("{p}/jobs/unit/builds/3/rerun"), &browser.csrf).await;
    assert_eq!(rerun.headers()["location"], format!("{p}/jobs/unit/builds/3.1"));
    let refused = browser.post(&format!("{p}/jobs/publish/trigger"), &browser.csrf).await;
    assert_eq!(refused.status(), 409);
    assert!(refused.text().await.unwrap().contains("disable_manual_trigger"));
    assert_eq!(browser.post(&format!("{p}/resources/version/check"), &browser.csrf).await.status(), 303);
    assert_eq!(browser.post(&format!("{p}/resources/app-source/unpin"), &browser.csrf).await.status(), 303);
    assert!(!browser.page(&format!("{p}/resources/app-source")).await.contains("until the flaky parser"));
}

/// Reads a stream until its text holds `needle`.
async fn until(answer: reqwest::Response, needle: &str) -> String {
    assert_eq!(answer.status(), 200);
    let mut text = String::new();
    let mut stream = answer.bytes_stream();
    let read = async {
        while let Some(Ok(piece)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&piece));
            if text.contains(needle) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), read)
        .await
        .unwrap_or_else(|_| panic!("no {needle}: {text}"));
    assert!(text.contains(needle), "{text}");
    text
}

#[tokio::test]
async fn a_running_build_sends_what_is_new_as_html() {
    let world = World::new().await;
    let seeded = seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    let page = browser.page(&format!("/builds/{}", seeded.running)).await;
    let (_, rest) = page.split_once("data-live=\"").unwrap();
    let live = rest.split('"').next().unwrap().replace("&#38;", "&");
    let stream = browser.get(&live).await;
    let log = world.app().feed.open(seeded.running).await.unwrap();
    log.emit(&Origin::step("a8"), &Event::Log("fresh <b>\n".into())).await.unwrap();
    let text = until(stream, "fresh").await;
    assert!(text.contains("fresh &#60;b&#62;") && text.contains("step-a8-log"), "{text}");
    assert!(!text.contains("case_00"), "what the page has is not sent again");
}

#[tokio::test]
async fn a_page_hears_of_changes() {
    let world = World::new().await;
    seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    let page = browser.page("/teams/main/pipelines/delivery").await;
    let (_, rest) = page.split_once("data-live=\"").unwrap();
    let live = rest.split('"').next().unwrap().replace("&#38;", "&");
    let stream = browser.get(&live).await;
    browser.post("/teams/main/pipelines/delivery/pause", &browser.csrf).await;
    until(stream, "paused by admin").await;
}

#[tokio::test]
async fn the_raw_log_names_its_steps() {
    let world = World::new().await;
    let seeded = seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    let log = browser.get(&format!("/builds/{}/log.txt", seeded.failed)).await.text().await.unwrap();
    assert!(log.starts_with("== get app-source\nCloning into"), "{log}");
    assert!(log.contains("== task release-lock\nreleased\n"), "{log}");
}

#[tokio::test]
async fn two_and_a_half_thousand_jobs_are_a_matter_of_milliseconds() {
    let world = World::new().await;
    let many = world.app().store.write(|tx| {
        for i in 0..250 {
            let jobs: Vec<serde_json::Value> = (0..10)
                .map(|j| {
                    let passed = if j == 0 { vec![] } else { vec![format!("job-{}", j / 2)] };
                    let passed: Vec<String> = passed.into_iter().filter(|p| *p != format!("job-{j}")).collect();
                    serde_json::json!({"name": format!("job-{j}"), "plan": [{"get": "code", "passed": passed}]})
                })
                .collect();
            let config =
                serde_json::json!({"resources": [{"name": "code", "type": "git", "source": {}}], "jobs": jobs});
            seed::set(tx, &format!("pipeline-{i}"), None, config);
        }
        Ok(())
    });
    many.await.unwrap();
    let browser = Browser::new(&world).await;
    let page = browser.page("/").await;
    assert_eq!(page.matches("class=\"cell").count(), 2500);
    let mut best = std::time::Duration::MAX;
    for _ in 0..5 {
        let began = std::time::Instant::now();
        browser.page("/").await;
        best = best.min(began.elapsed());
    }
    println!("dashboard of 250 pipelines and 2,500 jobs: {best:?} (debug build)");
    assert!(best < std::time::Duration::from_secs(2), "{best:?}");
}
