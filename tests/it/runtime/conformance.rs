//! What every [`Runtime`] must do, as functions over a [`Lab`]. `conformance!(make_lab)` makes a test of each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use whistlestop::runtime::{
    Attached, ContainerHandle, ContainerSpec, Error, Exec, Exit, Image, Input, Isolation, Limits, Mount, Origin,
    Output, Process, Runtime, Stopped, Stream, TarStream, VolumeHandle, WindowSize,
};

/// A runtime under test.
#[async_trait]
pub trait Lab: Send + Sync {
    /// The runtime.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Another one on the same state, as after a restart of the server.
    fn reopened(&self) -> Arc<dyn Runtime>;

    /// An image with busybox.
    async fn image(&self) -> Image;

    /// The same installation under another word of the operator.
    fn with(&self, isolation: Isolation) -> Arc<dyn Runtime>;

    /// Changes the files that tell of a container which has ended, where no step can reach them; whether there are any.
    fn forge(&self, _container: &ContainerHandle) -> bool {
        false
    }

    /// Whether root in a container is somebody else on the host, so that it may mount.
    async fn maps_users(&self) -> bool {
        true
    }

    /// Whether users other than root can be had.
    fn has_users(&self) -> bool {
        true
    }
}

/// The attempts to get out, as part of the suite.
pub use super::bounds::*;
pub use super::escape::*;
pub use super::owners::*;

/// Makes a test of every function of the suite; `$lab` is an async function that makes a [`Lab`].
macro_rules! conformance {
    ($lab:path: $($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let lab = $lab().await;
            $crate::runtime::conformance::$name(&lab).await;
        }
    )*};
    ($lab:path) => {
        conformance! { $lab:
            exit_status_is_told streams_are_kept_apart terminal_lines_end_in_crlf stdin_reaches_the_process
            environment_and_directory users_are_looked_up missing_programs_are_named death_by_signal_is_128_plus
            stop_is_term_then_kill stop_ends_what_was_started inputs_are_copy_on_write mounts_nest
            an_output_can_be_the_working_directory a_directory_below_the_steps_own_must_exist
            read_only_mounts volumes_survive_containers tar_round_trip hostile_archives_stay_inside
            attach_goes_on_exactly start_twice_is_one_process exec_enters_running_containers
            exec_enters_finished_containers exec_has_a_terminal hang_up_reaches_the_process remove_can_be_repeated
            listing_is_whole big_output_is_intact hostname_is_the_handle dropping_output_detaches
            unprivileged_steps_have_fourteen_capabilities hermetic_has_loopback_only what_is_absent_is_not_found
            only_three_descriptors_are_open files_of_several_names_stay_one the_supervisor_cannot_be_looked_into a_forged_record_hurts_nobody the_kernel_takes_no_orders
            no_socket_and_no_file_of_the_host_is_there links_and_devices_in_archives_lead_nowhere
            devices_cannot_be_made_or_brought dots_in_the_place_of_an_output_stay_inside links_in_inputs_do_not_move_mounts_out a_fork_bomb_stays_inside
            memory_that_runs_out_is_told output_is_bounded open_files_and_new_rights_are_bounded
            privileged_is_what_the_operator_says what_fuse_only_gives_is_no_way_out names_are_added
            a_finished_container_gives_its_output_back_and_can_be_entered
            files_go_to_the_steps_user nobody_is_given_files_whom_the_image_does_not_name
            scratch_is_no_overlay_and_devices_stay_the_hosts programs_of_32_bits_run_and_gain_nothing_by_it
        }
    };
}

static COUNT: AtomicU32 = AtomicU32::new(0);

pub fn unique() -> String {
    format!("wt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn container() -> ContainerHandle {
    ContainerHandle(unique())
}

pub async fn volume(lab: &dyn Lab, origin: &Origin) -> VolumeHandle {
    let handle = VolumeHandle(unique());
    lab.runtime().create_volume(&handle, "main", origin).await.unwrap();
    handle
}

/// A shell script as a container.
pub async fn script(lab: &dyn Lab, text: &str) -> ContainerSpec {
    ContainerSpec {
        team: "main".into(),
        labels: [("step".to_owned(), "test".to_owned())].into(),
        image: lab.image().await,
        privileged: false,
        hermetic: false,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: shell(text),
    }
}

pub fn shell(text: &str) -> Process {
    Process { path: "sh".into(), args: vec!["-c".into(), text.into()], dir: "/tmp".into(), ..Process::default() }
}

pub fn mount(volume: &VolumeHandle, path: &str) -> Mount {
    Mount { volume: volume.clone(), path: path.into(), read_only: false }
}

fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(nix::unistd::Uid::effective().as_raw().into());
    header.set_gid(nix::unistd::Gid::effective().as_raw().into());
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header
}

