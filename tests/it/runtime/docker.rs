//! What only a real Docker engine can show. `DOCKER_HOST` names it; it is run by the test command.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::sync::{OnceCell, mpsc};
use whistlestop::runtime::docker::{Docker, Options};
use whistlestop::runtime::{
    Attached, ContainerHandle, ContainerSpec, Error, Exit, Image, Input, Limits, Mount, Origin, Output, Process,
    RegistryAuth, Runtime, Stream, TarStream, VolumeHandle, WindowSize,
};

pub const IMAGE: &str = "whistlestop-test-busybox:latest";
const PATIENCE: Duration = Duration::from_secs(120);
static NEXT: AtomicU32 = AtomicU32::new(0);
static IMPORTED: OnceCell<()> = OnceCell::const_new();

/// An installation of its own on the shared engine, and everything it made, removed at its end.
struct World {
    docker: Docker,
    engine: bollard::Docker,
    id: String,
}

impl World {
    async fn new() -> World {
        let engine = engine().await;
        let busybox = async { import_busybox(&engine).await };
        IMPORTED.get_or_init(|| busybox).await;
        let id = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        World { docker: Docker::connect(options(&id)), engine, id }
    }

    /// The server after a restart: nothing in memory.
    fn restarted(&self) -> Docker {
        Docker::connect(options(&self.id))
    }

    fn container(&self, name: &str) -> ContainerHandle {
        ContainerHandle(name.to_string())
    }

    async fn volume(&self, name: &str, origin: Origin) -> VolumeHandle {
        let handle = VolumeHandle(name.to_string());
        self.docker.create_volume(&handle, "main", &origin).await.unwrap();
        handle
    }

    async fn sh(&self, name: &str, script: &str) -> Told {
        let handle = self.container(name);
        let told = read(self.docker.start(&handle, &sh(script)).await.unwrap()).await;
        self.docker.remove_container(&handle).await.unwrap();
        told
    }

    async fn write(&self, volume: &VolumeHandle, name: &str, content: &str) {
        let tar = tar_of(&[(name, content)]);
        self.docker.stream_in(volume, "", tar).await.unwrap();
    }

    async fn run_with(&self, name: &str, mounts: Vec<Mount>, script: &str) -> Told {
        let handle = self.container(name);
        let told = read(self.docker.start(&handle, &ContainerSpec { mounts, ..sh(script) }).await.unwrap()).await;
        self.docker.remove_container(&handle).await.unwrap();
        told
    }

    /// Removes all there is, children before parents, and sees that nothing is left.
    async fn end(self) {
        let listing = self.docker.list().await.unwrap();
        for container in &listing.containers {
            self.docker.remove_container(container).await.unwrap();
        }
        for volume in &listing.volumes {
            self.docker.remove_volume(volume).await.unwrap();
            self.docker.remove_volume(volume).await.unwrap();
        }
        let left = self.docker.list().await.unwrap();
        assert!(left.containers.is_empty() && left.volumes.is_empty(), "{left:?}");
        self.tidy().await;
    }

    /// The supervisor's volume and the images stay in real life.
    async fn tidy(&self) {
        let filters = || HashMap::from([("label".to_string(), vec![format!("whistlestop.installation={}", self.id)])]);
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some(filters()),
            ..Default::default()
        };
        let helpers = self.engine.list_containers(Some(options)).await.unwrap();
        assert!(helpers.is_empty(), "helpers are left: {helpers:?}");
        let options = bollard::query_parameters::ListVolumesOptions { filters: Some(filters()) };
        for volume in self.engine.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default() {
            let none = None::<bollard::query_parameters::RemoveVolumeOptions>;
            self.engine.remove_volume(&volume.name, none).await.unwrap();
        }
        let options = bollard::query_parameters::ListImagesOptions { filters: Some(filters()), ..Default::default() };
        for image in self.engine.list_images(Some(options)).await.unwrap() {
            let options = bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() };
            self.engine.remove_image(&image.id, Some(options), None).await.unwrap();
        }
    }
}

