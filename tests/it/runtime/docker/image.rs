//! Root file systems from volumes, directories and registries.

use super::*;

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
    // Another content of the directory takes the place of the former.
    std::fs::write(directory.path().join("changed"), "").unwrap();
    let spec = ContainerSpec { image: Image::Directory(directory.path().into()), ..sh("ls /changed") };
    world.docker.remove_container(&world.container("d")).await.unwrap();
    let told = read(world.docker.start(&world.container("d2"), &spec).await.unwrap()).await;
    assert_eq!(told.status(), 0, "{told:?}");
    let filters = HashMap::from([("label".to_string(), vec![format!("whistlestop.installation={}", world.id)])]);
    let query = bollard::query_parameters::ListImagesOptions { filters: Some(filters), ..Default::default() };
    let tags = world.engine.list_images(Some(query)).await.unwrap().into_iter().flat_map(|image| image.repo_tags);
    assert_eq!(tags.filter(|tag| tag.contains(":d-")).count(), 1);
    let refused = world.docker.start(&world.container("h"), &ContainerSpec { image: Image::Host, ..sh("true") }).await;
    assert!(matches!(refused, Err(Error::Invalid(text)) if text.contains("--runtime embedded")));
    let missing = ContainerSpec { image: Image::Engine("whistlestop-no-such:1".into()), ..sh("true") };
    assert!(
        matches!(world.docker.start(&world.container("m"), &missing).await, Err(Error::Invalid(text)) if text.contains("No such image"))
    );
    world.end().await;
}

/// Debian's registry on a free loopback port, which wants a password.
struct Registry {
    address: String,
    _server: tokio::process::Child,
    _directory: tempfile::TempDir,
}

/// Base64 of it has the characters in which the two alphabets differ, wherever it begins.
const PASSWORD: &str = "???>>>~~~???>>>~~~";