/// All that a process has said.
#[derive(Debug, Default)]
pub struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    total: u64,
    exit: Option<Exit>,
    lost: Option<String>,
}

impl Said {
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub fn status(&self) -> i32 {
        match &self.exit {
            Some(Exit::Status(status)) => *status,
            other => panic!("no status but {other:?}, lost {:?}", self.lost),
        }
    }

    fn take(&mut self, output: Output) -> bool {
        match output {
            Output::Data { stream, offset, bytes } => {
                assert_eq!(offset, self.total, "offsets go on without a gap");
                self.total += bytes.len() as u64;
                match stream {
                    Stream::Stdout => self.out.extend_from_slice(&bytes),
                    Stream::Stderr => self.err.extend_from_slice(&bytes),
                }
                true
            }
            Output::Exited(exit) => {
                self.exit = Some(exit);
                false
            }
            Output::Lost(text) => {
                self.lost = Some(text);
                false
            }
        }
    }
}

pub async fn next(attached: &mut Attached) -> Output {
    let next = tokio::time::timeout(Duration::from_secs(60), attached.recv()).await;
    next.expect("output within a minute").expect("an end before the channel closes")
}

async fn read_from(attached: &mut Attached, from: u64) -> Said {
    let mut said = Said { total: from, ..Said::default() };
    read_on(attached, &mut said).await;
    said
}

pub async fn read_on(attached: &mut Attached, said: &mut Said) {
    while said.take(next(attached).await) {}
    assert!(attached.recv().await.is_none(), "nothing follows the end");
}

pub async fn read_all(mut attached: Attached) -> Said {
    read_from(&mut attached, 0).await
}

pub async fn read_until(attached: &mut Attached, said: &mut Said, text: &str) {
    while !said.text().contains(text) {
        assert!(said.take(next(attached).await), "ended before {text:?}: {said:?}");
    }
}

pub async fn run(lab: &dyn Lab, spec: &ContainerSpec) -> Said {
    let handle = container();
    let said = read_all(lab.runtime().start(&handle, spec).await.unwrap()).await;
    lab.runtime().remove_container(&handle).await.unwrap();
    said
}

/// Files with their modes; a name that ends in a slash is a directory.
pub fn tar_with(files: &[(String, String, u32)]) -> TarStream {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text, mode) in files {
        let mut header = header();
        header.set_mode(*mode);
        header.set_size(text.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

pub fn tar_of(files: &[(&str, &str)]) -> TarStream {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = self::header();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

pub async fn names_in(mut stream: TarStream) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut found: Vec<(String, String)> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            (name.trim_start_matches("./").trim_end_matches('/').to_owned(), text)
        })
        .filter(|(name, _)| !name.is_empty() && name != ".")
        .collect();
    found.sort();
    found
}

