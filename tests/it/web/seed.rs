//! A database with everything that pages show: pipelines in every state, builds of every outcome, their logs.

use serde_json::{Value, json};
use whistlestop::base::clock::Time;
use whistlestop::base::id::{BuildId, JobId, PipelineId, TeamId};
use whistlestop::base::version::{MetadataField, Version};
use whistlestop::event::{Event, Origin};
use whistlestop::front::App;
use whistlestop::pipeline::Object;
use whistlestop::store::WriteTx;
use whistlestop::store::build::Status;
use whistlestop::store::config::{SaveConfig, SavedConfig};
use whistlestop::store::finish::{Start, StartInput};
use whistlestop::store::next_input::NextInput;
use whistlestop::store::pipeline::PipelineRef;

use crate::world::NOW;

/// Minutes before now.
pub fn ago(minutes: i64) -> Time {
    Time(NOW.0 - minutes * 60_000)
}

/// Saves a pipeline of team `main`.
pub fn set(tx: &WriteTx<'_>, name: &str, vars: Option<Value>, config: Value) -> PipelineId {
    let team: TeamId = tx.ensure_main(None).unwrap();
    let instance_vars: Option<Object> = vars.and_then(|v| v.as_object().cloned());
    let pipeline = PipelineRef { name: name.to_owned(), instance_vars };
    let config = serde_json::from_value(config).unwrap();
    let save = SaveConfig {
        team,
        pipeline: &pipeline,
        config: &config,
        from_version: 0,
        paused_if_new: false,
        parent: None,
        now: ago(600),
    };
    match tx.save_config(&save).unwrap() {
        SavedConfig::Saved { pipeline, .. } => pipeline,
        other => panic!("not saved: {other:?}"),
    }
}

fn job(tx: &WriteTx<'_>, pipeline: PipelineId, name: &str) -> JobId {
    tx.find_job(pipeline, name).unwrap().unwrap().id
}

/// A build that has started, and ended if a status is given.
pub fn build(
    tx: &WriteTx<'_>,
    pipeline: PipelineId,
    name: &str,
    at: Time,
    plan: &Value,
    end: Option<Status>,
) -> BuildId {
    let build = tx.create_manual_build(job(tx, pipeline, name), "alice", at).unwrap();
    let inputs: Vec<StartInput> = tx
        .job_inputs(job(tx, pipeline, name))
        .unwrap()
        .into_iter()
        .map(|i| StartInput {
            name: i.name,
            resource_id: i.resource_id,
            version: commit(at.0 / 60_000),
            first_occurrence: true,
            from_builds: vec![],
        })
        .collect();
    let text = plan.to_string();
    let start = Start { build, plan: &text, public_plan: &text, inputs: &inputs, now: Time(at.0 + 2000) };
    assert!(tx.start_build(&start).unwrap());
    if let Some(status) = end {
        tx.finish_build(build, status, Time(at.0 + 95_000)).unwrap();
    }
    build
}

/// A version like git's.
pub fn commit(n: i64) -> Version {
    Version::from([("ref", format!("{:040x}", n * 7_919_000_003_i64).as_str())])
}

fn get(name: &str, trigger: bool, passed: &[&str]) -> Value {
    json!({"get": name, "trigger": trigger, "passed": passed})
}

fn task(name: &str) -> Value {
    json!({"task": name, "file": "repo/ci/task.yml"})
}

/// A pipeline with a bit of everything.
pub fn delivery() -> Value {
    let resource =
        |name: &str, kind: &str| json!({"name": name, "type": kind, "source": {"uri": "https://example.com/x"}});
    json!({
        "groups": [
            {"name": "all", "jobs": ["*"]},
            {"name": "release", "jobs": ["publish", "release-*"]},
        ],
        "resources": [
            resource("app-source", "git"), resource("ci-tools", "git"), resource("version", "semver"),
            resource("app-image", "registry-image"), resource("nightly", "time"), resource("staging-lock", "pool"),
            resource("release-notes-for-every-region-and-language", "github-release"),
        ],
        "jobs": [
            {"name": "unit", "plan": [get("app-source", true, &[]), get("ci-tools", false, &[]), task("test")]},
            {"name": "lint", "plan": [get("app-source", true, &[]), task("lint")]},
            {"name": "build-image", "plan": [get("app-source", true, &["unit", "lint"]), get("version", false, &[]),
                {"put": "app-image"}]},
            {"name": "integration", "serial": true, "plan": [get("app-source", true, &["build-image"]),
                get("app-image", true, &["build-image"]), task("test")]},
            {"name": "load", "plan": [get("nightly", true, &[]), get("app-image", false, &["build-image"]), task("load")]},
            {"name": "staging", "serial_groups": ["env"], "plan": [get("app-image", true, &["integration"]),
                get("app-source", false, &["integration"]), {"put": "staging-lock"}, task("deploy")]},
            {"name": "publish", "disable_manual_trigger": true, "plan": [get("app-image", false, &["staging", "load"]),
                get("version", true, &["build-image"]), {"put": "release-notes-for-every-region-and-language"}]},
            {"name": "release-eu", "plan": [get("app-image", false, &["publish"]), task("deploy")]},
            {"name": "release-us", "plan": [get("app-image", false, &["publish"]), get("app-source", false, &["unit"]),
                task("deploy")]},
        ]
    })
}

