//! The pipelines `kitchen` and `inside`, whose builds a real Concourse has run and recorded: each of our builds ends as
//! recorded, with the same events in the same order for each step. Where the recordings are not there, these tests say
//! so and pass.
//!
//! Left out are ids, times, the lines about caches and locks, and the texts of errors. Steps side by side interleave by
//! chance, so that each step is compared for itself.

use std::collections::BTreeMap;

use regex::Regex;
use reqwest::Method;
use serde_json::Value;

use super::world::{PATIENCE, Runtime, World, until};
use crate::corpus::wire;

/// What is told of one step: events with their outcomes, and its log.
type Told = (Vec<String>, String);

/// The steps of a stream, sorted.
fn steps(stream: &str) -> Vec<Told> {
    let mut steps: BTreeMap<String, Told> = BTreeMap::new();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let event: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        let (name, data) = (event["event"].as_str().unwrap(), &event["data"]);
        let step = steps.entry(data["origin"]["id"].as_str().unwrap_or_default().to_owned()).or_default();
        if name == "log" {
            let text = data["payload"].as_str().unwrap();
            if !text.starts_with("\u{1b}[1;36mINFO: ") && text != "\n" {
                step.1 += text;
            }
            continue;
        }
        let outcome = data.get("exit_status").or(data.get("status")).or(data.get("succeeded"));
        step.0.push(format!("{name} {}", outcome.map(ToString::to_string).unwrap_or_default()));
    }
    let mut told: Vec<Told> = steps.into_values().map(settled).collect();
    told.sort();
    told
}

/// Without what depends on chance: whether a get ran or was found done, and on which day.
fn settled((mut events, mut log): Told) -> Told {
    if events.iter().any(|e| e.starts_with("initialize-get")) {
        events.retain(|e| !e.starts_with("selected-worker"));
        log.clear();
    }
    // A limit that was reached is told, which Concourse does not do.
    log = log
        .lines()
        .filter(|line| !line.starts_with("out of memory: "))
        .fold(String::new(), |all, line| all + line + "\n");
    for (pattern, with) in [(r"(/tmp/build/)[0-9a-f]{8}", "${1}HEX"), (r"http://[\w.:]+", "URL"), (r"[ \t]+", " ")] {
        log = Regex::new(pattern).unwrap().replace_all(&log, with).into_owned();
    }
    (events, log)
}

impl World {
    /// All events of a build, as they go over the wire.
    async fn stream(&self, build: i64) -> String {
        self.stream_to(build, "event: end").await
    }

    /// The events of a build until they hold a text.
    async fn stream_to(&self, build: i64, last: &str) -> String {
        let mut answer = self.request(Method::GET, &format!("/api/v1/builds/{build}/events")).send().await.unwrap();
        let mut text = String::new();
        while !text.contains(last) {
            let chunk = tokio::time::timeout(PATIENCE, answer.chunk()).await.expect("the stream goes on").unwrap();
            text += std::str::from_utf8(&chunk.expect("the stream ends with an event")).unwrap();
        }
        text
    }

    /// A build by name, once it is there.
    async fn named(&self, pipeline: &str, job: &str, name: &str) -> i64 {
        let what = format!("{job} {name}");
        let found = until(&what, PATIENCE, async || {
            let builds = self.builds(pipeline, job).await;
            builds.iter().find(|b| b["name"] == name).and_then(|b| b["id"].as_i64())
        });
        found.await
    }

    /// Compares a build that has ended, or ends now, with its recording.
    async fn compare(&self, build: i64, folder: &str, name: &str) -> Option<String> {
        let folder = wire().unwrap().join(folder);
        let (here, stream) = (self.finish(build).await, self.stream(build).await);
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let events = std::fs::read_to_string(folder.join(format!("events/{name}.sse"))).unwrap();
        let (want, got) = (steps(&events), steps(&stream));
        let status = recorded["body"]["status"].as_str().unwrap();
        let mut wrong = String::new();
        if here != status {
            wrong += &format!("  it {here}, recorded is {status}\n");
        }
        want.iter().filter(|s| !got.contains(s)).for_each(|s| wrong += &format!("  recorded only: {s:?}\n"));
        got.iter().filter(|s| !want.contains(s)).for_each(|s| wrong += &format!("  here only:     {s:?}\n"));
        (!wrong.is_empty()).then(|| format!("{name}:\n{wrong}"))
    }
}

const FLAGS: &[&str] = &["--allow-host-rootfs"];

#[tokio::test(flavor = "multi_thread")]
async fn the_builds_of_the_kitchen_end_as_recorded() {
    let Some(wire) = wire() else { return };
    let world = World::new(Runtime::Embedded, FLAGS).await;
    // What waits for others does so for a shorter time.
    let config = std::fs::read_to_string(wire.join("world/kitchen.yml")).unwrap().replace("[\"25\"]", "[\"1\"]");
    world.pipeline("kitchen", &config).await;
    world.fly(&["check-resource", "-r", "kitchen/code"]).await;
    let mut wrong = Vec::new();
    for job in ["unit", "ship-made", "ship-again"] {
        let build = world.named("kitchen", job, "1").await;
        wrong.extend(world.compare(build, "build", &format!("{job}-1")).await);
    }
    for job in ["fails", "breaks", "retries", "matrix", "dynamic", "too-slow", "tolerant", "from-file", "held", "held"]
    {
        let build = world.trigger("kitchen", job).await;
        let name = world.api(&format!("builds/{build}")).await["name"].as_str().unwrap().to_owned();
        wrong.extend(world.compare(build, "build", &format!("{job}-{name}")).await);
    }
    let slow = world.trigger("kitchen", "slow").await;
    // The command's own text, which holds the word too, is told before.
    world.stream_to(slow, r#""payload":"waiting"#).await;
    world.fly(&["abort-build", "-b", &slow.to_string()]).await;
    wrong.extend(world.compare(slow, "build", "slow-1").await);
    world.fly(&["rerun-build", "-j", "kitchen/unit", "-b", "1"]).await;
    let again = world.named("kitchen", "unit", "1.1").await;
    wrong.extend(world.compare(again, "build", "unit-1.1").await);
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

/// Jobs of `inside` whose recordings hang on chance, or on the machine or the image they were made with.
const BY_CHANCE: [&str; 4] = ["task", "retry-then-good", "priv", "user"];

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_inside_steps_goes_wrong_as_recorded() {
    let Some(wire) = wire() else { return };
    let world = World::new(Runtime::Embedded, FLAGS).await;
    let config = std::fs::read_to_string(wire.join("world/inside.yml")).unwrap();
    world.pipeline("inside", &config).await;
    let jobs = world.api("teams/main/pipelines/inside/jobs").await;
    let mut wrong = Vec::new();
    for job in jobs.as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap()) {
        if BY_CHANCE.contains(&job) {
            continue;
        }
        let build = world.trigger("inside", job).await;
        wrong.extend(world.compare(build, "inside", job).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