fn pair(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

pub async fn exit_status_is_told(lab: &dyn Lab) {
    assert_eq!(run(lab, &script(lab, "exit 0").await).await.status(), 0);
    assert_eq!(run(lab, &script(lab, "exit 42").await).await.status(), 42);
}

pub async fn streams_are_kept_apart(lab: &dyn Lab) {
    let said = run(lab, &script(lab, "echo a; echo b >&2; echo c; printf d >&2").await).await;
    assert_eq!((said.text().as_str(), said.err.as_slice()), ("a\nc\n", &b"b\nd"[..]));
}

pub async fn terminal_lines_end_in_crlf(lab: &dyn Lab) {
    let mut spec = script(lab, "echo a; echo b >&2; stty size; tty; test -t 0 && test -t 1 && test -t 2").await;
    spec.process.tty = Some(WindowSize { columns: 500, rows: 400 });
    let said = run(lab, &spec).await;
    assert_eq!(said.text(), "a\r\nb\r\n400 500\r\n/dev/pts/0\r\n");
    assert_eq!((said.err.len(), said.status()), (0, 0));
}

pub async fn stdin_reaches_the_process(lab: &dyn Lab) {
    let mut spec = script(lab, "wc -c").await;
    spec.process.stdin = vec![b'x'; 300_000];
    assert_eq!(run(lab, &spec).await.text().trim(), "300000");
    assert_eq!(run(lab, &script(lab, "cat; echo end").await).await.text(), "end\n");
}

pub async fn environment_and_directory(lab: &dyn Lab) {
    let mut spec = script(lab, "pwd; echo $A-$HOME-$USER; echo $PATH; umask; test -d /scratch").await;
    spec.process.dir = "/made/for/it".into();
    spec.process.env = vec!["A=one two".into()];
    let said = run(lab, &spec).await;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(said.text(), format!("/made/for/it\none two-/root-root\n{path}\n0022\n"));
    assert_eq!(said.status(), 0);
}

pub async fn users_are_looked_up(lab: &dyn Lab) {
    let mut spec = script(lab, "id -u; id -g; echo $HOME $USER").await;
    if lab.has_users() {
        for (user, want) in
            [("ci", "1000\n1001\n/home/ci ci\n"), ("ci:wheel", "1000\n10\n/home/ci ci\n"), ("77:78", "77\n78\n/ 77\n")]
        {
            spec.process.user = Some(user.into());
            assert_eq!(run(lab, &spec).await.text(), want, "{user}");
        }
    }
    spec.process.user = Some("zz".into());
    let message = "lookup user: unable to find user zz: no matching entries in passwd file".to_owned();
    assert_eq!(run(lab, &spec).await.exit, Some(Exit::NotStarted { message, not_found: false }));
}

pub async fn missing_programs_are_named(lab: &dyn Lab) {
    let cases = [
        ("no-such", "exec: \"no-such\": executable file not found in $PATH", true),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory", true),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", false),
    ];
    for (path, message, not_found) in cases {
        let mut spec = script(lab, "").await;
        spec.process.path = path.into();
        let want = Exit::NotStarted { message: message.into(), not_found };
        assert_eq!(run(lab, &spec).await.exit, Some(want), "{path}");
    }
}

pub async fn death_by_signal_is_128_plus(lab: &dyn Lab) {
    assert_eq!(run(lab, &script(lab, "kill -9 $$").await).await.status(), 137);
}

pub async fn stop_is_term_then_kill(lab: &dyn Lab) {
    let runtime = lab.runtime();
    for (text, grace, want) in [
        ("trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.05; done", 30, 7),
        ("trap '' TERM; echo up; while :; do sleep 0.05; done", 0, 137),
    ] {
        let handle = container();
        let mut attached = runtime.start(&handle, &script(lab, text).await).await.unwrap();
        let mut said = Said::default();
        read_until(&mut attached, &mut said, "up").await;
        let started = Instant::now();
        assert_eq!(runtime.stop(&handle, Duration::from_secs(grace)).await.unwrap(), Stopped::Now, "{text}");
        assert!(started.elapsed() < Duration::from_secs(25));
        while said.take(next(&mut attached).await) {}
        assert_eq!(said.status(), want, "{text}");
        assert_eq!(runtime.stop(&handle, Duration::ZERO).await.unwrap(), Stopped::Before, "{text}");
        runtime.remove_container(&handle).await.unwrap();
    }
}

pub async fn stop_ends_what_was_started(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    let text = "(trap '' TERM HUP; setsid sleep 1000) & sleep 1000 & echo up; wait";
    let mut attached = runtime.start(&handle, &script(lab, text).await).await.unwrap();
    let mut said = Said::default();
    read_until(&mut attached, &mut said, "up").await;
    runtime.stop(&handle, Duration::from_millis(200)).await.unwrap();
    while said.take(next(&mut attached).await) {}
    assert!(said.exit.is_some());
    let mut exec = runtime.exec(&handle, &shell("ps | grep -c '[s]leep 1000'")).await.unwrap();
    assert_eq!(read_from(&mut exec.output, 0).await.text().trim(), "0");
    runtime.remove_container(&handle).await.unwrap();
}

