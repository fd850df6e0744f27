//! The pages in a real browser, from signing in to the end of a build.

use serde_json::json;

use super::chromium::Browser;
use super::push::Scene as Push;
use super::remote::Transport;
use super::world::{PATIENCE, Runtime, World};

const SLOW: &str = r"
resources:
- {name: thing, type: mock, source: {initial_version: v1}}
jobs:
- name: slow
  plan:
  - get: thing
  - task: count
    config:
      platform: linux
      rootfs_uri: host:///
      run:
        path: sh
        args: [-c, 'i=1; while [ $i -le 3000 ]; do echo line $i; i=$((i+1)); sleep 0.02; done']
- name: quick
  plan:
  - get: thing
    passed: [slow]
  - task: greet
    config:
      platform: linux
      rootfs_uri: host:///
      run: {path: echo, args: [a finished log]}
";

async fn sign_in(browser: &mut Browser, world: &World) {
    let (name, password) = world.credentials();
    browser.open(&world.url("/")).await;
    browser.follow("header a[href*=login]").await;
    browser.fill("#login", name).await;
    browser.fill("#password", password).await;
    browser.follow("form[action='/sky/login'] button").await;
    browser.shows("header", name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_started_watched_and_aborted_from_its_pages() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", SLOW).await;
    let mut browser = Browser::new().await;
    sign_in(&mut browser, &world).await;
    browser.shows("main", "p").await;

    browser.follow("main a[href='/teams/main/pipelines/p']").await;
    browser.wait("document.querySelector('svg.graph a[href*=\"/jobs/slow\"]')").await;
    // From left to right: what a job needs stands before it.
    let left =
        |name: &str| format!("document.querySelector('svg.graph a[href$=\"/{name}\"]').getBoundingClientRect().x");
    let places = format!("[{}, {}, {}]", left("resources/thing"), left("jobs/slow"), left("jobs/quick"));
    let order: Vec<f64> = serde_json::from_value(browser.value(&places).await).unwrap();
    assert!(order.is_sorted() && order[0] < order[2], "{order:?}");

    browser.follow("svg.graph a[href*='/jobs/slow']").await;
    browser.follow("button[data-key=T]").await;
    browser.value("window.sameDocument = true").await;
    browser.shows("#build-steps", "line 5\n").await;
    browser.shows("#build-steps", "line 40\n").await;
    assert_eq!(browser.value("window.sameDocument").await, true, "the log came by loading the page again");
    assert_eq!(browser.text("#build-head .pill").await, "running");

    browser.click("button[data-key=A]").await;
    browser.wait("document.querySelector('#build-head .pill')?.innerText === 'aborted'").await;
    assert_eq!(world.builds("p", "slow").await[0]["status"], "aborted");

    browser.open(&world.url("/teams/main/pipelines/p/resources/thing")).await;
    browser.shows("main", "v1").await;
    assert_eq!(browser.complaints, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_build_is_read_without_script() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", &SLOW.replace("    passed: [slow]\n", "")).await;
    let build = world.trigger("p", "quick").await;
    assert_eq!(world.finish(build).await, "succeeded");
    let mut browser = Browser::new().await;
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    sign_in(&mut browser, &world).await;
    for path in ["/teams/main/pipelines/p/jobs/quick/builds/1".to_owned(), format!("/builds/{build}")] {
        browser.open(&world.url(&path)).await;
        browser.shows("#build-head", "succeeded").await;
        browser.wait("document.querySelector('#build-steps').textContent.includes('a finished log')").await;
        assert_eq!(browser.value("document.documentElement.classList.contains('has-script')").await, false);
    }
    browser.open(&world.url("/teams/main/pipelines/p")).await;
    browser.follow("svg.graph a[href*='/jobs/quick']").await;
    browser.follow("button[data-key=T]").await;
    assert_eq!(world.builds("p", "quick").await.len(), 2);
    assert_eq!(browser.complaints, [""; 0]);
}

/// The job's page is open when somebody commits; the build appears in it, and its own page shows it to its end.
async fn a_push_is_watched(runtime: Runtime) {
    let scene = Push::new(runtime, Transport::Http).await;
    let mut browser = Browser::new().await;
    sign_in(&mut browser, &scene.world).await;
    scene.world.fly(&["unpause-pipeline", "-p", "release"]).await;
    let first = scene.build(1, PATIENCE).await;
    assert_eq!(scene.world.finish(first).await, "succeeded");
    browser.open(&scene.world.url("/teams/main/pipelines/release/jobs/tag")).await;
    browser.value("window.sameDocument = true").await;
    scene.remote.commit("seen in a browser").await;
    scene.world.fly(&["check-resource", "-r", "release/repo"]).await;
    browser.wait("document.querySelector('main a[href$=\"/builds/2\"]')").await;
    assert_eq!(browser.value("window.sameDocument").await, true, "the build came by loading the page again");
    browser.follow("main a[href$='/builds/2']").await;
    browser.wait("document.querySelector('#build-head .pill')?.innerText === 'succeeded'").await;
    browser.wait("document.querySelector('#build-steps').textContent.includes('testing seen in a browser')").await;
    assert!(!browser.text("main").await.contains("undefined"));
    assert_eq!(scene.remote.tags().await.len(), 2);
    browser.open(&scene.world.url("/teams/main/pipelines/release/resources/repo")).await;
    browser.wait("document.querySelector('main').textContent.includes('seen in a browser')").await;
    assert_eq!(browser.complaints, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_watched_on_the_embedded_runtime() {
    a_push_is_watched(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_watched_in_docker() {
    a_push_is_watched(Runtime::Docker).await;
}
