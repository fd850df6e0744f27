//! What only a real Docker engine can show. `DOCKER_HOST` names it; it is run by the test command.

mod failure;
mod image;
mod lease;
mod step;
mod suite;
mod volume;
mod walls;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::query_parameters::{CreateImageOptions, PushImageOptions, TagImageOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{OnceCell, mpsc};
use whistlestop::runtime::docker::{Docker, Options};
use whistlestop::runtime::{
    Attached, ContainerHandle, ContainerSpec, Error, Exit, Image, Input, Limits, Mount, Origin, Output, Process,
    RegistryAuth, Runtime, Stream, TarStream, VolumeHandle, WindowSize,
};

const IMAGE: &str = "whistlestop-test-busybox:latest";
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
        self.docker.close().await;
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

async fn engine() -> bollard::Docker {
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
        "head", "tail", "seq", "touch", "mkdir", "rm", "wc", "kill", "tr", "tty", "mknod",
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

async fn import_busybox(engine: &bollard::Docker) {
    if engine.inspect_image(IMAGE).await.is_ok() {
        return;
    }
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