pub async fn engine() -> bollard::Docker {
    let host = std::env::var("DOCKER_HOST").expect("these tests need DOCKER_HOST to name a Docker engine");
    let engine = bollard::Docker::connect_with_host(&host).unwrap();
    engine.negotiate_version().await.expect("the Docker engine that DOCKER_HOST names does not answer")
}

fn options(id: &str) -> Options {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_whistlestop"));
    Options { binary: Some(binary), ..Options::new(id) }
}

/// Debian's static busybox as a root file system.
fn busybox_files(root: &std::path::Path) {
    for directory in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("these tests need the package busybox-static");
    for applet in [
        "sh", "true", "cat", "echo", "env", "sleep", "id", "hostname", "mount", "grep", "ls", "ip", "stty", "dd",
        "head", "tail", "seq", "touch", "mkdir", "rm", "wc", "kill", "tr", "tty",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbuilder:x:1234:1234::/tmp:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nbuilder:x:1234:\n").unwrap();
}

fn busybox_tar() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    busybox_files(directory.path());
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", directory.path()).unwrap();
    builder.into_inner().unwrap()
}

pub async fn import_busybox(engine: &bollard::Docker) {
    let (repo, tag) = IMAGE.split_once(':').unwrap();
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        changes: vec!["ENV FROM_IMAGE=yes".into(), "USER builder".into(), "CMD [\"sh\"]".into()],
        ..Default::default()
    };
    let body = bollard::body_full(busybox_tar().into());
    let mut answers = Box::pin(engine.create_image(Some(options), Some(body), None));
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
}

fn tar_of(files: &[(&str, &str)]) -> TarStream {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

async fn files_of(mut tar: TarStream) -> BTreeMap<String, String> {
    let mut bytes = Vec::new();
    tar.read_to_end(&mut bytes).await.unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            let path = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_string();
            files.insert(path, text);
        }
    }
    files
}

fn process(arguments: &[&str]) -> Process {
    Process {
        path: arguments[0].to_string(),
        args: arguments[1..].iter().map(|s| (*s).to_string()).collect(),
        dir: "/".to_string(),
        ..Default::default()
    }
}

fn sh(script: &str) -> ContainerSpec {
    ContainerSpec {
        team: "main".into(),
        labels: BTreeMap::from([("build_id".to_string(), "7".to_string())]),
        image: Image::Engine(IMAGE.into()),
        privileged: false,
        hermetic: true,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: process(&["sh", "-c", script]),
    }
}

fn mount(volume: &VolumeHandle, path: &str, read_only: bool) -> Mount {
    Mount { volume: volume.clone(), path: path.to_string(), read_only }
}

#[derive(Debug, Default)]
struct Told {
    stdout: String,
    stderr: String,
    end: Option<Output>,
}

impl Told {
    fn status(&self) -> i32 {
        match &self.end {
            Some(Output::Exited(Exit::Status(status))) => *status,
            other => panic!("no status but {other:?}; stdout {:?}, stderr {:?}", self.stdout, self.stderr),
        }
    }
}

