//! What a step costs above the bare requests of the engine's API, measured in turns so that noise hits both alike.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use whistlestop::runtime::docker::{Docker, Options};
use whistlestop::runtime::{
    ContainerHandle, ContainerSpec, Exit, Image, Limits, Mount, Origin, Output, Process, Runtime, VolumeHandle,
};

const PAIRS: usize = 40;
const AT_ONCE: usize = 8;
const BATCH: usize = 40;

async fn bare(engine: &bollard::Docker, network: &str) -> (Duration, Duration) {
    let begin = Instant::now();
    let body = ContainerCreateBody {
        image: Some(super::IMAGE.into()),
        entrypoint: Some(vec!["true".into()]),
        user: Some("0:0".into()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some(network.into()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let id = engine.create_container(None, body).await.unwrap().id;
    let options = AttachContainerOptions { stream: true, stdout: true, stderr: true, ..Default::default() };
    let mut attached = engine.attach_container(&id, Some(options)).await.unwrap();
    engine.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    while let Some(Ok(_)) = attached.output.next().await {}
    let mut waiting = Box::pin(engine.wait_container(&id, None::<WaitContainerOptions>));
    while let Some(Ok(_)) = waiting.next().await {}
    let ended = begin.elapsed();
    engine
        .remove_container(&id, Some(RemoveContainerOptions { force: true, v: true, ..Default::default() }))
        .await
        .unwrap();
    (ended, begin.elapsed())
}

async fn ours(docker: &Docker, number: usize, hermetic: bool, mounts: &[Mount]) -> (Duration, Duration) {
    let begin = Instant::now();
    let handle = ContainerHandle(format!("cost-{number}"));
    let spec = ContainerSpec {
        team: "main".into(),
        labels: BTreeMap::new(),
        image: Image::Engine(super::IMAGE.into()),
        privileged: false,
        hermetic,
        mounts: mounts.to_vec(),
        limits: Limits::default(),
        process: Process { path: "true".into(), dir: "/".into(), ..Default::default() },
    };
    let mut attached = docker.start(&handle, &spec).await.unwrap();
    let mut end = None;
    while let Some(output) = attached.recv().await {
        end = Some(output);
    }
    assert_eq!(end, Some(Output::Exited(Exit::Status(0))));
    let ended = begin.elapsed();
    docker.remove_container(&handle).await.unwrap();
    (ended, begin.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, on a quiet machine, with a release build"]
async fn a_step_costs_little_more_than_the_bare_requests() {
    let engine = super::engine().await;
    super::import_busybox(&engine).await;
    let binary = std::env::var("WHISTLESTOP_BINARY").unwrap_or(env!("CARGO_BIN_EXE_whistlestop").into());
    let options = Options { binary: Some(PathBuf::from(binary)), ..Options::new("test-overhead") };
    let docker = Docker::connect(options);
    let (parent, child) = (VolumeHandle("in".into()), VolumeHandle("copy".into()));
    docker.create_volume(&parent, "main", &Origin::Empty).await.unwrap();
    let begin = Instant::now();
    docker.create_volume(&child, "main", &Origin::CopyOf(parent.clone())).await.unwrap();
    println!("copy-on-write child: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    let two = [
        Mount { volume: parent.clone(), path: "/a".into(), read_only: false },
        Mount { volume: child.clone(), path: "/b".into(), read_only: false },
    ];
    let mut number = 0;
    for (title, network, mounts) in
        [("no network", "none", &[][..]), ("bridge", "bridge", &[][..]), ("no network, two mounts", "none", &two[..])]
    {
        let mut samples: [Vec<f64>; 6] = Default::default();
        for _ in 0..PAIRS {
            let (floor_end, floor_all) = bare(&engine, network).await;
            let (our_end, our_all) = ours(&docker, number, network == "none", mounts).await;
            number += 1;
            let of = |value: Duration| value.as_secs_f64() * 1e3;
            let values = [of(floor_end), of(our_end), of(our_end) / of(floor_end)];
            let totals = [of(floor_all), of(our_all), of(our_all) / of(floor_all)];
            for (list, value) in samples.iter_mut().zip(values.into_iter().chain(totals)) {
                list.push(value);
            }
        }
        let [a, b, c, d, e, f] = samples.map(median);
        println!(
            "{title}: to the exit {b:.0} ms for {a:.0} bare (x {c:.3}); with removal {e:.0} for {d:.0} (x {f:.3}); n = {PAIRS}"
        );
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        let begin = Instant::now();
        let work = futures_util::stream::iter(0..BATCH).map(|_| bare(&engine, "none"));
        work.buffer_unordered(AT_ONCE).for_each(|_| async {}).await;
        rates[0].push(BATCH as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let work = futures_util::stream::iter(0..BATCH).map(|index| ours(&docker, number + index, true, &[]));
        work.buffer_unordered(AT_ONCE).for_each(|_| async {}).await;
        rates[1].push(BATCH as f64 / begin.elapsed().as_secs_f64());
        number += BATCH;
    }
    let [floor, our] = rates.map(median);
    println!("{AT_ONCE} at once: {our:.1} steps a second for {floor:.1} bare (x {:.3})", our / floor);
    docker.remove_volume(&child).await.unwrap();
    docker.remove_volume(&parent).await.unwrap();
}
