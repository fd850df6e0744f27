//! kill -9 of the server, and a restart of the Docker engine, while builds run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::image::{resource_type, rootfs_type};
use super::world::{Ended, PATIENCE, Runtime, World, ended, run, until};

const LINES: usize = 300;

const COUNT: &str = r"
resources:
- {name: image, type: rootfs, source: {}}
jobs:
- name: count
  plan:
  - get: image
  - task: count
    image: image
    config:
      platform: linux
      run:
        path: sh
        args: [-c, 'i=1; while [ $i -le 300 ]; do echo line $i; i=$((i+1)); usleep 10000; done']
";

async fn finds_the_running_step(runtime: Runtime) {
    let types = tempfile::tempdir().unwrap();
    rootfs_type(types.path());
    let mut world = World::new(runtime, &["--resource-types", types.path().to_str().unwrap()]).await;
    world.pipeline("p", COUNT).await;
    let build = world.trigger("p", "count").await;
    for line in ["line 40", "line 120", "line 200"] {
        world.says(build, line).await;
        world.kill().await;
        world.start().await;
    }
    assert_eq!(world.finish(build).await, "succeeded", "{}", world.log());
    let log = world.watch(build).await;
    let numbers: Vec<&str> = log.lines().filter_map(|l| l.strip_prefix("line ")).collect();
    let expected: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_goes_on_when_the_server_is_killed_on_the_embedded_runtime() {
    finds_the_running_step(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_goes_on_when_the_server_is_killed_in_docker() {
    finds_the_running_step(Runtime::Docker).await;
}

/// Values made at run time, steps made of them, a pipeline set by a build and hooks: each waits in turn.
const MADE: &str = r#"
jobs:
- name: made
  plan:
  - task: write
    config:
      platform: linux
      rootfs_uri: host:///
      outputs: [{name: out}]
      run:
        path: sh
        args:
        - -ec
        - |
          echo '{list: [one, two], name: one, last: two}' > out/words.yml
          echo 'jobs: [{name: "(('of'))", plan: [{get: m}]}]' > out/child.yml
          echo 'resources: [{name: m, type: mock, source: {}}]' >> out/child.yml
  - load_var: words
    file: out/words.yml
    reveal: true
  - across:
    - {var: word, values: ((.:words.list))}
    task: say
    config:
      platform: linux
      rootfs_uri: host:///
      run: {path: sh, args: [-c, 'echo begin ((.:word)); sleep 2; echo end ((.:word))']}
  - set_pipeline: child
    file: out/child.yml
    vars: {of: "((.:words.name))"}
  on_success:
    task: after
    config:
      platform: linux
      rootfs_uri: host:///
      run: {path: sh, args: [-c, 'echo begin after; sleep 2; echo end after ((.:words.last))']}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_and_steps_made_at_run_time_outlive_the_server() {
    let mut world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("p", MADE).await;
    let build = world.trigger("p", "made").await;
    for line in ["begin one", "begin two", "begin after"] {
        world.says(build, line).await;
        world.kill().await;
        world.start().await;
    }
    let status = world.finish(build).await;
    let log = world.watch(build).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    for line in ["begin one", "end one", "begin two", "end two", "begin after", "end after two"] {
        assert_eq!(log.lines().filter(|l| *l == line).count(), 1, "{line} in\n{log}");
    }
    assert_eq!(world.api("teams/main/pipelines/child/jobs").await[0]["name"], "one");
}

/// Counts what puts do to the world outside, by build and moment.
#[derive(Clone)]
struct Counter {
    seen: Arc<Mutex<BTreeMap<(String, String), usize>>>,
    heard: mpsc::UnboundedSender<(String, String)>,
}

async fn count(State(counter): State<Counter>, Query(query): Query<BTreeMap<String, String>>) -> &'static str {
    let key = (query["build"].clone(), query["moment"].clone());
    *counter.seen.lock().unwrap().entry(key.clone()).or_default() += 1;
    counter.heard.send(key).ok();
    "seen\n"
}

/// A server, and the pipeline `p` with the job `j`: get → task → put of a type that tells the test what it does.
struct Scene {
    world: World,
    counter: Counter,
    moments: mpsc::UnboundedReceiver<(String, String)>,
    _types: tempfile::TempDir,
}

impl Scene {
    async fn new(runtime: Runtime) -> Scene {
        let types = tempfile::tempdir().unwrap();
        rootfs_type(types.path());
        // Containers of Docker reach this host under the address of their bridge only.
        let (ip, access) = match runtime {
            Runtime::Embedded => ("127.0.0.1".to_owned(), ["--step-network", "host"].as_slice()),
            Runtime::Docker => {
                let format = "{{with index .IPAM.Config 0}}{{or .Gateway .Subnet}}{{end}}";
                let told = run(types.path(), "docker", &["network", "inspect", "bridge", "--format", format]).await;
                // An engine that has just made its bridge tells the network alone; the bridge has its first address.
                let ip = told.trim().split_once('/').map(|(net, _)| match net.parse::<Ipv4Addr>() {
                    Ok(net) => Ipv4Addr::from(u32::from(net) + 1).to_string(),
                    Err(_) => net.to_owned(),
                });
                (ip.unwrap_or(told), ["--allow-host-access"].as_slice())
            }
        };
        let listener = tokio::net::TcpListener::bind(format!("{ip}:0")).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, moments) = mpsc::unbounded_channel();
        let counter = Counter { seen: Arc::default(), heard };
        let router = Router::new().route("/", get(count)).with_state(counter.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        counting_type(types.path(), address);
        let flags = [["--resource-types", types.path().to_str().unwrap()].as_slice(), access].concat();
        let world = World::new(runtime, &flags).await;
        world.pipeline("p", PUT).await;
        Scene { world, counter, moments, _types: types }
    }

    /// Triggers a build, kills the server when `moment` says so, starts it again and compares what came of it.
    async fn survives(&mut self, moment: impl AsyncFnOnce(&mut Scene, &str)) -> String {
        let build = self.world.trigger("p", "j").await;
        let id = build.to_string();
        moment(self, &id).await;
        self.world.kill().await;
        self.world.start().await;
        self.ends_well(build).await
    }

    async fn ends_well(&mut self, build: i64) -> String {
        let status = self.world.finish(build).await;
        let log = self.world.watch(build).await;
        assert_eq!(status, "succeeded", "{log}\n{}", self.world.log());
        let seen = self.counter.seen.lock().unwrap().clone();
        for moment in ["begin", "end"] {
            let times = seen.get(&(build.to_string(), moment.to_owned())).copied();
            assert_eq!(times, Some(1), "{moment} of the put of build {build}: {seen:?}\n{log}\n{}", self.world.log());
        }
        let outputs = self.world.api(&format!("builds/{build}/resources")).await["outputs"].clone();
        assert_eq!(outputs[0]["version"]["build"], build.to_string(), "{outputs}");
        log.replace(&format!("build {build}\n"), "build N\n")
    }

    async fn hear(&mut self, build: &str, moment: &str) {
        let wanted = (build.to_owned(), moment.to_owned());
        let heard = async { while self.moments.recv().await.is_some_and(|m| m != wanted) {} };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {moment}\n{}", self.world.log()));
    }
}

fn counting_type(types: &Path, address: SocketAddr) {
    let tell = |moment: &str| format!("wget -q -O /dev/null \"http://{address}/?build=$BUILD_ID&moment={moment}\"");
    let out = format!(
        "cat > /dev/null; echo \"putting build $BUILD_ID\" >&2; {}; sleep 0.3; {}; echo 'has put' >&2\n\
         echo \"{{\\\"version\\\": {{\\\"build\\\": \\\"$BUILD_ID\\\"}}}}\"",
        tell("begin"),
        tell("end")
    );
    let into = "cat > /dev/null; echo got >&2; echo \"{\\\"version\\\": {\\\"build\\\": \\\"$BUILD_ID\\\"}}\"";
    resource_type(types, "counting", &[("check", "echo '[]'"), ("in", into), ("out", &out)]);
}

const PUT: &str = r"
resources:
- {name: image, type: rootfs, source: {}}
- {name: outside, type: counting, source: {}}
jobs:
- name: j
  plan:
  - get: image
  - task: work
    image: image
    config:
      platform: linux
      outputs: [{name: made}]
      run: {path: sh, args: [-c, 'for i in $(seq 30); do echo line $i; usleep 10000; done; echo made > made/file']}
  - put: outside
";

async fn puts_once(runtime: Runtime, longest: u64) {
    let mut scene = Scene::new(runtime).await;
    let mut undisturbed = String::new();
    // The second finds the image that the first has fetched, as all that follow.
    for _ in 0..2 {
        let build = scene.world.trigger("p", "j").await;
        undisturbed = scene.ends_well(build).await;
    }
    for moment in ["begin", "end"] {
        let log = scene.survives(async |scene, build| scene.hear(build, moment).await).await;
        assert_eq!(log, undisturbed, "killed at the {moment} of the put");
    }
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..10 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_millis((chance >> 33) % longest);
        // The moment is what is tested: any.
        let log = scene.survives(async |_, _| tokio::time::sleep(after).await).await;
        assert_eq!(log, undisturbed, "round {round}: killed after {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_runs_once_whenever_the_server_is_killed_on_the_embedded_runtime() {
    puts_once(Runtime::Embedded, 1200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_runs_once_whenever_the_server_is_killed_in_docker() {
    puts_once(Runtime::Docker, 3000).await;
}

/// An engine that only one test has.
pub struct Engine {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Engine {
    pub async fn new() -> Engine {
        Engine::on(tempfile::Builder::new().prefix("whistlestop-engine-").tempdir().unwrap()).await
    }

    /// That keeps everything in this directory.
    pub async fn on(directory: tempfile::TempDir) -> Engine {
        let mut engine = Engine { directory, daemon: None };
        engine.start().await;
        engine
    }

    /// Its address.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// Runs its client; what that prints, word by word.
    pub async fn docker(&self, args: &[&str]) -> Vec<String> {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host()]).args(args);
        ended(command).await.stdout.split_whitespace().map(str::to_owned).collect()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().and_then(Child::id).expect("it runs")
    }

    pub async fn start(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        let log = std::fs::File::create(path("log")).unwrap();
        // In a network of its own: two engines in one would take each other's bridge away.
        let daemon = Command::new("unshare")
            .args(["--net", "dockerd", "--data-root"])
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["--host", &self.host()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs the package docker.io");
        self.daemon = Some(daemon);
        until("the engine answers", PATIENCE, async || {
            let mut version = Command::new("docker");
            version.args(["--host", &self.host(), "version"]);
            let Ended { code, .. } = ended(version).await;
            (code == 0).then_some(())
        })
        .await;
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.start_kill().unwrap();
        daemon.wait().await.unwrap();
        // What it started has died with it. Until somebody takes note of that, the next one takes it for alive and waits.
        std::fs::remove_file(self.directory.path().join("exec/containerd/containerd.pid")).ok();
    }

    /// As `systemctl stop docker`.
    pub async fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = i32::try_from(daemon.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(PATIENCE, daemon.wait()).await.expect("the engine does not stop").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_end_errored_when_docker_is_restarted_under_them() {
    let mut engine = Engine::new().await;
    let types = tempfile::tempdir().unwrap();
    rootfs_type(types.path());
    let flags = ["--resource-types", types.path().to_str().unwrap()];
    let mut world = World::with_env(Runtime::Docker, &flags, &[("DOCKER_HOST", &engine.host())]).await;
    world.pipeline("p", COUNT).await;
    let build = world.trigger("p", "count").await;
    world.says(build, "line 20").await;
    engine.stop().await;
    engine.start().await;
    assert_eq!(world.finish(build).await, "errored", "{}", world.log());
    let log = world.watch(build).await;
    let why = "the container was told to end from outside: its engine or host was shut down or restarted";
    assert!(log.contains("line 20\n") && log.contains(why) && log.ends_with("errored\n"), "{log}");
    assert!(world.lives(), "{}", world.log());
    let next = world.trigger("p", "count").await;
    assert_eq!(world.finish(next).await, "succeeded", "{}\n{}", world.watch(next).await, world.log());
    engine.stop().await;
}
