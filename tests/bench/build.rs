//! What a build costs: from the trigger's request to the finish as a follower sees it, beside the least that the same
//! work can cost on this machine. `cargo bench --bench build [-- --pairs N] [-- --only embedded|docker|docker-input]`
#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "a benchmark that fails here has failed")]

mod yard;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use serde_json::json;
use yard::http::{Link, Place};
use yard::server::Server;
use yard::{Pairs, asked, line, median, ms, pairs};

/// Builds triggered at once.
const BURST: usize = 40;
/// Builds at a time, where their rate is measured, and how many make one sample.
const AT_ONCE: usize = 8;
const BATCH: usize = 24;

fn main() {
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        yard::title();
        if asked("embedded") {
            embedded().await;
        }
        if asked("docker") || asked("docker-input") {
            match engine().await {
                Some(place) => docker(&place).await,
                None => println!("no Docker answers: its figures were not taken"),
            }
        }
    });
}

/// clone, chroot and wait of `true`: the least that running it in a container of its own can cost.
fn bare_container() -> Duration {
    let program = CString::new("/bin/true").unwrap();
    let mut stack = vec![0u8; 64 * 1024];
    let flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let begin = Instant::now();
    let run = Box::new(|| {
        if nix::unistd::chroot("/").is_ok() {
            nix::unistd::execv(&program, &[&program]).ok();
        }
        127
    });
    // SAFETY: the child only makes system calls until it is another program.
    let child = unsafe { nix::sched::clone(run, &mut stack, flags, Some(libc::SIGCHLD)) }.expect("needs root");
    nix::sys::wait::waitpid(child, None).unwrap();
    begin.elapsed()
}

fn task(name: &str, root: &str) -> String {
    format!("  - task: {name}\n    config: {{platform: linux, {root}, run: {{path: \"true\"}}}}\n")
}

fn jobs(n: usize, root: &str) -> String {
    let jobs = (0..n).map(|i| format!("- name: j{i}\n  plan:\n{}", task("t", root)));
    let three: String = ["a", "b", "c"].map(|t| task(t, root)).concat();
    format!("jobs:\n{}- name: three\n  plan:\n{three}", jobs.collect::<String>())
}

async fn embedded() {
    let server = Server::start(&["--runtime", "embedded", "--allow-host-rootfs"]).await;
    server.pipeline("p", &jobs(BURST, "rootfs_uri: \"host:///\"")).await;
    let mut link = server.link().await;
    for _ in 0..5 {
        server.build(&mut link, "p", "j0").await;
        bare_container();
    }
    let (mut trivial, mut removed) = (Pairs::default(), Vec::new());
    let used = server.used();
    for _ in 0..pairs() {
        let begin = Instant::now();
        server.build(&mut link, "p", "j0").await;
        let took = begin.elapsed();
        server.settle(&mut link).await;
        removed.push(ms(begin.elapsed()));
        trivial.add(took, bare_container());
    }
    trivial.show("embedded: trivial task, trigger to finished", "<= 30 ms");
    let each = ms(server.used() - used) / pairs() as f64;
    println!("  {each:.1} ms of the server's processor time; container gone after {:.1} ms", median(&removed));

    let server = Arc::new(server);
    let mut bursts = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..pairs().div_ceil(6) {
        let begin = Instant::now();
        let builds = (0..BURST).map(|i| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut link = server.link().await;
                server.build(&mut link, "p", &format!("j{i}")).await;
            })
        });
        for build in builds.collect::<Vec<_>>() {
            build.await.unwrap();
        }
        bursts.push(ms(begin.elapsed()));
        server.settle(&mut link).await;
        let begin = Instant::now();
        for _ in 0..BURST {
            bare_container();
        }
        floors.push(ms(begin.elapsed()));
    }
    let n = bursts.len();
    line(
        "embedded: 40 triggered at once, all finished",
        "<= 1000 ms",
        (median(&bursts), "ms"),
        Some(median(&floors)),
        n,
    );
    input("embedded", &["--runtime", "embedded", "--allow-host-rootfs"], "rootfs_uri: \"host:///\"").await;
}

