//! Steps: their process, walls, output, terminals and ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_its_streams_status_environment_and_input() {
    let world = World::new().await;
    let mut spec =
        sh("echo out; echo err >&2; hostname; id -u; ls -d /scratch; echo \"$TOKEN $FROM_IMAGE\"; cat; exit 3");
    spec.process.env = vec!["TOKEN=hunter2".into()];
    spec.process.stdin = b"input".to_vec();
    let handle = world.container("step-1");
    let told = read(world.docker.start(&handle, &spec).await.unwrap()).await;
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("out\nstep-1\n0\n/scratch\nhunter2 \ninput", "err\n"));
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
    let spec = ContainerSpec { hermetic: false, ..sh("ip -o link show eth0 && cat /etc/resolv.conf") };
    let told = read(world.docker.start(&world.container("open"), &spec).await.unwrap()).await;
    assert_eq!(told.status(), 0, "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_gets_all_this_engine_can_give() {
    let world = World::new().await;
    let handle = world.container("root");
    let spec = ContainerSpec {
        privileged: true,
        ..sh(
            "mount -t tmpfs t /tmp && grep Seccomp: /proc/self/status && grep ' /scratch ' /proc/mounts && mknod /dev/log-of-kernel c 1 11 && head -c 0 /dev/log-of-kernel && \
             cd $(grep -E ' (cgroup|cgroup2) ' /proc/mounts | grep -v cpuset | head -n 1 | cut -d' ' -f2) && mkdir inner && rmdir inner",
        )
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
    // Nothing is there to be read yet, and attaching does not wait for it.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_signals_process_one_ends_as_it_ends() {
    let world = World::new().await;
    let told = world.sh("signals", "trap 'echo term; exit 3' TERM; kill -TERM 1; while :; do sleep 0.05; done").await;
    assert_eq!((told.stdout.as_str(), told.status()), ("term\n", 3));
    let told = world.sh("kills", "kill -KILL 1; kill -QUIT 1; while :; do sleep 0.05; done").await;
    assert_eq!(told.status(), 137);
    world.end().await;
}