pub async fn inputs_are_copy_on_write(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let parent = volume(lab, &Origin::Empty).await;
    runtime.stream_in(&parent, "", tar_of(&[("keep", "old"), ("gone", "x"), ("dir/deep", "y")])).await.unwrap();
    let one = volume(lab, &Origin::CopyOf(parent.clone())).await;
    let two = volume(lab, &Origin::CopyOf(parent.clone())).await;
    let text =
        "cd /in && cat keep dir/deep && echo new > keep && rm gone && rm -r dir && mkdir dir && echo z > dir/other";
    let mut spec = script(lab, text).await;
    spec.mounts = vec![mount(&one, "/in")];
    let said = run(lab, &spec).await;
    assert_eq!((said.text().as_str(), said.status()), ("oldy", 0));
    let changed = [pair("dir", ""), pair("dir/other", "z\n"), pair("keep", "new\n")];
    let original = [pair("dir", ""), pair("dir/deep", "y"), pair("gone", "x"), pair("keep", "old")];
    let files = |found: Vec<(String, String)>| found;
    assert_eq!(files(names_in(runtime.stream_out(&one, "").await.unwrap()).await), changed);
    for untouched in [&two, &parent] {
        let found = names_in(runtime.stream_out(untouched, "").await.unwrap()).await;
        assert_eq!(found.iter().filter(|(n, _)| n != "dir").count(), 3);
        assert!(original.iter().filter(|(n, _)| n != "dir").all(|p| found.contains(p)), "{found:?}");
    }
    // A child of a child sees the child's state.
    let three = volume(lab, &Origin::CopyOf(one.clone())).await;
    assert_eq!(names_in(runtime.stream_out(&three, "").await.unwrap()).await, changed);
    for handle in [&three, &two, &one, &parent] {
        runtime.remove_volume(handle).await.unwrap();
    }
}

pub async fn mounts_nest(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let (outer, inner, innermost) =
        (volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await);
    runtime.stream_in(&outer, "", tar_of(&[("a", "outer")])).await.unwrap();
    let input = volume(lab, &Origin::CopyOf(outer.clone())).await;
    let mut spec = script(lab, "cd /w/in && cat a && echo i > out/file && echo d > out/x/y/file && echo o > b").await;
    // Not in order: the runtime sorts.
    spec.mounts = vec![mount(&innermost, "/w/in/out/x/y"), mount(&inner, "/w/in/out"), mount(&input, "/w/in")];
    let said = run(lab, &spec).await;
    assert_eq!((said.text().as_str(), said.status()), ("outer", 0));
    assert!(names_in(runtime.stream_out(&inner, "").await.unwrap()).await.contains(&pair("file", "i\n")));
    assert_eq!(names_in(runtime.stream_out(&innermost, "").await.unwrap()).await, [pair("file", "d\n")]);
    let top = names_in(runtime.stream_out(&input, "").await.unwrap()).await;
    assert!(top.contains(&pair("b", "o\n")) && !top.iter().any(|(n, _)| n == "out/file"), "{top:?}");
}

pub async fn an_output_can_be_the_working_directory(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let (fetched, output, cache) =
        (volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await);
    runtime.stream_in(&fetched, "", tar_of(&[("a", "in")])).await.unwrap();
    let input = volume(lab, &Origin::CopyOf(fetched.clone())).await;
    let text = "cat in/a; echo o > made; echo n > in/new; echo c > /abs/cache/c; rm -r out 2>/dev/null; ls";
    let mut spec = script(lab, text).await;
    spec.process.dir = "/tmp/build/w".into();
    spec.mounts = vec![mount(&input, "/tmp/build/w/in"), mount(&cache, "/abs/cache"), mount(&output, "/tmp/build/w")];
    assert_eq!(run(lab, &spec).await.text(), "inin\nmade\n");
    let top = names_in(runtime.stream_out(&output, "").await.unwrap()).await;
    assert!(top.contains(&pair("made", "o\n")) && !top.iter().any(|(name, _)| name == "in/a"), "{top:?}");
    assert!(names_in(runtime.stream_out(&input, "").await.unwrap()).await.contains(&pair("new", "n\n")));
    assert_eq!(names_in(runtime.stream_out(&cache, "").await.unwrap()).await, [pair("c", "c\n")]);
    // What the step did to its copy is not in what was fetched.
    assert_eq!(names_in(runtime.stream_out(&fetched, "").await.unwrap()).await, [pair("a", "in")]);
}

pub async fn a_directory_below_the_steps_own_must_exist(lab: &dyn Lab) {
    let mut spec = script(lab, "pwd").await;
    spec.process.dir = "/tmp/build/w/no/such".into();
    let said = run(lab, &spec).await;
    let expected = "chdir to cwd (\"/tmp/build/w/no/such\") set in config.json failed: no such file or directory";
    assert!(matches!(said.exit(), Some(Exit::NotStarted { message, .. }) if message == expected), "{said:?}");
}