fn chain(n: usize) -> Value {
    let jobs: Vec<Value> = (0..n)
        .map(|i| {
            let before = if i < 3 { vec![] } else { vec![format!("job-{}", i - 3)] };
            json!({"name": format!("job-{i}"), "plan": [{"get": "code", "trigger": true, "passed": before}]})
        })
        .collect();
    json!({"resources": [{"name": "code", "type": "git", "source": {}}], "jobs": jobs})
}

/// What a build of `unit` is made of.
pub fn plan() -> Value {
    json!({"id": "a0", "do": [
        {"id": "a1", "in_parallel": {"steps": [
            {"id": "a2", "get": {"name": "app-source", "type": "git", "resource": "app-source", "version": {"ref": "4f2a"}}},
            {"id": "a3", "get": {"name": "ci-tools", "type": "git", "resource": "ci-tools", "version": {"ref": "99aa"}}},
        ], "fail_fast": true}},
        {"id": "a4", "retry": [
            {"id": "a5", "timeout": {"step": {"id": "a6", "task": {"name": "test", "privileged": false}}, "duration": "20m"}},
            {"id": "a7", "timeout": {"step": {"id": "a8", "task": {"name": "test", "privileged": false}}, "duration": "20m"}},
        ]},
        {"id": "b0", "ensure": {
            "step": {"id": "b1", "on_failure": {"step": {"id": "b2", "put": {"name": "app-image", "type": "registry-image"}},
                "on_failure": {"id": "b3", "task": {"name": "tell-the-team", "privileged": false}}}},
            "ensure": {"id": "b4", "task": {"name": "release-lock", "privileged": false}}}},
        {"id": "c0", "set_pipeline": {"name": "self", "team": ""}},
    ]})
}

/// Writes a log for [`plan`]; `far` says how far the build got.
pub async fn log(app: &App, build: BuildId, far: usize) {
    let log = app.feed.open(build).await.unwrap();
    let v = || Some(Version::from([("ref", "4f2a90c5b1e7")]));
    let meta = vec![
        MetadataField { name: "author".into(), value: "Ada Lovelace <ada@example.com>".into() },
        MetadataField { name: "message".into(), value: "Speed up the difference engine\n\nTwice as fast.".into() },
        MetadataField { name: "url".into(), value: "https://example.com/app/commit/4f2a90c5b1e7".into() },
    ];
    let mut events: Vec<(&str, Event)> = vec![
        ("a2", Event::InitializeGet),
        ("a3", Event::InitializeGet),
        ("a2", Event::SelectedWorker("w1".into())),
        ("a2", Event::StartGet),
        ("a2", Event::Log("Cloning into '/tmp/build/get'...\r\n\u{1b}[33mHEAD is now at 4f2a90c\u{1b}[0m Speed up\n".into())),
        ("a2", Event::FinishGet { exit_status: 0, version: v(), metadata: meta }),
        ("a3", Event::FinishGet { exit_status: 0, version: v(), metadata: vec![] }),
        ("a6", Event::InitializeTask),
        ("a6", Event::ImageGet(json!({"id": "a6/image-get", "get": {"name": "image", "type": "registry-image"}}))),
        ("a6/image-get", Event::InitializeGet),
        ("a6/image-get", Event::Log("fetching rust@sha256:51be…\n".into())),
        ("a6/image-get", Event::FinishGet { exit_status: 0, version: v(), metadata: vec![] }),
        ("a6", Event::Log("   \u{1b}[1;32mCompiling\u{1b}[0m engine v0.4.1\n".into())),
        ("a6", Event::Log("downloading 10%\rdownloading 60%\rdownloading 100%\n".into())),
        ("a6", Event::Log("test add ... \u{1b}[32mok\u{1b}[0m\ntest <script>alert(1)</script> ... \u{1b}[31mFAILED\u{1b}[0m\n".into())),
        ("a6", Event::Log("\u{1b}[1;31merror\u{1b}[0m: test failed, to rerun pass `--lib`\n\u{1b}[7m inverse \u{1b}[0m \u{1b}[44mblue\u{1b}[0m\n".into())),
        ("a6", Event::FinishTask { exit_status: 101 }),
        ("a8", Event::InitializeTask),
        ("a8", Event::Log("   \u{1b}[1;32mCompiling\u{1b}[0m engine v0.4.1\n".into())),
    ];
    for i in 0..14 {
        events.push(("a8", Event::Log(format!("test case_{i:02} ... \u{1b}[32mok\u{1b}[0m\n"))));
    }
    events.extend([
        ("a8", Event::FinishTask { exit_status: 0 }),
        ("b2", Event::InitializePut),
        (
            "b2",
            Event::Error(
                "the registry at registry.example.com refused the push: quota exceeded for project app".into(),
            ),
        ),
        ("b3", Event::InitializeTask),
        ("b3", Event::FinishTask { exit_status: 0 }),
        ("b4", Event::InitializeTask),
        ("b4", Event::Log("released\n".into())),
        ("b4", Event::FinishTask { exit_status: 0 }),
    ]);
    for (id, event) in events.into_iter().take(far) {
        log.emit(&Origin::step(id), &event).await.unwrap();
    }
    log.flush().await.unwrap();
}