/// What an input adds to a step: the same build with and without it, for a tree that is small and one that is large.
async fn input(runtime: &str, flags: &[&str], root: &str) {
    for (size, megabytes) in [("1 kB", 0), ("200 MB", 200)] {
        let repository = tempfile::tempdir().unwrap();
        let script = format!(
            "git init -q -b main; head -c 1000 /dev/urandom > small; head -c {megabytes}M /dev/urandom > large; git add .; \
             git -c core.compression=0 -c user.name=b -c user.email=b@example.com commit -qm files"
        );
        assert!(Command::new("sh").args(["-ec", &script]).current_dir(repository.path()).status().unwrap().success());
        let flags: Vec<&str> = flags.iter().copied().chain(["--allow-local-git"]).collect();
        let server = Server::start(&flags).await;
        let job = |name: &str, inputs: &str| {
            let config = format!("platform: linux, {root}, {inputs} run: {{path: \"true\"}}");
            format!("- name: {name}\n  plan:\n  - get: repo\n  - task: t\n    config: {{{config}}}\n")
        };
        let source = repository.path().display();
        let file = format!(
            "resources:\n- {{name: repo, type: git, check_every: never, source: {{uri: \"file://{source}\"}}}}\njobs:\n{}{}",
            job("with", "inputs: [{name: repo}],"),
            job("without", "")
        );
        server.pipeline("i", &file).await;
        let mut link = server.link().await;
        let (mut values, mut floors) = (Vec::new(), Vec::new());
        for round in 0..=pairs() {
            for (job, times) in [("with", &mut values), ("without", &mut floors)] {
                let begin = Instant::now();
                server.build(&mut link, "i", job).await;
                if round > 0 {
                    times.push(ms(begin.elapsed()));
                }
                server.settle(&mut link).await;
            }
        }
        let differences: Vec<f64> = values.iter().zip(&floors).map(|(v, f)| v - f).collect();
        line(
            &format!("{runtime}: an input of {size} adds"),
            "<= 10 ms",
            (median(&differences), "ms"),
            None,
            values.len(),
        );
    }
}

/// A Docker engine that answers.
async fn engine() -> Option<PathBuf> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"));
    let mut link = Link::open(&Place::Unix(path.clone())).await.ok()?;
    (link.send("GET", "/_ping", "", b"").await.ok()? == 200).then_some(path)
}

/// create, attach, start, wait and remove by the bare requests, each awaited in turn.
async fn bare_engine(place: &Place, image: &str, network: &str) -> Duration {
    let body = json!({
        "Image": image, "Entrypoint": ["true"], "User": "0:0", "AttachStdout": true, "AttachStderr": true,
        "HostConfig": {"NetworkMode": network, "LogConfig": {"Type": "none"}},
    });
    let typed = "Content-Type: application/json\r\n";
    let mut link = Link::open(place).await.unwrap();
    let begin = Instant::now();
    let answer = link.json("POST", "/containers/create", typed, body.to_string().as_bytes()).await.unwrap();
    let id = answer["Id"].as_str().unwrap().to_owned();
    let mut attached = Link::open(place).await.unwrap();
    let upgrade = "Upgrade: tcp\r\nConnection: Upgrade\r\n";
    let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1");
    assert_eq!(attached.send("POST", &path, upgrade, b"").await.unwrap(), 101);
    link.json("POST", &format!("/containers/{id}/start"), "", b"").await.unwrap();
    attached.rest().await.unwrap();
    link.json("POST", &format!("/containers/{id}/wait"), "", b"").await.unwrap();
    link.json("DELETE", &format!("/containers/{id}?force=1&v=1"), "", b"").await.unwrap();
    begin.elapsed()
}