pub async fn read_only_mounts(lab: &dyn Lab) {
    let shared = volume(lab, &Origin::Empty).await;
    lab.runtime().stream_in(&shared, "", tar_of(&[("a", "here")])).await.unwrap();
    let mut spec = script(lab, "cat /in/a; touch /in/b 2>/dev/null && echo written; touch /tmp/x && echo root").await;
    spec.mounts = vec![Mount { read_only: true, ..mount(&shared, "/in") }];
    assert_eq!(run(lab, &spec).await.text(), "hereroot\n");
}

pub async fn volumes_survive_containers(lab: &dyn Lab) {
    let output = volume(lab, &Origin::Empty).await;
    let mut spec = script(lab, "echo made > /out/file").await;
    spec.mounts = vec![mount(&output, "/out")];
    assert_eq!(run(lab, &spec).await.status(), 0);
    let reopened = lab.reopened();
    reopened.create_volume(&output, "main", &Origin::Empty).await.unwrap();
    assert_eq!(names_in(reopened.stream_out(&output, "").await.unwrap()).await, [pair("file", "made\n")]);
}

pub async fn tar_round_trip(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = volume(lab, &Origin::Empty).await;
    runtime.stream_in(&handle, "", tar_of(&[("a", "1"), ("dir/b", "2")])).await.unwrap();
    runtime.stream_in(&handle, "dir/more", tar_of(&[("c", "3")])).await.unwrap();
    assert_eq!(names_in(runtime.stream_out(&handle, "a").await.unwrap()).await, [pair("a", "1")]);
    let dir = names_in(runtime.stream_out(&handle, "dir").await.unwrap()).await;
    assert!(dir.contains(&pair("b", "2")) && dir.contains(&pair("more/c", "3")), "{dir:?}");
    let missing = runtime.stream_out(&handle, "nope").await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{:?}", missing.err());
    let mut spec = script(lab, "stat -c '%a %Y' /v/a; cat /v/dir/more/c").await;
    spec.mounts = vec![mount(&handle, "/v")];
    assert_eq!(run(lab, &spec).await.text(), "644 1700000000\n3");
}

pub async fn files_of_several_names_stay_one(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let [from, to] = [volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await];
    let mut spec = script(lab, "mkdir /v/dir; echo content > /v/a; ln /v/a /v/b; ln /v/a /v/dir/c").await;
    spec.mounts = vec![mount(&from, "/v")];
    assert_eq!(run(lab, &spec).await.status(), 0);
    runtime.stream_in(&to, "", runtime.stream_out(&from, "").await.unwrap()).await.unwrap();
    let mut spec = script(lab, "stat -c %h /v/a /v/b /v/dir/c; cat /v/dir/c").await;
    spec.mounts = vec![mount(&to, "/v")];
    assert_eq!(run(lab, &spec).await.text(), "3\n3\n3\ncontent\n");
}

pub async fn hostile_archives_stay_inside(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = volume(lab, &Origin::Empty).await;
    let target = std::env::temp_dir().join(unique());
    std::fs::create_dir(&target).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = header();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "link", &target).unwrap();
    for name in ["link/evil".to_owned(), format!("../../../../../../../..{}/evil", target.display())] {
        let mut header = self::header();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    // Whether it is refused or unpacked somewhere harmless is the runtime's choice.
    runtime.stream_in(&handle, "", Box::pin(std::io::Cursor::new(bytes))).await.ok();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    runtime.stream_in(&handle, "link/up", tar_of(&[("evil", "x")])).await.ok();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    if let Ok(stream) = runtime.stream_out(&handle, "link/../../../../etc").await {
        assert!(!names_in(stream).await.iter().any(|(n, _)| n == "passwd"));
    }
    std::fs::remove_dir(&target).unwrap();
}