async fn read(mut attached: Attached) -> Told {
    let mut told = Told::default();
    let mut next = None;
    let all = async {
        while let Some(output) = attached.recv().await {
            match output {
                Output::Data { stream, offset, bytes } => {
                    assert_eq!(*next.get_or_insert(offset), offset);
                    next = Some(offset + bytes.len() as u64);
                    let text = String::from_utf8_lossy(&bytes);
                    match stream {
                        Stream::Stdout => told.stdout.push_str(&text),
                        Stream::Stderr => told.stderr.push_str(&text),
                    }
                }
                other => told.end = Some(other),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the output never ended");
    told
}

async fn until(attached: &mut Attached, text: &str) -> u64 {
    let mut heard = String::new();
    let mut end = 0;
    while !heard.contains(text) {
        match tokio::time::timeout(PATIENCE, attached.recv()).await.expect("nothing was told") {
            Some(Output::Data { offset, bytes, .. }) => {
                heard.push_str(&String::from_utf8_lossy(&bytes));
                end = offset + bytes.len() as u64;
            }
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_its_streams_status_environment_and_input() {
    let world = World::new().await;
    let mut spec = sh("echo out; echo err >&2; hostname; id -u; echo \"$TOKEN $FROM_IMAGE\"; cat; exit 3");
    spec.process.env = vec!["TOKEN=hunter2".into()];
    spec.process.stdin = b"input".to_vec();
    let handle = world.container("step-1");
    let told = read(world.docker.start(&handle, &spec).await.unwrap()).await;
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("out\nstep-1\n0\nhunter2 \ninput", "err\n"));
    assert_eq!(told.status(), 3);

    let listed = world.docker.list().await.unwrap();
    assert_eq!(listed.containers, std::slice::from_ref(&handle));
    let filters = HashMap::from([("label".to_string(), vec![format!("whistlestop.installation={}", world.id)])]);
    let query =
        bollard::query_parameters::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let found = world.engine.list_containers(Some(query)).await.unwrap();
    let id = found[0].id.clone().unwrap();
    let inspected = world.engine.inspect_container(&id, None).await.unwrap();
    assert!(!format!("{inspected:?}").contains("hunter2"), "a secret can be read with docker inspect");
    let labels = inspected.config.unwrap().labels.unwrap();
    assert_eq!((labels["whistlestop.handle"].as_str(), labels["build_id"].as_str()), ("step-1", "7"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unprivileged_is_what_concourse_gives_and_hermetic_has_no_network() {
    let world = World::new().await;
    let told = world.sh("walls", "grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/self/status; ip -o link | wc -l; mount -t tmpfs t /tmp || echo refused; ls /var/run/docker.sock").await;
    for expected in
        ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2", "NoNewPrivs:\t0", "\n1\n", "refused"]
    {
        assert!(told.stdout.contains(expected), "{expected}: {told:?}");
    }
    assert_ne!(told.status(), 0, "the engine's socket is there");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_gets_all_this_engine_can_give() {
    let world = World::new().await;
    let handle = world.container("root");
    let spec = ContainerSpec {
        privileged: true,
        ..sh("mount -t tmpfs t /tmp && grep Seccomp: /proc/self/status && grep ' /scratch ' /proc/mounts")
    };
    let told = read(world.docker.start(&handle, &spec).await.unwrap()).await;
    assert!(told.stdout.starts_with("Seccomp:\t0\n"), "{told:?}");
    assert_eq!(told.status(), 0, "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let world = World::new().await;
    let handle = world.container("limits");
    let limits = Limits { cpu: Some(512), memory: Some(64 << 20) };
    let spec = ContainerSpec {
        limits,
        ..sh(
            "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c; cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null; true",
        )
    };
    let told = read(world.docker.start(&handle, &spec).await.unwrap()).await;
    assert!(!told.stdout.contains("150000000"), "{told:?}");
    assert!(told.stdout.contains("512") || told.stdout.contains("\n2"), "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_and_a_restarted_server_attach() {
    let world = World::new().await;
    let volume = world.volume("runs", Origin::Empty).await;
    let handle = world.container("once");
    let spec = ContainerSpec {
        mounts: vec![mount(&volume, "/runs", false)],
        ..sh("echo run >> /runs/log; echo first; while [ ! -e /runs/go ]; do sleep 0.05; done; echo second; exit 4")
    };
    let mut first = world.docker.start(&handle, &spec).await.unwrap();
    let offset = until(&mut first, "first\n").await;
    drop(first);

    let server = world.restarted();
    let again = server.start(&handle, &spec).await.unwrap();
    let rest = server.attach(&handle, offset).await.unwrap();
    server.stream_in(&volume, "", tar_of(&[("go", "")])).await.unwrap();
    let (again, rest) = (read(again).await, read(rest).await);
    assert_eq!((again.stdout.as_str(), again.status()), ("first\nsecond\n", 4));
    assert_eq!((rest.stdout.as_str(), rest.status()), ("second\n", 4));
    let late = read(server.attach(&handle, 3).await.unwrap()).await;
    assert_eq!((late.stdout.as_str(), late.status()), ("st\nsecond\n", 4));
    assert_eq!(files_of(server.stream_out(&volume, "log").await.unwrap()).await["log"], "run\n");
    assert!(matches!(server.attach(&world.container("never"), 0).await, Err(Error::NotFound(_))));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_isolated_from_their_parent_and_each_other() {
    let world = World::new().await;
    let parent = world.volume("parent", Origin::Empty).await;
    world.write(&parent, "shared", "parent").await;
    let one = world.volume("one", Origin::CopyOf(parent.clone())).await;
    let two = world.volume("two", Origin::CopyOf(parent.clone())).await;
    let told = world
        .run_with("write", vec![mount(&one, "/one", false)], "cat /one/shared; echo one > /one/shared; touch /one/new")
        .await;
    assert_eq!((told.stdout.as_str(), told.status()), ("parent", 0));
    let grandchild = world.volume("grandchild", Origin::CopyOf(one.clone())).await;
    let docker = &world.docker;
    let content = |volume: VolumeHandle| async move { files_of(docker.stream_out(&volume, "").await.unwrap()).await };
    assert_eq!(content(grandchild.clone()).await["shared"], "one\n");
    assert_eq!(content(two).await["shared"], "parent");
    assert_eq!(content(parent.clone()).await.len(), 1);
    // Also for a server that knows nothing of the chain any more, and when repeated.
    let server = world.restarted();
    let late = VolumeHandle("late".into());
    for _ in 0..2 {
        server.create_volume(&late, "main", &Origin::CopyOf(grandchild.clone())).await.unwrap();
    }
    assert_eq!(content(late.clone()).await["shared"], "one\n");
    assert!(world.docker.local_path(&parent).unwrap().join("shared").exists());
    assert_eq!(world.docker.local_path(&one), None);
    let of_nothing = Origin::CopyOf(VolumeHandle("gone".into()));
    let orphan = server.create_volume(&VolumeHandle("x".into()), "main", &of_nothing).await;
    assert!(matches!(orphan, Err(Error::NotFound(_))));
    for volume in ["late", "grandchild"] {
        world.docker.remove_volume(&VolumeHandle(volume.into())).await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_of_copies_stays_whole() {
    let world = World::new().await;
    let mut last = world.volume("c0", Origin::Empty).await;
    world.write(&last, "f0", "0").await;
    for index in 1..=40 {
        last = world.volume(&format!("c{index}"), Origin::CopyOf(last)).await;
        if index % 8 == 0 {
            world.write(&last, &format!("f{index}"), "x").await;
        }
    }
    let told = world.run_with("chain", vec![mount(&last, "/v", false)], "ls /v").await;
    assert_eq!(told.stdout.split_whitespace().collect::<Vec<_>>(), ["f0", "f16", "f24", "f32", "f40", "f8"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_out_of_volumes() {
    let world = World::new().await;
    let volume = world.volume("files", Origin::Empty).await;
    world.docker.stream_in(&volume, "a/b", tar_of(&[("x", "1"), ("deep/y", "2")])).await.unwrap();
    world.docker.stream_in(&volume, "a/b", tar_of(&[("x", "3")])).await.unwrap();
    let out = |path: &'static str| world.docker.stream_out(&volume, path);
    let all = BTreeMap::from([("x".to_string(), "3".to_string()), ("deep/y".to_string(), "2".to_string())]);
    assert_eq!(files_of(out("a/b").await.unwrap()).await, all);
    assert_eq!(files_of(out("a/b/x").await.unwrap()).await, BTreeMap::from([("x".to_string(), "3".to_string())]));
    assert!(matches!(out("nope").await, Err(Error::NotFound(_))));
    assert!(matches!(out("../..").await, Err(Error::Invalid(_))));
    let absent = VolumeHandle("absent".into());
    assert!(matches!(world.docker.stream_out(&absent, "").await, Err(Error::NotFound(_))));
    assert!(matches!(world.docker.stream_in(&absent, "", tar_of(&[])).await, Err(Error::NotFound(_))));
    let spec = ContainerSpec { mounts: vec![mount(&absent, "/v", false)], ..sh("true") };
    assert!(matches!(world.docker.start(&world.container("c"), &spec).await, Err(Error::NotFound(_))));
    // A reader that goes away leaves no helper behind.
    drop(out("").await.unwrap());
    let broken: TarStream = Box::pin(tokio::io::AsyncReadExt::chain(
        std::io::Cursor::new(vec![7u8; 512]),
        tokio_util::io::StreamReader::new(futures_util::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other(
            "source broke",
        ))])),
    ));
    let Err(Error::Failed(text)) = world.docker.stream_in(&volume, "", broken).await else { panic!("unpacked") };
    assert!(text.contains("source broke"), "{text}");
    let removed = async { while world.docker.remove_volume(&volume).await.is_err() {} };
    tokio::time::timeout(PATIENCE, removed).await.expect("a helper holds the volume");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_nest_even_in_read_only_ones() {
    let world = World::new().await;
    let (outer, inner) = (world.volume("outer", Origin::Empty).await, world.volume("inner", Origin::Empty).await);
    world.write(&outer, "a", "outer").await;
    world.write(&inner, "b", "inner").await;
    let mounts = vec![mount(&inner, "/work/deep/er", false), mount(&outer, "/work", true)];
    let told = world
        .run_with(
            "nest",
            mounts,
            "cat /work/a /work/deep/er/b; touch /work/x 2>/dev/null; echo $?; touch /work/deep/er/x; echo $?",
        )
        .await;
    assert_eq!(told.stdout, "outerinner1\n0\n", "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_file_systems_come_from_volumes_and_directories() {
    let world = World::new().await;
    let volume = world.volume("image", Origin::Empty).await;
    world.docker.stream_in(&volume, "sub/rootfs", Box::pin(std::io::Cursor::new(busybox_tar()))).await.unwrap();
    let from_volume = Image::Volume { volume: volume.clone(), path: "sub".into() };
    for name in ["v1", "v2"] {
        let spec = ContainerSpec { image: from_volume.clone(), ..sh("cat /etc/group; touch /mine") };
        let told = read(world.docker.start(&world.container(name), &spec).await.unwrap()).await;
        assert_eq!(told.stdout, "root:x:0:\nbuilder:x:1234:\n", "{told:?}");
        world.docker.remove_container(&world.container(name)).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    busybox_files(directory.path());
    let spec = ContainerSpec { image: Image::Directory(directory.path().into()), ..sh("ls /") };
    let told = read(world.docker.start(&world.container("d"), &spec).await.unwrap()).await;
    assert!(!told.stdout.contains("mine") && told.status() == 0, "{told:?}");
    let refused = world.docker.start(&world.container("h"), &ContainerSpec { image: Image::Host, ..sh("true") }).await;
    assert!(matches!(refused, Err(Error::Invalid(text)) if text.contains("--runtime embedded")));
    let missing = ContainerSpec { image: Image::Engine("whistlestop-no-such:1".into()), ..sh("true") };
    assert!(
        matches!(world.docker.start(&world.container("m"), &missing).await, Err(Error::Invalid(text)) if text.contains("No such image"))
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_a_terminal_input_and_status_also_after_the_end() {
    let world = World::new().await;
    let handle = world.container("hijack");
    assert_eq!(read(world.docker.start(&handle, &sh("touch /here")).await.unwrap()).await.status(), 0);
    let tty = Some(WindowSize { columns: 101, rows: 33 });
    let mut exec = world.docker.exec(&handle, &Process { tty, ..process(&["sh"]) }).await.unwrap();
    exec.input.send(Input::Data("stty size; ls /here; tty\n".into())).await.unwrap();
    until(&mut exec.output, "33 101").await;
    exec.input.send(Input::Resize(WindowSize { columns: 77, rows: 22 })).await.unwrap();
    exec.input.send(Input::Data("stty size; exit 9\n".into())).await.unwrap();
    let told = read(exec.output).await;
    assert!(told.stdout.contains("22 77"), "{told:?}");
    assert_eq!(told.status(), 9);

    let exec = world.docker.exec(&handle, &process(&["sh", "-c", "cat; echo e >&2; exit 2"])).await.unwrap();
    exec.input.send(Input::Data("piped".into())).await.unwrap();
    exec.input.send(Input::Close).await.unwrap();
    let told = read(exec.output).await;
    assert_eq!((told.stdout.as_str(), told.stderr.as_str(), told.status()), ("piped", "e\n", 2));

    let exec = world.docker.exec(&handle, &process(&["nope"])).await.unwrap();
    let told = read(exec.output).await;
    assert!(matches!(told.end, Some(Output::Exited(Exit::NotStarted { not_found: true, .. }))), "{told:?}");

    let mut exec = world
        .docker
        .exec(
            &handle,
            &Process { tty, ..process(&["sh", "-c", "trap 'exit 0' HUP; echo ready; while :; do sleep 0.05; done"]) },
        )
        .await
        .unwrap();
    until(&mut exec.output, "ready").await;
    drop(exec.input);
    read(exec.output).await;
    assert!(matches!(world.docker.exec(&world.container("none"), &process(&["sh"])).await, Err(Error::NotFound(_))));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_asks_first_and_then_kills() {
    let world = World::new().await;
    let polite = world.container("polite");
    let mut attached = world
        .docker
        .start(&polite, &sh("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"))
        .await
        .unwrap();
    until(&mut attached, "ready").await;
    world.docker.stop(&polite, Duration::from_secs(60)).await.unwrap();
    let told = read(attached).await;
    assert_eq!((told.stdout.as_str(), told.status()), ("bye\n", 5));
    world.docker.stop(&polite, Duration::ZERO).await.unwrap();

    let deaf = world.container("deaf");
    let mut attached =
        world.docker.start(&deaf, &sh("trap '' TERM; echo ready; while :; do sleep 0.05; done")).await.unwrap();
    until(&mut attached, "ready").await;
    world.docker.stop(&deaf, Duration::from_millis(100)).await.unwrap();
    assert_eq!(read(attached).await.status(), 137);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_away_is_told_and_what_had_ended_is_still_known() {
    let world = World::new().await;
    let handle = world.container("removed");
    let mut attached = world.docker.start(&handle, &sh("echo ready; sleep 1000")).await.unwrap();
    until(&mut attached, "ready").await;
    world.docker.remove_container(&handle).await.unwrap();
    assert!(matches!(read(attached).await.end, Some(Output::Lost(_))));

    let handle = world.container("killed");
    let mut attached = world.docker.start(&handle, &sh("echo ready; sleep 1000")).await.unwrap();
    until(&mut attached, "ready").await;
    let name = engine_name(&world, "killed").await;
    world.engine.kill_container(&name, None::<bollard::query_parameters::KillContainerOptions>).await.unwrap();
    let Some(Output::Lost(text)) = read(attached).await.end else { panic!("not lost") };
    assert!(text.contains("the Docker engine ended the container (status 137"), "{text}");
    let again = read(world.docker.attach(&handle, 0).await.unwrap()).await;
    assert_eq!(again.stdout, "ready\n");
    assert!(matches!(again.end, Some(Output::Lost(_))));

    let handle = world.container("ended");
    read(world.docker.start(&handle, &sh("echo all; exit 6")).await.unwrap()).await;
    let name = engine_name(&world, "ended").await;
    world.engine.kill_container(&name, None::<bollard::query_parameters::KillContainerOptions>).await.unwrap();
    let mut waiting =
        Box::pin(world.engine.wait_container(&name, None::<bollard::query_parameters::WaitContainerOptions>));
    while let Some(Ok(_)) = waiting.next().await {}
    let again = read(world.docker.attach(&handle, 1).await.unwrap()).await;
    assert_eq!((again.stdout.as_str(), again.status()), ("ll\n", 6));
    world.end().await;
}

/// A way to the engine that can be cut.
struct Proxy {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Proxy {
    fn new() -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let engine = std::env::var("DOCKER_HOST").unwrap().replace("unix://", "");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    let mut far = tokio::net::UnixStream::connect(engine).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Proxy { path, task, _directory: directory }
    }

    fn cut(self) {
        std::fs::remove_file(&self.path).unwrap();
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_away_loses_the_step_and_hangs_nothing() {
    let world = World::new().await;
    let proxy = Proxy::new();
    let through =
        Docker::connect(Options { host: Some(format!("unix://{}", proxy.path.display())), ..options(&world.id) });
    let handle = world.container("cut");
    let mut attached = through.start(&handle, &sh("echo ready; sleep 1000")).await.unwrap();
    until(&mut attached, "ready").await;
    let exec = through.exec(&handle, &process(&["sleep", "1000"])).await.unwrap();
    proxy.cut();
    for output in [attached, exec.output] {
        let Some(Output::Lost(text)) = read(output).await.end else { panic!("not lost") };
        assert!(text.contains("the Docker engine"), "{text}");
    }
    assert!(matches!(through.list().await, Err(Error::Unavailable(text)) if text.contains("systemctl start docker")));
    // The step itself goes on.
    let mut again = world.docker.attach(&handle, 0).await.unwrap();
    until(&mut again, "ready").await;
    drop(again);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_as_such() {
    let world = World::new().await;
    // A volume of the same name as ours would have, on a disk of one megabyte.
    let plain = world.volume("full", Origin::Empty).await;
    let filters = HashMap::from([("label".to_string(), vec![format!("whistlestop.installation={}", world.id)])]);
    let query = bollard::query_parameters::ListVolumesOptions { filters: Some(filters) };
    let found = world.engine.list_volumes(Some(query)).await.unwrap().volumes.unwrap().remove(0);
    world.docker.remove_volume(&plain).await.unwrap();
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
    let request = bollard::models::VolumeCreateRequest {
        name: Some(found.name),
        driver_opts: Some(options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        labels: Some(found.labels),
        ..Default::default()
    };
    world.engine.create_volume(request).await.unwrap();
    let big = "x".repeat(4 << 20);
    let result = world.docker.stream_in(&plain, "", tar_of(&[("big", &big)])).await;
    assert!(matches!(&result, Err(Error::DiskFull(text)) if text.contains("free space")), "{result:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_to_a_slow_reader_arrives_whole() {
    let world = World::new().await;
    let handle = world.container("much");
    let mut attached = world.docker.start(&handle, &sh("seq 1 1000000; seq 1 1000 >&2")).await.unwrap();
    // The pipe and all buffers fill up while nobody reads.
    let first = attached.recv().await;
    let (mut stdout, mut stderr, mut end) = (Vec::new(), Vec::new(), None);
    let mut next = first;
    while let Some(output) = next {
        match output {
            Output::Data { stream: Stream::Stdout, bytes, .. } => stdout.extend_from_slice(&bytes),
            Output::Data { stream: Stream::Stderr, bytes, .. } => stderr.extend_from_slice(&bytes),
            other => end = Some(other),
        }
        if stdout.len() < 1 << 20 {
            tokio::task::yield_now().await;
        }
        next = attached.recv().await;
    }
    let numbers = |last: u32| (1..=last).map(|n| format!("{n}\n")).collect::<String>();
    assert!(stdout == numbers(1_000_000).as_bytes() && stderr == numbers(1_000).as_bytes(), "{}", stdout.len());
    assert_eq!(end, Some(Output::Exited(Exit::Status(0))));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_starts_at_once_all_run_and_the_same_start_runs_once() {
    let world = World::new().await;
    let volume = world.volume("log", Origin::Empty).await;
    let spec = ContainerSpec { mounts: vec![mount(&volume, "/v", false)], ..sh("echo $HOSTNAME >> /v/log; hostname") };
    let handles: Vec<_> = (0..12).map(|n| world.container(&format!("many-{}", n / 2))).collect();
    let starts = handles.iter().map(|handle| async { read(world.docker.start(handle, &spec).await.unwrap()).await });
    for (told, handle) in futures_util::future::join_all(starts).await.iter().zip(&handles) {
        assert_eq!((told.stdout.as_str(), told.status()), (format!("{handle}\n").as_str(), 0));
    }
    assert_eq!(files_of(world.docker.stream_out(&volume, "log").await.unwrap()).await["log"].lines().count(), 6);
    world.end().await;
}

async fn engine_name(world: &World, handle: &str) -> String {
    let labels = vec![format!("whistlestop.installation={}", world.id), format!("whistlestop.handle={handle}")];
    let options = bollard::query_parameters::ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_string(), labels)])),
        ..Default::default()
    };
    world.engine.list_containers(Some(options)).await.unwrap()[0].id.clone().unwrap()
}