/// Ids that tests ask for.
pub struct Seeded {
    /// Failed, with a full log.
    pub failed: BuildId,
    /// Running, half its log.
    pub running: BuildId,
    /// Waits.
    pub pending: BuildId,
}

fn delivery_builds(tx: &WriteTx<'_>, p: PipelineId) -> Seeded {
    let plan = plan();
    for i in 0..18 {
        let end = [Status::Succeeded, Status::Failed, Status::Succeeded, Status::Aborted, Status::Errored][i % 5];
        build(tx, p, "unit", ago(500 - i as i64 * 20), &plan, Some(end));
    }
    for (job, status) in
        [("lint", Status::Succeeded), ("build-image", Status::Succeeded), ("integration", Status::Failed)]
    {
        build(tx, p, job, ago(90), &plan, Some(status));
    }
    build(tx, p, "load", ago(80), &plan, Some(Status::Errored));
    let failed = build(tx, p, "unit", ago(12), &plan, Some(Status::Failed));
    let running = build(tx, p, "integration", ago(3), &plan, None);
    let pending = tx.create_manual_build(job(tx, p, "integration"), "bob", ago(1)).unwrap();
    tx.pause_job(job(tx, p, "staging"), "carol", ago(2000)).unwrap();
    for (name, error) in [("app-source", None), ("version", Some("git ls-remote: could not read from remote: timeout"))]
    {
        let r = tx.find_resource(p, name).unwrap().unwrap();
        let scope = tx.find_or_create_scope(&format!("{p}/{name}"), r.team_id).unwrap().id;
        tx.set_scope(r.id, scope).unwrap();
        tx.save_checked(scope, &(0..40).map(|i| commit(ago(500 - i * 12).0 / 60_000)).collect::<Vec<_>>()).unwrap();
        tx.check_started(scope, ago(1)).unwrap();
        tx.check_ended(scope, error, ago(1)).unwrap();
    }
    let waiting = job(tx, p, "publish");
    let image = tx.find_resource(p, "app-image").unwrap().unwrap().id;
    let next = NextInput {
        name: "app-image".into(),
        resource_id: image,
        version: Err("no versions satisfy passed constraints".into()),
        first_occurrence: false,
        from_builds: vec![],
        passages: vec![],
        since: ago(20),
    };
    tx.save_next_inputs(waiting, vec![next]).unwrap();
    let code = tx.find_resource(p, "app-source").unwrap().unwrap();
    let pin = tx.versions(code.id, &Version::default(), Default::default()).unwrap().items[3].id;
    tx.pin_version(code.id, pin).unwrap();
    tx.set_pin_comment(code.id, "until the flaky parser is fixed").unwrap();
    Seeded { failed, running, pending }
}

/// Fills the database.
pub async fn fill(app: &App) -> Seeded {
    let seeded = app.store.write(|tx| {
        let p = set(tx, "delivery", None, delivery());
        let seeded = delivery_builds(tx, p);
        for (i, name) in ["website", "infrastructure", "mobile-app-with-a-rather-long-name", "docs"].iter().enumerate()
        {
            let other = set(tx, name, None, chain(3 + i * 7));
            for n in 0..3 + i * 7 {
                let end = if (n + i) % 6 == 5 { Status::Failed } else { Status::Succeeded };
                let job = format!("job-{n}");
                build(tx, other, &job, ago(300 - n as i64), &json!({}), (i != 1 || n != 4).then_some(end));
            }
            if i == 3 {
                tx.pause_pipeline(other, "carol", ago(9000)).unwrap();
            }
            tx.set_pipeline_public(other, i == 0).unwrap();
        }
        for branch in ["main", "feature/login", "fix/typo"] {
            let one = set(tx, "branches", Some(json!({"branch": branch})), chain(4));
            build(tx, one, "job-0", ago(50), &json!({}), Some(Status::Succeeded));
        }
        set(tx, "empty", None, json!({}));
        Ok(seeded)
    });
    let seeded = seeded.await.unwrap();
    log(app, seeded.failed, usize::MAX).await;
    app.feed.close(seeded.failed);
    log(app, seeded.running, 24).await;
    seeded
}