pub async fn attach_goes_on_exactly(lab: &dyn Lab) {
    let handle = container();
    let text = "i=0; while [ $i -lt 300 ]; do echo line $i; [ $((i % 3)) = 0 ] && echo err $i >&2; \
                [ $((i % 50)) = 0 ] && sleep 0.1; i=$((i+1)); done";
    let spec = script(lab, text).await;
    let mut said = Said::default();
    let mut attached = lab.runtime().start(&handle, &spec).await.unwrap();
    read_until(&mut attached, &mut said, "line 60\n").await;
    drop(attached);
    // The middle of a chunk is as good a place as any.
    let reopened = lab.reopened();
    let mut attached = reopened.attach(&handle, said.total).await.unwrap();
    while said.take(next(&mut attached).await) {}
    assert_eq!(said.status(), 0);
    let lines: Vec<String> = (0..300).map(|i| format!("line {i}\n")).collect();
    assert_eq!(said.text(), lines.concat());
    for from in [0, 1, said.total / 2, said.total - 1, said.total] {
        let mut again = reopened.attach(&handle, from).await.unwrap();
        let rest = read_from(&mut again, from).await;
        assert_eq!(rest.total, said.total, "from {from}");
        assert!(said.text().ends_with(&rest.text()));
        assert_eq!(rest.status(), 0);
    }
    reopened.remove_container(&handle).await.unwrap();
}

pub async fn start_twice_is_one_process(lab: &dyn Lab) {
    let output = volume(lab, &Origin::Empty).await;
    let mut spec = script(lab, "echo ran >> /out/runs; echo up; sleep 0.2; echo down").await;
    spec.mounts = vec![mount(&output, "/out")];
    let handle = container();
    let (one, two) = (lab.runtime(), lab.reopened());
    let (first, second) = tokio::join!(one.start(&handle, &spec), one.start(&handle, &spec));
    let third = two.start(&handle, &spec);
    for attached in [first.unwrap(), second.unwrap(), third.await.unwrap()] {
        assert_eq!(read_all(attached).await.text(), "up\ndown\n");
    }
    assert_eq!(read_all(two.start(&handle, &spec).await.unwrap()).await.status(), 0);
    assert_eq!(names_in(two.stream_out(&output, "").await.unwrap()).await, [pair("runs", "ran\n")]);
    two.remove_container(&handle).await.unwrap();
}

pub async fn finish(mut exec: Exec) -> Said {
    exec.input.send(Input::Close).await.unwrap();
    read_from(&mut exec.output, 0).await
}

pub async fn exec_enters_running_containers(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    let spec = script(lab, "echo here > /tmp/file; echo up; while [ -e /tmp/file ]; do sleep 0.02; done").await;
    let mut attached = runtime.start(&handle, &spec).await.unwrap();
    let mut said = Said::default();
    read_until(&mut attached, &mut said, "up").await;
    let exec = runtime.exec(&handle, &shell("cat /tmp/file -; echo err >&2; rm /tmp/file; exit 9")).await.unwrap();
    exec.input.send(Input::Data(Bytes::from_static(b"typed"))).await.unwrap();
    let told = finish(exec).await;
    assert_eq!((told.text().as_str(), told.err.as_slice(), told.status()), ("here\ntyped", &b"err\n"[..], 9));
    while said.take(next(&mut attached).await) {}
    assert_eq!(said.status(), 0);
    runtime.remove_container(&handle).await.unwrap();
}

pub async fn exec_enters_finished_containers(lab: &dyn Lab) {
    let handle = container();
    let spec = script(lab, "echo left > /tmp/file; exit 1").await;
    assert_eq!(read_all(lab.runtime().start(&handle, &spec).await.unwrap()).await.status(), 1);
    let reopened = lab.reopened();
    let exec = reopened.exec(&handle, &shell("cat /tmp/file")).await.unwrap();
    assert_eq!(finish(exec).await.text(), "left\n");
    let mut missing = shell("");
    missing.path = "no-such".into();
    let exec = reopened.exec(&handle, &missing).await.unwrap();
    let want = "exec: \"no-such\": executable file not found in $PATH".to_owned();
    let mut output = exec.output;
    assert_eq!(read_from(&mut output, 0).await.exit, Some(Exit::NotStarted { message: want, not_found: true }));
    let mut nowhere = shell("pwd");
    nowhere.dir = "/no/where".into();
    let mut exec = reopened.exec(&handle, &nowhere).await.unwrap();
    let refused = read_from(&mut exec.output, 0).await.exit;
    assert!(matches!(&refused, Some(Exit::NotStarted { message, .. }) if message.contains("/no/where")), "{refused:?}");
    reopened.remove_container(&handle).await.unwrap();
}

