//! What a step sees, fact by fact, against what a task saw on a worker of Concourse 8.2.5 (`tests/data/inside`).
//!
//! The same script runs in the same surroundings. Each line that is there and not here, or here and not there, must be
//! explained below; so a new difference fails, and an old one is written down with its reason.

use std::collections::BTreeMap;

use whistlestop::runtime::{ContainerSpec, Limits, Mount, Origin, Process, VolumeHandle, WindowSize};

use super::conformance::{Lab, container, read_all, tar_with, volume};

const RECORDED: &str = include_str!("../../data/inside/task.txt");
const SCRIPT: &str = include_str!("../../data/inside/look.sh");
const WORK: &str = "/tmp/build/3c01eba1";

/// Section, how the line begins after its sign (`-` Concourse only, `+` here only), and why that is so.
pub type Difference = (&'static str, &'static str, &'static str);

const ANYWHERE: &[Difference] = &[
    ("ulimit", "core file size", "that of whoever started the server or the engine, as Concourse's is its worker's"),
    ("ulimit", "pending signals", "by the memory of the host"),
    ("ulimit", "max user processes", "by the memory of the host"),
    ("ulimit", "max locked memory", "that of whoever started the server or the engine"),
    ("ulimit", "open files", "at least Concourse's where the host allows it; --max-step-open-files"),
    (
        "dev",
        "-crw-rw-rw- nobody nogroup",
        "devices belong to the host's root, which is outside of Concourse's user namespace",
    ),
    ("dev", "+crw-rw-rw- root root", "and inside of ours"),
    ("dev", "-total", "sizes of directories"),
    ("dev", "+total", "sizes of directories"),
    ("dev", "-drwxrwxrwt root nogroup mqueue", "its group is not mapped in Concourse's user namespace"),
    ("dev", "+drwxrwxrwt root root mqueue", "its group is not mapped in Concourse's user namespace"),
    ("mounts", "-/tmp/build/3c01eba1 ", "the working directory is a directory of the container's own layer"),
    ("mounts", "-/tmp/gdn-init", "process 1 of Concourse's is a program in a mount of its own"),
    ("mounts", "-/scratch", "a directory of the container's own layer, which is thrown away as well"),
    ("mounts", "-/etc/", "files of the container's own layer"),
    (
        "mounts",
        "-/sys/fs/cgroup",
        "only the groups that bound the container are shown, so that programs see their own limits",
    ),
    (
        "mounts",
        "+/sys/fs/cgroup",
        "only the groups that bound the container are shown, so that programs see their own limits",
    ),
    ("mounts", "+/proc/", "what would tell about the host is covered (Concourse shows it to its user namespace)"),
    ("mounts", "+/sys/", "what would tell about the host is covered"),
    ("mounts", "-/dev", "the devices' own file system and its options differ"),
    ("mounts", "+/dev", "the devices' own file system and its options differ"),
    ("net", "-inet6", "no IPv6"),
    ("net", "-2: eth0", "its own link"),
    ("net", "-inet 10.80.", "its own address"),
    ("net", "+", "its own link and address"),
    ("resolv", "-nameserver", "the host's name servers"),
    ("resolv", "+", "the host's name servers"),
    ("hosts", "-10.80.", "the container's own address and name"),
    ("hosts", "+", "the container's own address and name"),
    ("ps", "-1 root /tmp/gdn-init", "process 1 is our supervisor"),
    ("ps", "+1 root", "process 1 is our supervisor"),
    ("ps", "-7 root", "numbers of processes"),
    ("ps", "-30 root", "numbers of processes"),
    ("ps", "+", "numbers of processes"),
    ("status", "-Seccomp_filters", "one filter or two do not matter to a step"),
    ("status", "+Seccomp_filters", "one filter or two do not matter to a step"),
    ("stdin", "ls: /proc/self/fd/3", "the listing's own descriptor"),
    ("stdin", "lr-x------", "the listing's own descriptor"),
    ("ls -la", "total", "sizes of directories"),
    ("run input", "total", "sizes of directories"),
];

/// Compares what the script says in the runtime with the recording; `own` are this runtime's differences.
pub async fn a_task_sees_what_it_saw_on_concourse(lab: &dyn Lab, own: &[Difference]) {
    let (spec, volumes) = task(lab).await;
    let handle = container();
    let said = read_all(lab.runtime().start(&handle, &spec).await.unwrap()).await;
    let text = said.text().replace("\r\n", "\n").replace(&handle.0, "HANDLE");
    lab.runtime().remove_container(&handle).await.unwrap();
    for volume in volumes.iter().rev() {
        lab.runtime().remove_volume(volume).await.unwrap();
    }
    let (there, here) = (sections(RECORDED), sections(&text));
    assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>(), "{text}");
    let mut unexplained = Vec::new();
    for (section, recorded) in &there {
        let ours = &here[section];
        let missing = recorded.iter().filter(|l| !ours.contains(l)).map(|l| format!("-{l}"));
        let more = ours.iter().filter(|l| !recorded.contains(l)).map(|l| format!("+{l}"));
        let explained = |line: &String| {
            let fits =
                |(s, start, _): &&Difference| s == section && (line.starts_with(start) || line[1..].starts_with(start));
            ANYWHERE.iter().chain(own).any(|difference| fits(&difference))
        };
        unexplained
            .extend(missing.chain(more).filter(|line| !explained(line)).map(|line| format!("{section}: {line}")));
    }
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
}

