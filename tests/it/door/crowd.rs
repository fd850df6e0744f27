//! Many short builds at once: each step ends as its own program ends, says what that says, and nothing of another's.
//!
//! A few rounds in the usual run; `WHISTLESTOP_CROWD=100` for as many as wanted.

use super::world::{Runtime, World};

const ROUNDS: usize = 3;
const JOBS: usize = 6;

fn task(job: usize, name: &str, script: &str) -> String {
    format!(
        "task: {name}, config: {{platform: linux, rootfs_uri: 'host:///', run: {{path: sh, args: [-c, 'echo {name} of \
         job {job}; {script}']}}}}"
    )
}

/// Jobs whose tasks run side by side: some at once over, some with children that outlive them, one that ends itself.
fn pipeline() -> String {
    let job = |job: usize| {
        let tasks = [
            task(job, "quick", "true"),
            task(job, "slow", "sleep 0.2"),
            task(job, "parent", "sleep 300 & sleep 0.05"),
            task(job, "deaf", "trap \"\" TERM HUP; (sleep 300 &); true"),
            format!("try: {{{}}}", task(job, "ended", "(sleep 0.1; kill -TERM $$) & wait; wait")),
        ];
        format!("- name: j{job}\n  plan:\n  - in_parallel:\n    - {{{}}}\n", tasks.join("}\n    - {"))
    };
    format!("jobs:\n{}", (0..JOBS).map(job).collect::<String>())
}

/// All events of a build that has ended; the stream itself stays open.
async fn events(world: &World, build: i64) -> String {
    let request = world.request(reqwest::Method::GET, &format!("/api/v1/builds/{build}/events"));
    let mut answer = request.send().await.unwrap();
    let mut events = String::new();
    while !events.contains("event: end") {
        let chunk = answer.chunk().await.unwrap().expect("the end is told");
        events.push_str(&String::from_utf8_lossy(&chunk));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_many_ends_as_its_own_program_does() {
    let rounds = std::env::var("WHISTLESTOP_CROWD").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", &pipeline()).await;
    for round in 0..rounds {
        let jobs: Vec<String> = (0..JOBS).map(|job| format!("j{job}")).collect();
        let builds = futures_util::future::join_all(jobs.iter().map(|job| world.trigger("p", job))).await;
        for (job, build) in builds.into_iter().enumerate() {
            let status = world.finish(build).await;
            let events = events(&world, build).await;
            assert_eq!(status, "succeeded", "round {round}, job {job}: {events}\n{}", world.log());
            let count = |what: &str| events.matches(what).count();
            assert_eq!(count("\"exit_status\":0"), 4, "round {round}, job {job}: {events}");
            assert_eq!(count("\"exit_status\":143"), 1, "round {round}, job {job}: {events}");
            assert_eq!(count(&format!("of job {job}\\r\\n")), 5, "round {round}, job {job}: {events}");
            assert_eq!(count(" of job ") - 5, 5, "of another: round {round}, job {job}: {events}");
        }
    }
}