pub async fn exec_has_a_terminal(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    read_all(runtime.start(&handle, &script(lab, "true").await).await.unwrap()).await;
    let mut process = shell("trap 'stty size; exit 3' WINCH; stty -echo; stty size; while :; do sleep 0.02; done");
    process.tty = Some(WindowSize { columns: 80, rows: 24 });
    let mut exec = runtime.exec(&handle, &process).await.unwrap();
    let mut said = Said::default();
    read_until(&mut exec.output, &mut said, "24 80\r\n").await;
    exec.input.send(Input::Resize(WindowSize { columns: 132, rows: 50 })).await.unwrap();
    while said.take(next(&mut exec.output).await) {}
    assert_eq!((said.text().as_str(), said.status()), ("24 80\r\n50 132\r\n", 3));

    process = Process { tty: process.tty, ..shell("stty -echo; echo ready; cat") };
    let mut exec = runtime.exec(&handle, &process).await.unwrap();
    let mut said = Said::default();
    read_until(&mut exec.output, &mut said, "ready").await;
    exec.input.send(Input::Data(Bytes::from_static(b"hello\n"))).await.unwrap();
    read_until(&mut exec.output, &mut said, "hello\r\n").await;
    exec.input.send(Input::Close).await.unwrap();
    while said.take(next(&mut exec.output).await) {}
    assert_eq!(said.status(), 0);
    runtime.remove_container(&handle).await.unwrap();
}

pub async fn hang_up_reaches_the_process(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    let spec = script(lab, "echo up; while [ ! -e /tmp/hup ]; do sleep 0.02; done; cat /tmp/hup").await;
    let mut attached = runtime.start(&handle, &spec).await.unwrap();
    let mut said = Said::default();
    read_until(&mut attached, &mut said, "up").await;
    let process = Process {
        tty: Some(WindowSize { columns: 80, rows: 24 }),
        ..shell("trap 'echo hung up > /tmp/h; mv /tmp/h /tmp/hup; exit' HUP; echo ready; while :; do sleep 0.02; done")
    };
    let mut exec = runtime.exec(&handle, &process).await.unwrap();
    let mut heard = Said::default();
    read_until(&mut exec.output, &mut heard, "ready").await;
    drop(exec);
    while said.take(next(&mut attached).await) {}
    assert_eq!(said.text(), "up\nhung up\n");
    runtime.remove_container(&handle).await.unwrap();
}

pub async fn remove_can_be_repeated(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    let mut attached = runtime.start(&handle, &script(lab, "echo up; sleep 1000").await).await.unwrap();
    let mut said = Said::default();
    read_until(&mut attached, &mut said, "up").await;
    runtime.remove_container(&handle).await.unwrap();
    runtime.remove_container(&handle).await.unwrap();
    while said.take(next(&mut attached).await) {}
    assert!(said.lost.is_some() || said.exit.is_some());
    assert!(matches!(runtime.attach(&handle, 0).await, Err(Error::NotFound(_))));
    let gone = volume(lab, &Origin::Empty).await;
    runtime.remove_volume(&gone).await.unwrap();
    runtime.remove_volume(&gone).await.unwrap();
}

pub async fn listing_is_whole(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let (handle, kept) = (container(), volume(lab, &Origin::Empty).await);
    read_all(runtime.start(&handle, &script(lab, "true").await).await.unwrap()).await;
    let listing = lab.reopened().list().await.unwrap();
    assert!(listing.containers.contains(&handle) && listing.volumes.contains(&kept), "{listing:?}");
    runtime.remove_container(&handle).await.unwrap();
    runtime.remove_volume(&kept).await.unwrap();
    let listing = lab.reopened().list().await.unwrap();
    assert!(!listing.containers.contains(&handle) && !listing.volumes.contains(&kept));
}

pub async fn big_output_is_intact(lab: &dyn Lab) {
    const SIZE: usize = 20_000_000;
    let mut spec = script(lab, "yes 'a line of the log' | head -c 20000000").await;
    let line = b"a line of the log\n";
    let said = run(lab, &spec).await;
    assert_eq!((said.out.len(), said.status()), (SIZE, 0));
    assert!(said.out.chunks(line.len()).all(|chunk| line.starts_with(chunk)));
    spec.process = shell("yes | head -n 200000");
    spec.process.tty = Some(WindowSize { columns: 500, rows: 500 });
    let said = run(lab, &spec).await;
    assert_eq!(said.out.len(), 600_000);
    assert!(said.out.chunks(3).all(|chunk| chunk == b"y\r\n"));
}

