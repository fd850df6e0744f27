//! What goes away, breaks or fills up.

use super::*;

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
    let Err(Error::Failed(text)) = world.docker.exec(&handle, &process(&["sh"])).await else { panic!("entered") };
    assert!(text.contains("does not run any more") && text.contains("status 137") && text.contains("again"), "{text}");
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

async fn engine_name(world: &World, handle: &str) -> String {
    let labels = vec![format!("whistlestop.installation={}", world.id), format!("whistlestop.handle={handle}")];
    let options = bollard::query_parameters::ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_string(), labels)])),
        ..Default::default()
    };
    world.engine.list_containers(Some(options)).await.unwrap()[0].id.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_others_stop_is_lost_and_not_failed() {
    let world = World::new().await;
    let handle = world.container("stopped");
    let mut attached = world.docker.start(&handle, &sh("echo ready; sleep 1000")).await.unwrap();
    until(&mut attached, "ready").await;
    // What an engine does to each container when it is shut down.
    let options = bollard::query_parameters::StopContainerOptions { t: Some(1), ..Default::default() };
    world.engine.stop_container(&engine_name(&world, "stopped").await, Some(options)).await.unwrap();
    for output in [attached, world.docker.attach(&handle, 0).await.unwrap()] {
        let end = read(output).await.end;
        assert!(matches!(&end, Some(Output::Lost(text)) if text.contains("shut down or restarted")), "{end:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_prunes_is_made_again() {
    let world = World::new().await;
    let volume = world.volume("image", Origin::Empty).await;
    let rootfs = || Box::pin(std::io::Cursor::new(busybox_tar()));
    world.docker.stream_in(&volume, "rootfs", rootfs()).await.unwrap();
    let image = Image::Volume { volume: volume.clone(), path: String::new() };
    let spec = ContainerSpec { image, ..sh("true") };
    let handle = world.container("pruned");
    for _ in 0..2 {
        assert_eq!(read(world.docker.start(&handle, &spec).await.unwrap()).await.status(), 0);
        world.docker.remove_container(&handle).await.unwrap();
        let filters = || HashMap::from([("label".to_string(), vec![format!("whistlestop.installation={}", world.id)])]);
        let query = bollard::query_parameters::ListImagesOptions { filters: Some(filters()), ..Default::default() };
        let images = world.engine.list_images(Some(query)).await.unwrap();
        assert_eq!(images.len(), 2, "the empty one and the imported one");
        for image in images {
            let forced = bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() };
            world.engine.remove_image(&image.id, Some(forced), None).await.unwrap();
        }
        let query = bollard::query_parameters::ListVolumesOptions { filters: Some(filters()) };
        for found in world.engine.list_volumes(Some(query)).await.unwrap().volumes.unwrap() {
            if found.name.contains("binary") {
                let none = None::<bollard::query_parameters::RemoveVolumeOptions>;
                world.engine.remove_volume(&found.name, none).await.unwrap();
            }
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_of_a_start_runs_the_step_once() {
    let world = World::new().await;
    let volume = world.volume("log", Origin::Empty).await;
    // A first step, so that what is made once is there and the moments below fall into the start itself.
    assert_eq!(world.run_with("warm", vec![mount(&volume, "/v", false)], "true").await.status(), 0);
    let moments = [0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 50, 80, 120, 160, 200, 250, 300];
    for (index, moment) in moments.into_iter().enumerate() {
        let proxy = Proxy::new();
        let host = Some(format!("unix://{}", proxy.path.display()));
        let dying = Docker::connect(Options { host, ..options(&world.id) });
        let mut spec = sh("echo $N >> /v/log; echo done");
        spec.process.env = vec![format!("N={index}")];
        // Larger than what fits into a socket.
        spec.process.stdin = vec![b'x'; 2 << 20];
        spec.mounts = vec![mount(&volume, "/v", false)];
        let handle = world.container(&format!("dies-{index}"));
        let start = async {
            let attached = dying.start(&handle, &spec).await;
            if let Ok(attached) = attached {
                read(attached).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(moment), start).await;
        proxy.cut();
        drop(dying);
        let told = read(world.restarted().start(&handle, &spec).await.unwrap()).await;
        assert_eq!((told.stdout.as_str(), told.status()), ("done\n", 0), "after {moment} ms");
        world.docker.remove_container(&handle).await.unwrap();
    }
    let log = files_of(world.docker.stream_out(&volume, "log").await.unwrap()).await.remove("log").unwrap();
    let expected: String = (0..moments.len()).map(|index| format!("{index}\n")).collect();
    assert_eq!(log, expected);
    world.end().await;
}
