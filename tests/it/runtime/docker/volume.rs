//! Volumes: copies, streams, nested mounts.

use super::*;

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
    let mounts = vec![mount(&inner, "/outer/deep/er", false), mount(&outer, "/outer", true)];
    let told = world
        .run_with(
            "nest",
            mounts,
            "cat /outer/a /outer/deep/er/b; touch /outer/x 2>/dev/null; echo $?; touch /outer/deep/er/x; echo $?",
        )
        .await;
    assert_eq!(told.stdout, "outerinner1\n0\n", "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_left_alone_by_a_crash_are_listed_and_removed() {
    let world = World::new().await;
    let parent = world.volume("p", Origin::Empty).await;
    let child = world.volume("child", Origin::CopyOf(parent.clone())).await;
    let labels = vec![format!("whistlestop.installation={}", world.id), "whistlestop.handle=child".to_string()];
    let filters = HashMap::from([("label".to_string(), labels)]);
    let query = bollard::query_parameters::ListVolumesOptions { filters: Some(filters) };
    let found = world.engine.list_volumes(Some(query)).await.unwrap().volumes.unwrap();
    // What a copy has changed lies in its own directory; an engine elsewhere has volumes of their own for it.
    let [whole] = found.as_slice() else { panic!("a copy is one volume: {found:?}") };
    let layer = |suffix: &str| bollard::models::VolumeCreateRequest {
        name: Some(format!("{}.{suffix}", whole.name)),
        labels: Some(
            whole.labels.clone().into_iter().chain([("whistlestop.part".to_string(), "layer".to_string())]).collect(),
        ),
        ..Default::default()
    };
    for suffix in ["u", "w"] {
        world.engine.create_volume(layer(suffix)).await.unwrap();
    }
    let none = None::<bollard::query_parameters::RemoveVolumeOptions>;
    world.engine.remove_volume(&whole.name, none).await.unwrap();
    let server = world.restarted();
    assert_eq!(server.list().await.unwrap().volumes, [child.clone(), parent.clone()]);
    server.remove_volume(&child).await.unwrap();
    assert_eq!(server.list().await.unwrap().volumes, [parent]);
    world.end().await;
}
