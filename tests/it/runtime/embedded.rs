//! The embedded runtime: the common suite, and what only it does.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use whistlestop::runtime::embedded::{Embedded, NATIVE_EXE, Options};
use whistlestop::runtime::room::Watermark;
use whistlestop::runtime::{
    Attached, ContainerHandle, ContainerSpec, Error, Exit, Image, Isolation, Limits, Mount, Origin, Output, Process,
    Runtime, VolumeHandle, WindowSize,
};

use super::conformance::{Lab, busybox_image};
use super::inside;
use super::layers::attribute;

struct EmbeddedLab {
    state: tempfile::TempDir,
    runtime: Arc<Embedded>,
    image: Image,
}

fn open(state: PathBuf) -> Arc<Embedded> {
    open_with(state, Isolation::default())
}

fn open_with(state: PathBuf, isolation: Isolation) -> Arc<Embedded> {
    let options = Options {
        allow_host_rootfs: true,
        allow_local: false,
        self_exe: env!("CARGO_BIN_EXE_whistlestop").into(),
        masked: Vec::new(),
        isolation,
        most_image_bytes: 1 << 30,
        watermark: Watermark::NONE,
    };
    Arc::new(Embedded::new(state, options).unwrap())
}

async fn lab() -> EmbeddedLab {
    let state = tempfile::tempdir().unwrap();
    let runtime = open(state.path().join("state"));
    let volume = VolumeHandle("image".into());
    runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    runtime.stream_in(&volume, "", busybox_image()).await.unwrap();
    EmbeddedLab { state, runtime, image: Image::Volume { volume, path: String::new() } }
}

#[async_trait]
impl Lab for EmbeddedLab {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.runtime.clone()
    }

    fn reopened(&self) -> Arc<dyn Runtime> {
        open(self.state.path().join("state"))
    }

    async fn image(&self) -> Image {
        self.image.clone()
    }

    fn with(&self, isolation: Isolation) -> Arc<dyn Runtime> {
        open_with(self.state.path().join("state"), isolation)
    }

    fn forge(&self, container: &ContainerHandle) -> bool {
        let directory = self.state.path().join("state/containers").join(&container.0);
        // Nobody serves it any more, so that its files are all there is.
        let pid = std::fs::read_to_string(directory.join("pid")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.split_whitespace().next().unwrap().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while lives() {
            std::thread::yield_now();
        }
        let noise = |length: usize| (0..length).map(|n| (n * 167 % 251) as u8).collect::<Vec<_>>();
        let names = ["spool", "exit"].map(|name| directory.join(name));
        names.iter().all(|path| path.exists() && std::fs::write(path, noise(100_000)).is_ok())
    }

    fn has_users(&self) -> bool {
        nix::unistd::Uid::effective().is_root()
    }
}

