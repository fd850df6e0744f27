//! What containers of our own making cost: how many a second, what a kept one takes, what a network of its own adds.
//! `cargo bench --bench containers` as root; the comparison with Docker needs an engine.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use whistlestop::runtime::docker::{self, Docker};
use whistlestop::runtime::embedded::{Embedded, Options};
use whistlestop::runtime::network::{Mode, Policy};
use whistlestop::runtime::room::Watermark;
use whistlestop::runtime::{
    ContainerHandle, ContainerSpec, Image, Isolation, Limits, Origin, Output, Process, Runtime, VolumeHandle,
};
use yard::server::binary;
use yard::{Pairs, asked, line, ms, pairs};

const AT_ONCE: usize = 8;
const MANY: usize = 400;
const KEPT: usize = 500;

fn main() {
    if yard::wanted() {
        tokio::runtime::Runtime::new().unwrap().block_on(all());
    }
}

async fn all() {
    yard::title();
    let state = tempfile::tempdir().unwrap();
    for mode in [Mode::Host, Mode::Own] {
        let runtime = embedded(&state.path().join(format!("{mode:?}")), mode).await;
        if asked("rate") {
            rate(&runtime, mode).await;
        }
        if asked("kept") && mode == Mode::Own {
            kept(&runtime, &state.path().join("Own")).await;
        }
        if asked("docker") && mode == Mode::Own {
            beside_docker(&runtime).await;
        }
        runtime.close().await;
    }
}

/// A root file system that has nothing but busybox.
fn image() -> tar::Builder<Vec<u8>> {
    let path = std::env::var_os("PATH").unwrap();
    let busybox = std::env::split_paths(&path).map(|d| d.join("busybox")).find(|p| p.exists()).expect("busybox");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_path_with_name(&busybox, "rootfs/bin/busybox").unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    link.set_uid(0);
    link.set_gid(0);
    builder.append_link(&mut link, "rootfs/bin/true", Path::new("busybox")).unwrap();
    builder
}

async fn fill(runtime: &dyn Runtime) -> Image {
    let volume = VolumeHandle("image".into());
    runtime.create_volume(&volume, "main", &Origin::Empty).await.unwrap();
    let bytes = image().into_inner().unwrap();
    runtime.stream_in(&volume, "", Box::pin(std::io::Cursor::new(bytes))).await.unwrap();
    Image::Volume { volume, path: String::new() }
}

async fn embedded(state: &Path, mode: Mode) -> Arc<Embedded> {
    let network = Policy { mode, ..Policy::default() };
    let options = Options {
        allow_host_rootfs: false,
        allow_local: false,
        self_exe: binary(),
        masked: Vec::new(),
        most_image_bytes: 1 << 30,
        watermark: Watermark::NONE,
        isolation: Isolation { network, ..Isolation::default() },
    };
    let runtime = Arc::new(Embedded::new(state.to_path_buf(), options).unwrap());
    fill(&*runtime).await;
    runtime
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        team: "main".into(),
        labels: [("type".to_owned(), "task".to_owned())].into(),
        image: Image::Volume { volume: VolumeHandle("image".into()), path: String::new() },
        privileged: false,
        hermetic: false,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: Process { path: "true".into(), dir: "/tmp".into(), ..Process::default() },
    }
}

async fn run(runtime: &dyn Runtime, name: String, keep: bool) -> Duration {
    let handle = ContainerHandle(name);
    let begin = Instant::now();
    let mut attached = runtime.start(&handle, &spec()).await.unwrap();
    while let Some(output) = attached.recv().await {
        assert!(!matches!(output, Output::Lost(_)), "{output:?}");
    }
    let took = begin.elapsed();
    if !keep {
        runtime.remove_container(&handle).await.unwrap();
    }
    took
}

async fn rate(runtime: &Arc<Embedded>, mode: Mode) {
    let begin = Instant::now();
    let runs = (0..MANY).map(|n| async move { run(&**runtime, format!("r{n}"), false).await });
    let times: Vec<f64> = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE).map(ms).collect().await;
    let rate = MANY as f64 / begin.elapsed().as_secs_f64();
    line(&format!("containers a second, 8 at a time, network {mode:?}"), ">= 100", (rate, "/s"), None, MANY);
    println!("  start to exit: median {:.1} ms, p90 {:.1} ms", yard::median(&times), yard::quantile(&times, 0.9));
}

async fn kept(runtime: &Arc<Embedded>, state: &Path) {
    let runs = (0..KEPT).map(|n| async move { run(&**runtime, format!("k{n}"), true).await });
    futures_util::stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let (mut private, mut share, mut found) = (0.0, 0.0, 0);
    for n in 0..KEPT {
        let text = std::fs::read_to_string(state.join(format!("containers/k{n}/pid"))).unwrap();
        let pid = text.split_whitespace().next().unwrap();
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let sum = |names: &[&str]| -> f64 {
            let lines = rollup.lines().filter(|l| names.iter().any(|name| l.starts_with(name)));
            lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok()).sum()
        };
        private += sum(&["Private_Clean:", "Private_Dirty:"]);
        share += sum(&["Pss:"]);
        found += 1;
    }
    line(
        "private memory of a finished container that is kept",
        "<= 1 MB",
        (private / 1024.0 / f64::from(found), "MB"),
        None,
        KEPT,
    );
    println!("  proportional share: {:.3} MB", share / 1024.0 / f64::from(found));
    let removals = (0..KEPT).map(|n| async move {
        runtime.remove_container(&ContainerHandle(format!("k{n}"))).await.unwrap();
    });
    futures_util::stream::iter(removals).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

async fn beside_docker(runtime: &Arc<Embedded>) {
    let options = docker::Options {
        network: Some("bridge".into()),
        binary: Some(binary()),
        ..docker::Options::new(format!("bench-{}", std::process::id()))
    };
    let engine = Docker::connect(options);
    if let Err(error) = engine.ping(std::time::Duration::from_secs(2)).await {
        println!("  no Docker here: {error}");
        return;
    }
    fill(&engine).await;
    run(&engine, "warm".into(), false).await;
    let mut taken = Pairs::default();
    for n in 0..pairs().min(20) {
        let floor = Instant::now();
        run(&engine, format!("d{n}"), false).await;
        let floor = floor.elapsed();
        let begin = Instant::now();
        run(&**runtime, format!("e{n}"), false).await;
        taken.add(begin.elapsed(), floor);
    }
    taken.show("a step with a leased network (floor: on Docker's bridge)", "<= 0.6");
    engine.remove_volume(&VolumeHandle("image".into())).await.unwrap();
    engine.close().await;
}
