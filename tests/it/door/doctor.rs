//! `whistlestop doctor` beside a real installation: what it says, what it finds, what it leaves alone.

use serde_json::Value;

use super::restart::Engine;
use super::world::{PATIENCE, Runtime, World, binary, ended, until};

async fn doctor(state: &std::path::Path, flags: &[&str]) -> (i32, Value) {
    let mut command = binary();
    command.args(["doctor", "--json", "--runtime", "embedded", "--state-dir"]).arg(state).args(flags);
    let done = ended(command).await;
    let report = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", done.stdout, done.stderr));
    (done.code, report)
}

fn strays(report: &Value) -> Vec<(String, String)> {
    let stray = |s: &Value| (s["kind"].as_str().unwrap().to_owned(), s["name"].as_str().unwrap().to_owned());
    report["strays"].as_array().unwrap().iter().map(stray).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_is_found_and_removed_and_nothing_else() {
    let mut world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    let config = "jobs: [{name: j, plan: [{task: t, config: {platform: linux, rootfs_uri: \"host:///\", run: {path: \"false\"}}}]}]";
    world.pipeline("p", config).await;
    let build = world.trigger("p", "j").await;
    assert_eq!(world.finish(build).await, "failed");
    world.kill().await;
    let state = world.state();
    let worker = state.join("worker");
    // The failed build's container is known and stays. These are not.
    let kept: Vec<_> = std::fs::read_dir(worker.join("containers")).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(kept.len(), 1);
    std::fs::create_dir_all(worker.join("containers/lost")).unwrap();
    std::fs::create_dir_all(worker.join("volumes/lost/data")).unwrap();
    let (code, report) = doctor(&state, &[]).await;
    let found = strays(&report);
    assert_eq!(code, 1, "{report}");
    assert!(found.contains(&("container".into(), "lost".into())), "{report}");
    assert!(found.contains(&("volume".into(), "lost".into())), "{report}");
    assert_eq!(found.len(), 2, "{report}");
    let (code, report) = doctor(&state, &["--fix"]).await;
    assert_eq!((code, report["removed"].as_u64()), (0, Some(2)), "{report}");
    let (code, report) = doctor(&state, &[]).await;
    assert_eq!((code, strays(&report).len()), (0, 0), "{report}");
    assert!(kept[0].exists());
    // A supervisor that serves a container which is gone.
    let pid = std::fs::read_to_string(kept[0].join("pid")).unwrap();
    let pid = pid.split_whitespace().next().unwrap().to_owned();
    std::fs::remove_dir_all(&kept[0]).unwrap();
    let (_, report) = doctor(&state, &[]).await;
    let kinds: Vec<String> = strays(&report).into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"supervisor".to_owned()) && kinds.contains(&"packet filter".to_owned()), "{report}");
    let (code, report) = doctor(&state, &["--fix"]).await;
    assert_eq!(code, 0, "{report}");
    assert!(!std::path::Path::new("/proc").join(&pid).join("root/proc").exists(), "the supervisor lives");
    assert!(strays(&doctor(&state, &[]).await.1).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_finding_has_its_consequence_and_its_remedy() {
    let nowhere = tempfile::tempdir().unwrap();
    let (_, report) = doctor(nowhere.path(), &["--low-disk-watermark", "100%"]).await;
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 7, "{report}");
    for finding in findings.iter().filter(|f| f["level"] != "good") {
        assert!(!finding["follows"].as_str().unwrap().is_empty(), "{finding}");
        assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
    }
    let disk = findings.iter().find(|f| f["what"] == "disk").unwrap();
    assert_eq!((disk["level"].as_str(), disk["follows"].as_str()), (Some("bad"), Some("no build starts")));
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0, "looking has made something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_steps_lack_is_said_to_clients_and_in_their_logs() {
    let flags = ["--allow-host-rootfs", "--privileged-mode", "ignore", "--step-network", "host"];
    let world = World::new(Runtime::Embedded, &flags).await;
    let workers = until("doctor has looked", PATIENCE, async || {
        let workers = world.fly(&["workers", "-d"]).await;
        workers.contains("embedded: ").then_some(workers)
    })
    .await;
    assert!(workers.contains("network: the host's: --step-network host"), "{workers}");
    let config = "jobs: [{name: j, plan: [{task: t, privileged: true, config: {platform: linux, rootfs_uri: \"host:///\", \
                  run: {path: sh, args: [-c, \"grep CapEff /proc/self/status\"]}}}]}]";
    world.pipeline("p", config).await;
    let build = world.trigger("p", "j").await;
    assert_eq!(world.finish(build).await, "succeeded");
    let log = world.watch(build).await;
    assert!(log.contains("privileged: the operator of this server gives the team main no more"), "{log}");
    assert!(log.contains("a80425fb"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_builds_wait_and_pages_say_why() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs", "--low-disk-watermark", "100%"]).await;
    let config = "jobs: [{name: j, plan: [{task: t, config: {platform: linux, rootfs_uri: \"host:///\", run: {path: \"true\"}}}]}]";
    world.pipeline("p", config).await;
    world.trigger("p", "j").await;
    let page = world.request(reqwest::Method::GET, "/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Low disk space"), "{page}");
    assert_eq!(world.builds("p", "j").await[0]["status"], "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_walls_stand_in_docker_is_tried() {
    // As that of a server in a container which was given the socket: the engine's networks are elsewhere.
    let mut engine = Engine::new().await;
    let state = tempfile::tempdir().unwrap();
    let findings = async |host: Option<&str>| {
        let mut command = binary();
        command.args(["doctor", "--json", "--runtime", "docker", "--privileged-mode", "fuse-only", "--state-dir"]);
        command.arg(state.path()).envs(host.map(|host| ("DOCKER_HOST", host)));
        let done = ended(command).await;
        let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stderr));
        let find = |what: &str| {
            let findings = report["findings"].as_array().unwrap();
            findings.iter().find(|f| f["what"] == what).unwrap_or_else(|| panic!("no {what}: {report}")).clone()
        };
        (find("Docker's walls"), find("privileged steps"))
    };
    let (walls, privileged) = findings(Some(&engine.host())).await;
    assert_eq!(walls["level"], "note", "{walls}");
    assert!(walls["found"].as_str().unwrap().contains("another network namespace"), "{walls}");
    assert!(privileged["found"].as_str().unwrap().contains("fuse-only without mounts"), "{privileged}");
    let (walls, _) = findings(None).await;
    assert_eq!(walls["level"], "good", "{walls}");
    let mut networks = tokio::process::Command::new("docker");
    networks.args(["--host", &engine.host(), "network", "ls", "--format", "{{.Name}}"]);
    let left = ended(networks).await.stdout;
    assert!(!left.contains("ws-"), "what was tried on is left: {left}");
    engine.stop().await;
}