impl Drop for EmbeddedLab {
    fn drop(&mut self) {
        // A failed test must not leave its supervisors behind.
        let containers = std::fs::read_dir(self.state.path().join("state/containers")).into_iter().flatten().flatten();
        for container in containers {
            let text = std::fs::read_to_string(container.path().join("pid")).unwrap_or_default();
            if let Some(pid) = text.split_whitespace().next().and_then(|p| p.parse().ok()) {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
        self.runtime.leases().walls().lower().ok();
    }
}

conformance!(lab);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_sees_what_it_saw_on_concourse() {
    let lab = lab().await;
    let own = if lab.has_users() { &[] } else { AS_AN_ORDINARY_USER };
    inside::a_task_sees_what_it_saw_on_concourse(&lab, own).await;
}

/// See [`inside`].
const AS_AN_ORDINARY_USER: &[inside::Difference] = &[
    ("chown", "", "there is no user but root"),
    ("uid_map", "", "one user, who is whoever runs the server"),
    ("net", "", "the host's network"),
    ("dev", "+crw-rw-rw- 65534 65534", "the host's root has no name in a user namespace of one user"),
];

fn spec(image: Image, text: &str) -> ContainerSpec {
    ContainerSpec {
        team: "main".into(),
        labels: Default::default(),
        image,
        privileged: false,
        hermetic: false,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: Process {
            path: "sh".into(),
            args: vec!["-c".into(), text.into()],
            dir: "/tmp".into(),
            ..Process::default()
        },
    }
}

async fn collect(mut attached: Attached) -> (String, Option<Output>) {
    let mut text = Vec::new();
    while let Some(output) = attached.recv().await {
        match output {
            Output::Data { bytes, .. } => text.extend_from_slice(&bytes),
            end => return (String::from_utf8_lossy(&text).into_owned(), Some(end)),
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), None)
}

fn ended(status: i32) -> Option<Output> {
    Some(Output::Exited(Exit::Status(status)))
}

fn supervisor(lab: &EmbeddedLab, handle: &ContainerHandle) -> nix::unistd::Pid {
    let path = lab.state.path().join("state/containers").join(&handle.0).join("pid");
    let text = std::fs::read_to_string(path).unwrap();
    nix::unistd::Pid::from_raw(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Processes of the host whose command line holds `text`.
fn processes_with(text: &str) -> usize {
    let lines =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_takes_all_with_it_and_is_reported() {
    let lab = lab().await;
    let handle = ContainerHandle("killed".into());
    let mut attached =
        lab.runtime.start(&handle, &spec(lab.image.clone(), "sleep 98761 & echo up; sleep 98761")).await.unwrap();
    assert!(matches!(attached.recv().await, Some(Output::Data { .. })));
    nix::sys::signal::kill(supervisor(&lab, &handle), nix::sys::signal::Signal::SIGKILL).unwrap();
    let (_, end) = collect(attached).await;
    assert!(matches!(&end, Some(Output::Lost(text)) if text.contains("supervisor is gone")), "{end:?}");
    let (text, end) = collect(lab.reopened().attach(&handle, 0).await.unwrap()).await;
    assert_eq!(text, "up\n");
    assert!(matches!(end, Some(Output::Lost(_))));
    // Never a second time: it may have had effects.
    let again = lab.runtime.start(&handle, &spec(lab.image.clone(), "echo twice")).await.unwrap();
    assert_eq!(collect(again).await.0, "up\n");
    let entered = lab.runtime.exec(&handle, &spec(lab.image.clone(), "true").process).await;
    assert!(entered.is_err());
    lab.runtime.remove_container(&handle).await.unwrap();
    assert_eq!(processes_with("sleep 98761"), 0);
    assert!(!lab.state.path().join("state/containers/killed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_container_is_told_of_after_its_supervisor_is_gone() {
    let lab = lab().await;
    let handle = ContainerHandle("finished".into());
    let attached = lab.runtime.start(&handle, &spec(lab.image.clone(), "echo one; echo two; exit 3")).await.unwrap();
    assert_eq!(collect(attached).await, ("one\ntwo\n".into(), ended(3)));
    nix::sys::signal::kill(supervisor(&lab, &handle), nix::sys::signal::Signal::SIGKILL).unwrap();
    while lab.runtime.exec(&handle, &spec(lab.image.clone(), "true").process).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let attached = lab.reopened().attach(&handle, 4).await.unwrap();
    assert_eq!(collect(attached).await, ("two\n".into(), ended(3)));
    lab.runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_can_be_the_root_and_is_never_written_to() {
    let lab = lab().await;
    let volume = VolumeHandle("image".into());
    let directory = lab.runtime.local_path(&volume).unwrap().join("rootfs");
    let handle = ContainerHandle("directory".into());
    let image = Image::Directory(directory.clone());
    let attached = lab.runtime.start(&handle, &spec(image, "echo x > /made; rm /etc/group; ls /")).await.unwrap();
    assert!(collect(attached).await.0.contains("made\n"));
    assert!(directory.join("etc/group").exists() && !directory.join("made").exists());
    lab.runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_seen_without_its_secrets() {
    let lab = lab().await;
    let handle = ContainerHandle("host".into());
    let text = format!(
        "ls -A /root /home /run /tmp {} 2>/dev/null | grep -v ':$' | tr -d '\\n'; cat /etc/shadow 2>/dev/null; \
         test -x /bin/sh && echo sh; echo x > /usr/made && echo written; touch /tmp/mine && echo tmp; \
         ls /etc/ssh 2>/dev/null",
        lab.state.path().display()
    );
    let attached = lab.runtime.start(&handle, &spec(Image::Host, &text)).await.unwrap();
    assert_eq!(
        collect(attached).await,
        ("sh\nwritten\ntmp\n".into(), ended(if std::path::Path::new("/etc/ssh").exists() { 0 } else { 2 }))
    );
    assert!(!std::path::Path::new("/usr/made").exists());
    lab.runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_needs_the_operators_word() {
    let state = tempfile::tempdir().unwrap();
    let options = Options {
        allow_host_rootfs: false,
        allow_local: false,
        self_exe: env!("CARGO_BIN_EXE_whistlestop").into(),
        masked: Vec::new(),
        isolation: Default::default(),
        most_image_bytes: 1 << 30,
        watermark: Watermark::NONE,
    };
    let runtime = Embedded::new(state.path().to_path_buf(), options).unwrap();
    let handle = ContainerHandle("refused".into());
    let refused = runtime.start(&handle, &spec(Image::Host, "true")).await;
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("--allow-host-rootfs")));
    let mut native = spec(Image::Host, "");
    native.process.path = NATIVE_EXE.into();
    native.process.args = vec!["supervise".into()];
    // Our own binary answers a wrong call with its usage and status 2.
    let (text, end) = collect(runtime.start_native(&handle, &native, &[]).await.unwrap()).await;
    assert!(text.contains("usage: supervise"), "{text}");
    assert_eq!(end, ended(2));
    // Nor does a visitor get there by the back door.
    let entered = runtime.exec(&handle, &spec(Image::Host, "ls /").process).await;
    assert!(matches!(&entered.err(), Some(Error::Invalid(text)) if text.contains("--allow-host-rootfs")));
    runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_child_changes_only_what_it_was_given_of_the_host() {
    let host = tempfile::tempdir().unwrap();
    let host = host.path().canonicalize().unwrap();
    let state = host.join("given/state");
    for part in ["given", "beside"] {
        std::fs::create_dir(host.join(part)).unwrap();
    }
    let options = Options {
        allow_host_rootfs: false,
        allow_local: true,
        self_exe: env!("CARGO_BIN_EXE_whistlestop").into(),
        masked: vec![state.clone()],
        isolation: Default::default(),
        most_image_bytes: 1 << 30,
        watermark: Watermark::NONE,
    };
    let runtime = Embedded::new(state.clone(), options).unwrap();
    let handle = ContainerHandle("native".into());
    let text = format!(
        "cd {}; echo text > given/file; echo text > beside/file; ls given/state; echo text > given/state/file",
        host.display()
    );
    let native = spec(Image::Host, &text);
    let (said, _) = collect(runtime.start_native(&handle, &native, &[host.join("given")]).await.unwrap()).await;
    assert_eq!(std::fs::read_to_string(host.join("given/file")).ok().as_deref(), Some("text\n"), "{said}");
    assert!(!host.join("beside/file").exists() && !state.join("file").exists(), "{said}");
    assert!(!said.contains("containers"), "{said}");
    let entered = runtime.exec(&handle, &native.process).await;
    assert!(matches!(&entered.err(), Some(Error::Invalid(text)) if text.contains("nobody can enter")));
    runtime.remove_container(&handle).await.unwrap();
    let refused = runtime.start_native(&ContainerHandle("refused".into()), &native, std::slice::from_ref(&state)).await;
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("keeps")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_made_says_why_and_can_be_tried_again() {
    let lab = lab().await;
    let handle = ContainerHandle("broken".into());
    let image = Image::Directory("/no/such/directory".into());
    let refused = lab.runtime.start(&handle, &spec(image, "true")).await;
    assert!(matches!(&refused, Err(Error::Failed(text)) if text.contains("/no/such/directory")), "{refused:?}");
    assert!(matches!(lab.runtime.attach(&handle, 0).await, Err(Error::NotFound(_))));
    let attached = lab.runtime.start(&handle, &spec(lab.image.clone(), "echo now")).await.unwrap();
    assert_eq!(collect(attached).await, ("now\n".into(), ended(0)));
    lab.runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_where_cgroups_can_be_written() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let (first, second) = (std::path::Path::new("/sys/fs/cgroup/memory"), std::path::Path::new("/sys/fs/cgroup"));
    let root = if first.exists() { first } else { second };
    // Groups of servers that died have no part in this.
    let groups = || -> std::collections::BTreeSet<_> {
        let groups = std::fs::read_dir(root).unwrap().flatten().map(|e| e.path().join("bounded"));
        groups.filter(|p| p.exists()).collect()
    };
    let before = groups();
    let lab = lab().await;
    let handle = ContainerHandle("bounded".into());
    let mut hungry = spec(lab.image.clone(), "tail -c 200000000 /dev/zero | wc -c; echo after");
    hungry.limits = Limits { cpu: Some(512), memory: Some(32 << 20) };
    let (text, _) = collect(lab.runtime.start(&handle, &hungry).await.unwrap()).await;
    assert!(
        !text.contains("200000000") && text.contains("out of memory: the step reached its limit of 32 MiB"),
        "{text}"
    );
    assert_eq!(groups().difference(&before).count(), 1);
    lab.runtime.remove_container(&handle).await.unwrap();
    assert_eq!(groups().difference(&before).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_privileged_step_makes_of_cgroups_goes_with_it() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let lab = lab().await;
    let handle = ContainerHandle("maker".into());
    let name = format!("made-{}", std::process::id());
    // As engines do that run in a step; and what it is told of its own groups begins with them.
    let text = format!(
        "for at in $(grep -E ' (cgroup|cgroup2) ' /proc/mounts | cut -d' ' -f2); do mkdir $at/{name} && echo made; done; \
         cut -d: -f3 /proc/self/cgroup | sort -u"
    );
    let mut maker = spec(lab.image.clone(), &text);
    maker.privileged = true;
    let (text, _) = collect(lab.runtime.start(&handle, &maker).await.unwrap()).await;
    assert!(text.starts_with("made\n") && text.ends_with("\n/\n") && !text.contains("can't"), "{text}");
    // In no hierarchy of the host's, but within the step's own groups.
    let find = |depth: &str| {
        let args = ["/sys/fs/cgroup", "-maxdepth", depth, "-name", &name];
        let found = std::process::Command::new("find").args(args).output().unwrap().stdout;
        String::from_utf8(found).unwrap().lines().count()
    };
    assert_eq!((find("2"), find("5")), (0, text.lines().count() - 1));
    lab.runtime.remove_container(&handle).await.unwrap();
    assert_eq!(find("5"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_and_wait_of_true_is_fast() {
    let lab = lab().await;
    let mut times = Vec::new();
    let mut removals = Vec::new();
    for n in 0..80 {
        let handle = ContainerHandle(format!("fast-{n}"));
        let mut quick = spec(lab.image.clone(), "");
        quick.process.path = "true".into();
        let from = std::time::Instant::now();
        let (_, end) = collect(lab.runtime.start(&handle, &quick).await.unwrap()).await;
        times.push(from.elapsed());
        assert_eq!(end, ended(0));
        let from = std::time::Instant::now();
        lab.runtime.remove_container(&handle).await.unwrap();
        removals.push(from.elapsed());
    }
    times.sort();
    removals.sort();
    println!("start and wait of true: median {:?}, p90 {:?}; removal: median {:?}", times[40], times[72], removals[40]);
    // Far above what it takes, so that a busy machine does not fail it; the figures are for reading.
    assert!(times[0] < std::time::Duration::from_millis(100), "{:?}", times[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_step_and_says_so() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let lab = lab().await;
    let image = lab.runtime.local_path(&VolumeHandle("image".into())).unwrap().join("rootfs");
    let small = lab.state.path().join("small");
    std::fs::create_dir(&small).unwrap();
    // A thread with mounts of its own: the small disk is seen by nobody else and goes with it.
    let run = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let (none, private) = (None::<&str>, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE);
        nix::mount::mount(none, "/", none, private, none).unwrap();
        let empty = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &small, Some("tmpfs"), empty, Some("size=4m")).unwrap();
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let runtime = open(small);
            let handle = ContainerHandle("full".into());
            let loud = spec(Image::Directory(image.clone()), "yes | head -c 50000000; sleep 1000");
            let (text, end) = collect(runtime.start(&handle, &loud).await.unwrap()).await;
            assert!(matches!(&end, Some(Output::Lost(text)) if text.contains("the disk is full")), "{end:?}");
            assert!(text.len() > 1 << 20 && text.bytes().all(|b| b == b'y' || b == b'\n'));
            let (again, end) = collect(runtime.attach(&handle, 0).await.unwrap()).await;
            assert!(again == text && matches!(end, Some(Output::Lost(_))));
            runtime.remove_container(&handle).await.unwrap();
            let quiet = spec(Image::Directory(image), "echo goes on");
            let (text, end) = collect(runtime.start(&handle, &quiet).await.unwrap()).await;
            assert_eq!((text.as_str(), end), ("goes on\n", ended(0)));
            runtime.remove_container(&handle).await.unwrap();
            runtime.close().await;
        });
    };
    tokio::task::spawn_blocking(move || std::thread::spawn(run).join().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_lines_arrive_whole() {
    let lab = lab().await;
    let handle = ContainerHandle("lines".into());
    let line = "line N of the log, with some more text to make it eighty bytes long or so, more";
    let mut loud = spec(lab.image.clone(), &format!("yes '{line}' | head -n 1000000"));
    loud.process.tty = Some(WindowSize { columns: 500, rows: 500 });
    let from = std::time::Instant::now();
    let mut attached = lab.runtime.start(&handle, &loud).await.unwrap();
    let mut length = 0;
    while let Some(output) = attached.recv().await {
        match output {
            Output::Data { bytes, .. } => length += bytes.len(),
            end => assert_eq!(Some(end), ended(0)),
        }
    }
    println!("a million lines through a terminal: {:?}", from.elapsed());
    assert_eq!(length, (line.len() + 2) * 1_000_000);
    lab.runtime.remove_container(&handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_can_be_read_and_copied_while_their_container_is_kept() {
    let lab = lab().await;
    let [parent, child, grandchild] = ["parent", "child", "grandchild"].map(|name| VolumeHandle(name.into()));
    lab.runtime.create_volume(&parent, "main", &Origin::Empty).await.unwrap();
    lab.runtime.create_volume(&child, "main", &Origin::CopyOf(parent.clone())).await.unwrap();
    let (kept, next) = (ContainerHandle("kept".into()), ContainerHandle("next".into()));
    let mut first = spec(lab.image.clone(), "echo made > /in/file");
    first.mounts = vec![Mount { volume: child.clone(), path: "/in".into(), read_only: false }];
    assert_eq!(collect(lab.runtime.start(&kept, &first).await.unwrap()).await.1, ended(0));
    lab.runtime.create_volume(&grandchild, "main", &Origin::CopyOf(child.clone())).await.unwrap();
    let mut second = spec(lab.image.clone(), "cat /in/file && rm /in/file");
    second.mounts = vec![Mount { volume: grandchild.clone(), path: "/in".into(), read_only: false }];
    assert_eq!(collect(lab.runtime.start(&next, &second).await.unwrap()).await, ("made\n".into(), ended(0)));
    for _ in 0..2 {
        let mut tar = Vec::new();
        let mut stream = lab.runtime.stream_out(&child, "file").await.unwrap();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut tar).await.unwrap();
        assert_eq!(tar::Archive::new(&tar[..]).entries().unwrap().count(), 1);
    }
    assert!(lab.runtime.stream_out(&grandchild, "file").await.is_err());
    // A visitor can still write where the step wrote.
    let exec = lab.runtime.exec(&kept, &spec(lab.image.clone(), "echo more >> /in/file; cat /in/file").process).await;
    assert_eq!(collect(exec.unwrap().output).await, ("made\nmore\n".into(), ended(0)));
    for container in [&kept, &next] {
        lab.runtime.remove_container(container).await.unwrap();
    }
    for volume in [&grandchild, &child, &parent] {
        lab.runtime.remove_volume(volume).await.unwrap();
    }
}

/// Bytes on the disk below a directory. An overlay keeps one for itself that only root can read.
fn on_disk(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            meta.blocks() * 512 + if meta.is_dir() { on_disk(&entry.path()) } else { 0 }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_containers_of_an_image_cost_what_they_write() {
    const MANY: u64 = 100;
    const WRITTEN: u64 = 16 << 10;
    // What is kept of each beside: how it was made, how it ended, its output, and the directories of its layer.
    const BESIDE: u64 = 160 << 10;
    let lab = lab().await;
    let input = VolumeHandle("input".into());
    lab.runtime.create_volume(&input, "main", &Origin::Empty).await.unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(10 << 20);
    header.set_mode(0o644);
    header.set_uid(nix::unistd::Uid::effective().as_raw().into());
    header.set_gid(nix::unistd::Gid::effective().as_raw().into());
    builder.append_data(&mut header, "large", &vec![7u8; 10 << 20][..]).unwrap();
    let tar = std::io::Cursor::new(builder.into_inner().unwrap());
    lab.runtime.stream_in(&input, "", Box::pin(tar)).await.unwrap();
    let one = async |n: u64| {
        let copy = VolumeHandle(format!("copy-{n}"));
        lab.runtime.create_volume(&copy, "main", &Origin::CopyOf(input.clone())).await.unwrap();
        let text = format!("head -c {WRITTEN} /dev/urandom > /mine; test -s /in/large");
        let mut spec = spec(lab.image.clone(), &text);
        spec.mounts = vec![Mount { volume: copy, path: "/in".into(), read_only: false }];
        let handle = ContainerHandle(format!("many-{n}"));
        assert_eq!(collect(lab.runtime.start(&handle, &spec).await.unwrap()).await.1, ended(0));
    };
    one(0).await;
    let before = on_disk(lab.state.path());
    futures_util::stream::StreamExt::collect::<Vec<()>>(futures_util::stream::StreamExt::buffer_unordered(
        futures_util::stream::iter((1..=MANY).map(one)),
        8,
    ))
    .await;
    let each = (on_disk(lab.state.path()) - before) / MANY;
    println!("disk of a kept container that wrote {WRITTEN} bytes: {each}");
    assert!(each <= WRITTEN + BESIDE, "{each} bytes each");
    for n in 0..=MANY {
        lab.runtime.remove_container(&ContainerHandle(format!("many-{n}"))).await.unwrap();
        lab.runtime.remove_volume(&VolumeHandle(format!("copy-{n}"))).await.unwrap();
    }
    assert!(on_disk(lab.state.path()) < before + (1 << 20), "the disk is not back to where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_steps_make_is_out_of_reach_of_the_hosts_users() {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::Uid::effective().is_root() {
        // There is nobody else to be kept out.
        return;
    }
    let lab = lab().await;
    std::fs::set_permissions(lab.state.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let volume = VolumeHandle("theirs".into());
    lab.runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    let mut spec = spec(lab.image.clone(), "cp /bin/busybox /v/root-for-all; chmod 4755 /v/root-for-all; ls -l /v");
    spec.mounts = vec![Mount { volume: volume.clone(), path: "/v".into(), read_only: false }];
    let (said, _) = collect(lab.runtime.start(&ContainerHandle("makes".into()), &spec).await.unwrap()).await;
    assert!(said.contains("-rwsr-xr-x"), "steps may have such files: {said}");
    let file = lab.runtime.local_path(&volume).unwrap().join("root-for-all");
    assert!(file.exists());
    let mut command = std::process::Command::new(&file);
    std::os::unix::process::CommandExt::uid(&mut command, 65534).arg("id");
    assert_eq!(command.spawn().unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // The directories that keep them out are what does it.
    for directory in file.ancestors().skip(1).take_while(|directory| directory.starts_with(lab.state.path())) {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = std::process::Command::new(&file);
    std::os::unix::process::CommandExt::uid(&mut command, 65534).arg("id").stdout(std::process::Stdio::null());
    assert!(command.status().is_ok(), "it cannot be run anyway");
    lab.runtime.remove_container(&ContainerHandle("makes".into())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_in_an_archive_is_long_enough_to_take_the_memory() {
    let lab = lab().await;
    let runtime = lab.runtime();
    let volume = VolumeHandle("long-names".to_owned());
    runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(kind);
        header.set_size(4 << 30);
        header.set_cksum();
        let name = tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), 4 << 30);
        let archive = tokio::io::AsyncReadExt::chain(std::io::Cursor::new(header.as_bytes().to_vec()), name);
        let error = runtime.stream_in(&volume, "", Box::pin(archive)).await.unwrap_err().to_string();
        assert!(error.contains("longer than 512 MiB") || error.contains("takes more than 512 MiB"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_brings_no_attributes_that_an_overlay_obeys() {
    let lab = lab().await;
    let runtime = lab.runtime();
    let volume = VolumeHandle("attributes".to_owned());
    runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let attributes = [
        ("SCHILY.xattr.trusted.overlay.redirect", &b"/other"[..]),
        ("SCHILY.xattr.trusted.overlay.metacopy", &b""[..]),
        ("SCHILY.xattr.user.overlay.metacopy", &b""[..]),
        ("SCHILY.xattr.user.note", &b"kept"[..]),
    ];
    builder.append_pax_extensions(attributes).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o640);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "deep/file", &b"text"[..]).unwrap();
    let archive = std::io::Cursor::new(builder.into_inner().unwrap());
    runtime.stream_in(&volume, "below", Box::pin(archive)).await.unwrap();
    let file = lab.runtime.local_path(&volume).unwrap().join("below/deep/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.metacopy"] {
        assert_eq!(attribute(&file, name), None, "{name}");
    }
    assert_eq!(attribute(&file, "user.note").as_deref(), Some(&b"kept"[..]));
}