pub async fn hostname_is_the_handle(lab: &dyn Lab) {
    let handle = container();
    let attached = lab.runtime().start(&handle, &script(lab, "hostname; cat /etc/hostname").await).await.unwrap();
    assert_eq!(read_all(attached).await.text(), format!("{handle}\n{handle}\n"));
    lab.runtime().remove_container(&handle).await.unwrap();
}

pub async fn dropping_output_detaches(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let handle = container();
    // More than any pipe or channel on the way can hold.
    let spec = script(lab, "yes | head -c 9000000; echo end").await;
    drop(runtime.start(&handle, &spec).await.unwrap());
    let said = read_all(runtime.attach(&handle, 0).await.unwrap()).await;
    assert_eq!((said.total, said.status()), (9_000_004, 0));
    assert!(said.text().ends_with("y\ny\nend\n"));
    runtime.remove_container(&handle).await.unwrap();
}

pub async fn unprivileged_steps_have_fourteen_capabilities(lab: &dyn Lab) {
    let text = "grep -E 'Cap(Eff|Bnd|Prm)|^Seccomp:' /proc/self/status | tr -s '\\t' ' '; \
                mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp 2>/dev/null || echo no mount; \
                unshare -r true 2>/dev/null || echo no unshare";
    let said = run(lab, &script(lab, text).await).await;
    let bits = "00000000a80425fb";
    let want = format!("CapPrm: {bits}\nCapEff: {bits}\nCapBnd: {bits}\nSeccomp: 2\nno mount\nno unshare\n");
    assert_eq!(said.text(), want);
    let mut spec = script(lab, text).await;
    spec.privileged = true;
    assert!(!run(lab, &spec).await.text().contains("no mount"));
}

pub async fn hermetic_has_loopback_only(lab: &dyn Lab) {
    let mut spec = script(
        lab,
        "ls /sys/class/net; ping -c 1 -w 2 127.0.0.1 >/dev/null 2>&1; ip -o addr 2>/dev/null | grep -c 127.0.0.1; \
         ping -c 1 -w 1 192.0.2.1 2>&1 | grep -o '100% packet loss'",
    )
    .await;
    spec.hermetic = true;
    match lab.runtime().start(&container(), &spec).await {
        Ok(attached) => assert_eq!(read_all(attached).await.text(), "lo\n1\n100% packet loss\n"),
        Err(e) => assert!(matches!(e, Error::Invalid(_)), "{e}"),
    }
}

pub async fn what_is_absent_is_not_found(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let (nobody, nothing) = (container(), VolumeHandle(unique()));
    assert!(matches!(runtime.attach(&nobody, 0).await, Err(Error::NotFound(_))));
    assert!(matches!(runtime.exec(&nobody, &shell("true")).await.err(), Some(Error::NotFound(_))));
    assert!(matches!(runtime.stream_out(&nothing, "").await.err(), Some(Error::NotFound(_))));
    let child = VolumeHandle(unique());
    let created = runtime.create_volume(&child, "main", &Origin::CopyOf(nothing.clone())).await;
    assert!(matches!(created, Err(Error::NotFound(_))));
    runtime.remove_container(&nobody).await.unwrap();
    runtime.remove_volume(&nothing).await.unwrap();
}

/// A root file system around the busybox of this host, as a tar stream below `rootfs/`.
pub fn busybox_image() -> TarStream {
    busybox_with(&[
        ("passwd", "root:x:0:0:root:/root:/bin/sh\nci:x:1000:1001::/home/ci:/bin/sh\n"),
        ("group", "root:x:0:\nwheel:x:10:\nci:x:1001:\n"),
    ])
}

/// The same image without anything that names users.
pub fn busybox_without_users() -> TarStream {
    busybox_with(&[])
}

fn busybox_with(files: &[(&str, &str)]) -> TarStream {
    let path = std::env::var_os("PATH").unwrap();
    let busybox =
        std::env::split_paths(&path).map(|d| d.join("busybox")).find(|p| p.exists()).expect("busybox in PATH");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_path_with_name(&busybox, "rootfs/bin/busybox").unwrap();
    let list = std::process::Command::new(&busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|l| *l != "busybox") {
        let mut header = self::header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, format!("rootfs/bin/{applet}"), Path::new("busybox")).unwrap();
    }
    for (name, text) in files {
        let mut header = self::header();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, format!("rootfs/etc/{name}"), text.as_bytes()).unwrap();
    }
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}