/// The task of the recording with its inputs, outputs and caches.
async fn task(lab: &dyn Lab) -> (ContainerSpec, Vec<VolumeHandle>) {
    let fetched = volume(lab, &Origin::Empty).await;
    let mut files = vec![
        ("a/b.txt".to_owned(), "hello".to_owned(), 0o644),
        ("metadata.json".to_owned(), "x".repeat(48), 0o644),
        ("privileged".to_owned(), "false\n".to_owned(), 0o644),
        ("run.sh".to_owned(), "#!/bin/sh\necho ran\n".to_owned(), 0o644),
        ("version".to_owned(), "mock\n".to_owned(), 0o755),
    ];
    let directories = "bin dev etc home opt proc root sbin scratch sys tmp usr var";
    files.extend(directories.split(' ').map(|d| (format!("rootfs/{d}/"), String::new(), 0o755)));
    lab.runtime().stream_in(&fetched, "", tar_with(&files)).await.unwrap();
    let mut volumes = vec![fetched.clone()];
    let mut mounts = Vec::new();
    for (path, input) in [
        ("/abs/cache", false),
        (&format!("{WORK}/cache"), false),
        (&format!("{WORK}/deep/er"), true),
        (&format!("{WORK}/out"), false),
        (&format!("{WORK}/second"), true),
        (&format!("{WORK}/x/y"), false),
    ] {
        let origin = if input { Origin::CopyOf(fetched.clone()) } else { Origin::Empty };
        let made = volume(lab, &origin).await;
        volumes.push(made.clone());
        mounts.push(Mount { volume: made, path: path.to_owned(), read_only: false });
    }
    let env = "ATC_EXTERNAL_URL=http://localhost:8080|BIG=12345678901234567000|CFG=set|D=2001-01-01|E=1000|EMPTY=|F=1|HEX=16|I=1|\
               L=[1,\"two\"]|M={\"a\":\"b\"}|MIRRORED_VERSION=mock|NL=a\nb|OCT=8|S=q|T=true|Z=";
    let process = Process {
        path: "sh".into(),
        args: vec!["-c".into(), SCRIPT.into()],
        env: env.split('|').map(str::to_owned).collect(),
        dir: format!("{WORK}/deep"),
        user: None,
        tty: Some(WindowSize { columns: 500, rows: 500 }),
        stdin: Vec::new(),
        owns: Vec::new(),
    };
    let spec = ContainerSpec {
        team: "main".into(),
        labels: [("type".to_owned(), "task".to_owned())].into(),
        image: lab.image().await,
        privileged: false,
        hermetic: false,
        mounts,
        limits: Limits::default(),
        process,
    };
    (spec, volumes)
}

/// The lines below each heading, without what differs from run to run.
fn sections(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("== ") {
            current = heading.to_owned();
            found.entry(current.clone()).or_default();
        } else if let Some(lines) = found.get_mut(&current) {
            lines.push(normal(line, &current));
        }
    }
    found
}

/// A line of a listing without times, link counts and sizes; a mount without the names of the disk and its layers.
fn normal(line: &str, section: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let listing =
        words.first().is_some_and(|w| w.len() == 10 && w.starts_with(['d', '-', 'l', 'c'])) && words.len() >= 9;
    if listing {
        let name = words[8..].join(" ");
        let devices = line.starts_with('c');
        let size = if line.starts_with('-') { words[4] } else { "" };
        let name = if devices { words.last().copied().unwrap_or_default().to_owned() } else { name };
        return [words[0], words[2], words[3], size, &name].join(" ").replace("  ", " ");
    }
    match section {
        "mounts" if words.len() >= 3 && words[0].starts_with('/') && !words[0].starts_with("/dev") => {
            // The kind of the disk is the host's; that it is an overlay or none is ours.
            let kind = if words[1] == "overlay" { "overlay" } else { words[1].trim_start_matches("ext4") };
            let options = words[2].split(',').find(|o| matches!(*o, "ro" | "rw")).unwrap_or_default();
            format!("{} {kind} {options}", words[0])
        }
        "hostname" => "HANDLE".to_owned(),
        _ => words.join(" "),
    }
}