impl Registry {
    async fn new() -> Registry {
        let directory = tempfile::tempdir().unwrap();
        let users = [("pusher", "plain"), ("puller", PASSWORD)];
        let htpasswd: String =
            users.iter().map(|(user, password)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())).collect();
        std::fs::write(directory.path().join("htpasswd"), htpasswd).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
            directory.path().display()
        );
        std::fs::write(directory.path().join("config.yml"), config).unwrap();
        let mut server = tokio::process::Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs the package docker-registry");
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the registry ended");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.split('"').next().unwrap().to_string();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Registry { address, _server: server, _directory: directory }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_a_registry_by_digest() {
    let world = World::new().await;
    let registry = Registry::new().await;
    let repository = format!("{}/team/busybox", registry.address);
    let options = TagImageOptions { repo: Some(repository.clone()), tag: Some("1".into()) };
    world.engine.tag_image(IMAGE, Some(options)).await.unwrap();
    let pusher = bollard::auth::DockerCredentials {
        username: Some("pusher".into()),
        password: Some("plain".into()),
        ..Default::default()
    };
    let options = PushImageOptions { tag: Some("1".into()), ..Default::default() };
    let mut push = Box::pin(world.engine.push_image(&repository, Some(options), Some(pusher)));
    while let Some(step) = push.next().await {
        step.unwrap();
    }
    let images = world.docker.engine_images().unwrap();
    let auth = RegistryAuth { username: "puller".into(), password: PASSWORD.into() };
    let tagged = format!("{repository}:1");
    let digest = images.digest(&tagged, Some(&auth)).await.unwrap();
    assert!(digest.starts_with("sha256:"), "{digest}");
    for (reference, auth) in [(tagged.as_str(), None), (&format!("{repository}:2"), Some(&auth))] {
        let refused = images.digest(reference, auth).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }

    let forced = || Some(bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() });
    world.engine.remove_image(&tagged, forced(), None).await.unwrap();
    let (progress, mut lines) = mpsc::channel(1000);
    let exact = format!("{repository}@{digest}");
    let pulled = images.pull(&exact, Some(&auth), progress).await.unwrap();
    assert!(lines.recv().await.is_some(), "no progress was told");
    assert_eq!((pulled.digest.as_str(), pulled.user.as_deref()), (digest.as_str(), Some("builder")));
    assert!(pulled.env.contains(&"FROM_IMAGE=yes".to_string()) && pulled.command == ["sh"], "{pulled:?}");
    // What is there is not pulled again: the registry need not even answer.
    let (progress, mut lines) = mpsc::channel(1000);
    assert_eq!(images.pull(&exact, None, progress).await.unwrap(), pulled);
    assert!(lines.recv().await.is_none());

    let spec = ContainerSpec { image: Image::Engine(pulled.id.clone()), ..sh("id -u") };
    let told = read(world.docker.start(&world.container("pulled"), &spec).await.unwrap()).await;
    assert_eq!((told.stdout.as_str(), told.status()), ("0\n", 0));
    let mut exported = Vec::new();
    images.export(&pulled.id).await.unwrap().read_to_end(&mut exported).await.unwrap();
    let mut archive = tar::Archive::new(exported.as_slice());
    let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.contains(&PathBuf::from("bin/busybox")), "{names:?}");
    world.docker.remove_container(&world.container("pulled")).await.unwrap();
    world.engine.remove_image(&exact, forced(), None).await.unwrap();
    // It was there under another name: only ours is taken away.
    assert!(images.collect(&HashSet::new(), Duration::ZERO).await.unwrap());
    assert!(world.engine.inspect_image(IMAGE).await.is_ok());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_for_us_is_removed_when_nothing_needs_it() {
    let world = World::new().await;
    let registry = Registry::new().await;
    let pusher = || {
        Some(bollard::auth::DockerCredentials {
            username: Some("pusher".into()),
            password: Some("plain".into()),
            ..Default::default()
        })
    };
    let forced = || Some(bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() });
    let mut pulled = Vec::new();
    for (name, own) in [("ours", false), ("theirs", true)] {
        // Content that no other test has.
        let repository = format!("{}/{name}", registry.address);
        let (repo, tag) = (Some(repository.clone()), Some("1".to_owned()));
        let changes = vec![format!("LABEL of={}-{name}", world.id)];
        let options = CreateImageOptions { from_src: Some("-".into()), repo, tag, changes, ..Default::default() };
        let body = bollard::body_full(busybox_tar().into());
        world.engine.create_image(Some(options), Some(body), None).for_each(async |step| drop(step.unwrap())).await;
        let options = PushImageOptions { tag: Some("1".into()), ..Default::default() };
        world.engine.push_image(&repository, Some(options), pusher()).for_each(async |step| drop(step.unwrap())).await;
        let auth = RegistryAuth { username: "puller".into(), password: PASSWORD.into() };
        let images = world.docker.engine_images().unwrap();
        let digest = images.digest(&format!("{repository}:1"), Some(&auth)).await.unwrap();
        let exact = format!("{repository}@{digest}");
        if !own {
            world.engine.remove_image(&format!("{repository}:1"), forced(), None).await.unwrap();
        }
        let (progress, _lines) = mpsc::channel(1000);
        pulled.push(images.pull(&exact, Some(&auth), progress).await.unwrap().id);
    }
    let [ours, theirs] = pulled.try_into().unwrap();
    let there = async |id: &str| world.engine.inspect_image(id).await.is_ok();

    let (images, none) = (world.docker.engine_images().unwrap(), HashSet::new());
    assert!(!images.collect(&none, Duration::from_secs(3600)).await.unwrap(), "somebody has just asked for it");
    assert!(images.collect(&HashSet::from([ours.clone()]), Duration::ZERO).await.unwrap(), "it is in use");
    let handle = world.container("holds-it");
    read(
        world.docker.start(&handle, &ContainerSpec { image: Image::Engine(ours.clone()), ..sh("true") }).await.unwrap(),
    )
    .await;
    assert!(!images.collect(&none, Duration::ZERO).await.unwrap(), "a container is made of it");
    assert!(there(&ours).await && images.holds(&ours).await.unwrap());
    world.docker.remove_container(&handle).await.unwrap();
    // Also after a restart, by what is written down on the engine.
    let restarted = world.restarted();
    assert!(restarted.engine_images().unwrap().collect(&none, Duration::ZERO).await.unwrap());
    assert!(!there(&ours).await && there(&theirs).await);
    assert!(!restarted.engine_images().unwrap().holds(&ours).await.unwrap());
    world.engine.remove_image(&theirs, forced(), None).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_others_have_removed_is_missed() {
    let world = World::new().await;
    let parent = world.volume("parent", Origin::Empty).await;
    let child = world.volume("child", Origin::CopyOf(parent.clone())).await;
    assert!(world.docker.holds(&parent).await.unwrap() && world.docker.holds(&child).await.unwrap());
    let name = world.engine.list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await.unwrap();
    let ours = |v: &&bollard::models::Volume| {
        v.labels.get("whistlestop.handle").is_some_and(|h| h == "parent")
            && v.labels.get("whistlestop.installation") == Some(&world.id)
    };
    let name = name.volumes.unwrap().iter().find(ours).unwrap().name.clone();
    world.engine.remove_volume(&name, None::<bollard::query_parameters::RemoveVolumeOptions>).await.unwrap();
    assert!(!world.docker.holds(&parent).await.unwrap() && !world.docker.holds(&child).await.unwrap());
    assert!(!world.docker.holds(&VolumeHandle("never-was".into())).await.unwrap());
    world.end().await;
}