async fn docker(socket: &Path) {
    let place = Place::Unix(socket.to_owned());
    // SAFETY: nothing else reads the environment at this moment.
    unsafe { std::env::set_var("DOCKER_HOST", format!("unix://{}", socket.display())) };
    let Some(registry) = Registry::start(socket) else {
        return println!("no docker-registry is installed: Docker's figures were not taken");
    };
    let image = registry.image.as_str();
    let server = Arc::new(Server::start(&["--runtime", "docker"]).await);
    let resource = format!("image_resource: {{type: registry-image, source: {{repository: \"{image}\"}}}}");
    server.pipeline("p", &jobs(AT_ONCE, &resource)).await;
    if asked("docker-input") {
        input("docker", &["--runtime", "docker"], &resource).await;
    }
    if !asked("docker") {
        return;
    }
    let mut link = server.link().await;
    let network = Network::made(&place).await;
    let network = network.name.as_str();
    for _ in 0..2 {
        server.build(&mut link, "p", "j0").await;
        bare_engine(&place, image, network).await;
    }
    let (mut one, mut three, mut removed) = (Pairs::default(), Pairs::default(), Vec::new());
    for _ in 0..pairs() {
        let begin = Instant::now();
        server.build(&mut link, "p", "j0").await;
        let took = begin.elapsed();
        server.settle(&mut link).await;
        removed.push(ms(begin.elapsed()));
        one.add(took, bare_engine(&place, image, network).await);
        let begin = Instant::now();
        server.build(&mut link, "p", "three").await;
        let took = begin.elapsed();
        server.settle(&mut link).await;
        let mut floor = Duration::ZERO;
        for _ in 0..3 {
            floor += bare_engine(&place, image, network).await;
        }
        three.add(took, floor);
    }
    one.show("docker: trivial task, trigger to finished", "<= 1.10 x");
    println!("  container gone after {:.0} ms", median(&removed));
    three.show("docker: three tasks, trigger to finished", "<= 1.15 x");
    rates(&server, &place, image, network).await;
}

/// A network like those of the teams, which cost more than the engine's own: both sides have the same.
struct Network<'p> {
    name: String,
    place: &'p Place,
}

impl<'p> Network<'p> {
    async fn made(place: &'p Place) -> Network<'p> {
        let name = format!("bench-{}", std::process::id());
        let body = json!({"Name": name, "Driver": "bridge"}).to_string();
        let mut link = Link::open(place).await.unwrap();
        let typed = "Content-Type: application/json\r\n";
        link.json("POST", "/networks/create", typed, body.as_bytes()).await.unwrap();
        Network { name, place }
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let Place::Unix(socket) = self.place else { return };
        let host = format!("unix://{}", socket.display());
        _ = Command::new("docker").args(["-H", &host, "network", "rm", &self.name]).output();
    }
}

async fn rates(server: &Arc<Server>, place: &Place, image: &str, network: &str) {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..pairs().div_ceil(10) {
        let begin = Instant::now();
        let lanes = (0..AT_ONCE).map(|i| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut link = server.link().await;
                for _ in 0..BATCH / AT_ONCE {
                    server.build(&mut link, "p", &format!("j{i}")).await;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        // Removal is part of a container's cost here.
        let mut link = server.link().await;
        server.settle(&mut link).await;
        ours.push(BATCH as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let lanes = (0..AT_ONCE).map(|_| {
            let (place, image, network) = (place.clone(), image.to_owned(), network.to_owned());
            tokio::spawn(async move {
                for _ in 0..BATCH / AT_ONCE {
                    bare_engine(&place, &image, &network).await;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        floors.push(BATCH as f64 / begin.elapsed().as_secs_f64());
    }
    let n = ours.len();
    line(
        "docker: containers a second, 8 builds at a time",
        ">= 0.90 x",
        (median(&ours), "/s"),
        Some(median(&floors)),
        n,
    );
}

/// An image of this machine's busybox in a registry of this machine: the network has no part in this.
struct Registry {
    child: std::process::Child,
    _directory: tempfile::TempDir,
    /// `127.0.0.1:PORT/NAME`
    image: String,
}

impl Registry {
    /// `None` where no registry is installed.
    fn start(socket: &Path) -> Option<Registry> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let (root, config) = (directory.path().join("data"), directory.path().join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let quiet = std::process::Stdio::null;
        let child = Command::new("docker-registry").arg("serve").arg(&config).stdout(quiet()).stderr(quiet()).spawn();
        let registry = Registry { child: child.ok()?, _directory: directory, image: format!("127.0.0.1:{port}/bench") };
        let script = format!(
            "set -e; d=$(mktemp -d); trap 'rm -rf $d' EXIT; mkdir -p $d/bin $d/etc $d/tmp; cp $(command -v busybox) $d/bin/; \
             for a in sh true cat ls; do ln -s busybox $d/bin/$a; done; echo root:x:0:0:root:/:/bin/sh > $d/etc/passwd; \
             export DOCKER_HOST=unix://{}; tar -C $d -c . | docker import - {image} > /dev/null; \
             for i in 1 2 3 4 5 6 7 8 9; do docker push -q {image} > /dev/null 2>&1 && exit 0; sleep 0.3; done; exit 1",
            socket.display(),
            image = registry.image
        );
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "the image was not pushed");
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
