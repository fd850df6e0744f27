//! Layers of images in the embedded runtime: what they unpack to, what they cannot do, and who shares them.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use whistlestop::runtime::embedded::{Embedded, Options};
use whistlestop::runtime::room::{Watermark, room};
use whistlestop::runtime::{
    ContainerHandle, ContainerSpec, Error, Image, ImageLayers, Intake, KnownLayer, Limits, Mount, Origin, Output,
    Process, Runtime, SavedImage, VolumeHandle,
};

/// One entry of an archive; a link's content is its target.
pub fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, mode: u32, content: &[u8]) {
    let mut header = Header::new_gnu();
    // Names as an attacker writes them, which the library would refuse.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000);
    header.set_uid(0);
    header.set_gid(0);
    let link = matches!(kind, EntryType::Symlink | EntryType::Link);
    if link {
        header.set_link_name_literal(content).unwrap();
    }
    let content = if link { &[][..] } else { content };
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

/// An archive of entries.
pub fn layer(entries: &[(&str, EntryType, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, content) in entries {
        entry(&mut builder, name, *kind, *mode, content);
    }
    builder.into_inner().unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;

struct Lab {
    state: tempfile::TempDir,
    runtime: Embedded,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(1 << 30)
    }

    fn with(most_image_bytes: u64) -> Lab {
        Lab::of(most_image_bytes, Watermark::NONE)
    }

    fn of(most_image_bytes: u64, watermark: Watermark) -> Lab {
        let state = tempfile::tempdir().unwrap();
        let options = Options {
            allow_host_rootfs: false,
            allow_local: false,
            self_exe: env!("CARGO_BIN_EXE_whistlestop").into(),
            masked: Vec::new(),
            isolation: Default::default(),
            most_image_bytes,
            watermark,
        };
        let runtime = Embedded::new(state.path().join("state"), options).unwrap();
        Lab { state, runtime }
    }

    async fn try_add(&self, archive: &[u8]) -> Result<String, Error> {
        let name = digest(archive);
        self.bring(&name, archive.to_vec()).await?;
        Ok(name)
    }

    /// The only layer of an image.
    async fn bring(&self, name: &str, archive: Vec<u8>) -> Result<(), Error> {
        let intake = self.runtime.intake("of one layer", &[]);
        self.runtime.add(name, Box::pin(Cursor::new(archive)), KnownLayer::default(), &intake).await
    }

    async fn add(&self, entries: &[(&str, EntryType, u32, &[u8])]) -> String {
        self.try_add(&layer(entries)).await.unwrap()
    }

    fn files(&self, layer: &str) -> std::path::PathBuf {
        self.state.path().join("state/layers").join(layer.trim_start_matches("sha256:")).join("files/rootfs")
    }

    fn layers(&self) -> usize {
        std::fs::read_dir(self.state.path().join("state/layers")).map_or(0, Iterator::count)
    }

    async fn compose(&self, name: &str, layers: &[&str]) -> VolumeHandle {
        let volume = VolumeHandle(name.to_owned());
        let layers: Vec<String> = layers.iter().map(|l| (*l).to_owned()).collect();
        let files = [("metadata.json".to_owned(), b"{}".to_vec())];
        self.runtime.compose(&volume, "main", &layers, &files).await.unwrap();
        volume
    }

    /// The files of a volume as a child sees them: name, kind and content.
    async fn seen(&self, volume: &VolumeHandle) -> Vec<String> {
        let mut tar = Vec::new();
        let mut stream = self.runtime.stream_out(volume, "").await.unwrap();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut tar).await.unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            seen.push(if text.is_empty() { name } else { format!("{name}={text}") });
        }
        seen.sort();
        seen
    }

    /// Runs busybox in an image, with volumes mounted.
    async fn run(&self, image: &VolumeHandle, script: &str, mounts: Vec<Mount>) -> (i32, String) {
        let container = ContainerHandle(format!("c-{}", image.0));
        let spec = ContainerSpec {
            team: "main".into(),
            labels: Default::default(),
            image: Image::Volume { volume: image.clone(), path: String::new() },
            privileged: false,
            hermetic: false,
            mounts,
            limits: Limits::default(),
            process: Process {
                path: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
                dir: "/".into(),
                ..Process::default()
            },
        };
        let mut output = self.runtime.start(&container, &spec).await.unwrap();
        let mut text = String::new();
        let status = loop {
            match output.recv().await.expect("it ends") {
                Output::Data { bytes, .. } => text.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Exited(whistlestop::runtime::Exit::Status(status)) => break status,
                other => panic!("{other:?}"),
            }
        };
        self.runtime.remove_container(&container).await.unwrap();
        (status, text)
    }
}

fn busybox() -> Vec<u8> {
    let program = std::fs::read("/usr/bin/busybox").expect("this test needs the package busybox-static");
    layer(&[
        ("./", DIR, 0o755, b""),
        ("bin/", DIR, 0o755, b""),
        ("bin/busybox", FILE, 0o755, &program),
        ("bin/sh", EntryType::Symlink, 0o777, b"busybox"),
        ("bin/ls", EntryType::Symlink, 0o777, b"busybox"),
        ("bin/cat", EntryType::Symlink, 0o777, b"busybox"),
        ("bin/stat", EntryType::Symlink, 0o777, b"busybox"),
        ("tmp/", DIR, 0o1777, b""),
        ("old/", DIR, 0o700, b""),
        ("old/a", FILE, 0o644, b"a"),
        ("old/b", FILE, 0o644, b"b"),
        ("gone", FILE, 0o644, b"gone"),
        ("keep/", DIR, 0o755, b""),
        ("keep/x", FILE, 0o644, b"x"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_hide_what_they_say_and_keep_modes_and_links() {
    let lab = Lab::new();
    let base = lab.try_add(&busybox()).await.unwrap();
    let upper = lab
        .add(&[
            // No entry for tmp/: the layer below says how it looks.
            ("tmp/new", FILE, 0o600, b"new"),
            (".wh.gone", FILE, 0o644, b""),
            ("old/", DIR, 0o750, b""),
            ("old/.wh..wh..opq", FILE, 0o644, b""),
            ("old/c", FILE, 0o4755, b"c"),
            ("old/c2", EntryType::Link, 0o644, b"old/c"),
            ("keep/link", EntryType::Link, 0o644, b"keep/x"),
            ("dev/", DIR, 0o755, b""),
            ("dev/sda", EntryType::Block, 0o666, b""),
            ("pipe", EntryType::Fifo, 0o640, b""),
        ])
        .await;
    let image = lab.compose("img", &[&base, &upper]).await;
    let script = "ls /old /gone; cat /tmp/new /keep/link; stat -c '%a %h %n' /tmp /old /old/c /old/c2; ls /dev/sda; \
                  stat -c '%F %a' /pipe; echo mine > /old/c; cat /old/c";
    let (_, said) = lab.run(&image, script, Vec::new()).await;
    let said = said.replace('\r', "");
    for part in [
        "ls: /gone: No such file",
        "/old:\nc\nc2\n",
        "newx",
        "1777 ",
        "750 ",
        "4755 2 /old/c\n4755 2 /old/c2",
        "ls: /dev/sda: No such file",
        "fifo 640",
        "mine\n",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    assert!(!said.contains("\na\n"), "{said}");
    // Each container writes to a layer of its own.
    let (_, said) = lab.run(&image, "cat /old/c", Vec::new()).await;
    assert_eq!(said, "c");

    // As an input of another step it can be written to, and the image does not change.
    let copy = VolumeHandle("copy".into());
    lab.runtime.create_volume(&copy, "main", &Origin::CopyOf(image.clone())).await.unwrap();
    let mount = Mount { volume: copy.clone(), path: "/in".into(), read_only: false };
    let (status, said) =
        lab.run(&image, "cat /in/rootfs/keep/x; echo y > /in/rootfs/keep/x; ls /in", vec![mount]).await;
    assert_eq!((status, said.as_str()), (0, "xmetadata.json\nrootfs\n"));
    assert!(lab.seen(&copy).await.contains(&"rootfs/keep/x=y\n".to_owned()));
    let seen = lab.seen(&image).await;
    // The first of a file's names has its content.
    assert!(seen.contains(&"rootfs/keep/link=x".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|name| name.starts_with("rootfs/gone") || name.contains(".wh.")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_below_a_link_of_a_lower_layer_go_where_it_leads() {
    let lab = Lab::new();
    let base = lab.try_add(&busybox()).await.unwrap();
    let merged = lab
        .add(&[
            ("usr/", DIR, 0o755, b""),
            ("usr/lib/", DIR, 0o755, b""),
            ("usr/lib/low", FILE, 0o644, b"low"),
            ("usr/lib/gone", FILE, 0o644, b"gone"),
            ("lib", EntryType::Symlink, 0o777, b"usr/lib"),
            ("sbin", EntryType::Symlink, 0o777, b"/bin"),
            ("out", EntryType::Symlink, 0o777, b"../../../../tmp"),
            ("real", EntryType::Symlink, 0o777, b"usr/lib"),
        ])
        .await;
    let upper = lab
        .add(&[
            // None of these directories has an entry.
            ("lib/new", FILE, 0o640, b"new"),
            ("lib/sub/", DIR, 0o700, b""),
            ("lib/sub/deep", FILE, 0o644, b"deep"),
            ("lib/.wh.gone", FILE, 0o644, b""),
            ("sbin/tool", FILE, 0o755, b"#!/bin/sh\ncat /lib/low\n"),
            ("out/here", FILE, 0o644, b"here"),
            // This one has, so it takes the link's place.
            ("real/", DIR, 0o755, b""),
            ("real/own", FILE, 0o644, b"own"),
        ])
        .await;
    let last =
        lab.add(&[("lib/new", FILE, 0o644, b"newer"), ("lib/twin", EntryType::Link, 0o644, b"lib/sub/deep")]).await;
    let image = lab.compose("img", &[&base, &merged, &upper, &last]).await;
    let script = "ls /usr/lib /real; cat /lib/new /usr/lib/new /lib/sub/deep /lib/twin /tmp/here; /bin/tool; /sbin/tool; \
                  stat -c '%F %a' /usr/lib/sub; ls -d /lib/low /real/low";
    let (_, said) = lab.run(&image, script, Vec::new()).await;
    let said = said.replace('\r', "");
    for part in [
        "/real:\nown\n",
        "/usr/lib:\nlow\nnew\nsub\ntwin\n",
        "newernewerdeepdeepherelowlow",
        "directory 700",
        "/lib/low\n",
        "/real/low: No such file",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    assert!(!Path::new("/tmp/here").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_layer_stays_inside() {
    let lab = Lab::new();
    let outside = lab.state.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    let out = outside.to_str().unwrap();
    let victim = format!("{out}/victim");

    for (name, entries) in [
        ("..", vec![("../escape", FILE, 0o644, &b"x"[..])]),
        ("a/../..", vec![("a/../../escape", FILE, 0o644, &b"x"[..])]),
        ("a link", vec![("l", EntryType::Link, 0o644, &b"../../../../etc/passwd"[..])]),
        ("a whiteout", vec![("../.wh.victim", FILE, 0o644, &b""[..])]),
        ("whiteout of ..", vec![("a/.wh...", FILE, 0o644, &b""[..])]),
    ] {
        let refused = lab.try_add(&layer(&entries)).await;
        assert!(matches!(&refused, Err(Error::Failed(text)) if text.contains("refused")), "{name}: {refused:?}");
    }
    assert_eq!(lab.layers(), 0, "nothing half-made is left");

    // Through links: what is written lands below the layer's own root.
    let through = lab
        .add(&[
            ("up", EntryType::Symlink, 0o777, b"../../../../../../../../../../tmp"),
            ("up/whistlestop-escape", FILE, 0o644, b"x"),
            ("abs", EntryType::Symlink, 0o777, out.as_bytes()),
            ("abs/victim", FILE, 0o644, b"overwritten"),
            ("abs/.wh.victim2", FILE, 0o644, b""),
            ("victim-link", EntryType::Symlink, 0o777, victim.as_bytes()),
            ("victim-link", FILE, 0o644, b"not through it"),
            ("/absolute", FILE, 0o644, b"below the root"),
            ("hard", EntryType::Link, 0o644, victim.as_bytes()),
            ("proc", EntryType::Symlink, 0o777, b"/proc/self/root"),
            ("null", EntryType::Char, 0o666, b""),
            ("white", EntryType::Char, 0o666, b""),
        ])
        .await;
    assert!(!Path::new("/tmp/whistlestop-escape").exists());
    assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    let files = lab.files(&through);
    assert_eq!(std::fs::read_to_string(files.join("absolute")).unwrap(), "below the root");
    assert!(files.join("victim-link").symlink_metadata().unwrap().is_file());
    for name in ["null", "white"] {
        assert!(files.join(name).symlink_metadata().is_err(), "a device was made");
    }
    // The hard link is to the layer's own file of that name, or to nothing.
    if let Ok(meta) = files.join("hard").symlink_metadata() {
        assert_ne!(meta.ino(), std::fs::metadata(&victim).unwrap().ino());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_an_overlay_obeys_are_left_out() {
    let lab = Lab::new();
    let mut builder = tar::Builder::new(Vec::new());
    let attributes = [
        ("SCHILY.xattr.trusted.overlay.redirect", &b"/../../etc"[..]),
        ("SCHILY.xattr.user.overlay.opaque", &b"y"[..]),
        ("SCHILY.xattr.trusted.overlay.metacopy", &b"y"[..]),
        ("SCHILY.xattr.user.note", &b"kept"[..]),
    ];
    builder.append_pax_extensions(attributes).unwrap();
    entry(&mut builder, "etc/", DIR, 0o755, b"");
    let layer = lab.try_add(&builder.into_inner().unwrap()).await.unwrap();
    assert_eq!(attribute(&lab.files(&layer).join("etc"), "user.overlay.opaque"), None);
    assert_eq!(attribute(&lab.files(&layer).join("etc"), "trusted.overlay.redirect"), None);
    assert_eq!(attribute(&lab.files(&layer).join("etc"), "user.note").as_deref(), Some(&b"kept"[..]));
}

/// An extended attribute of a file.
pub fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    let mut value = vec![0u8; 256];
    // SAFETY: terminated strings, and a buffer with its length.
    let n = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    (n >= 0).then(|| value[..usize::try_from(n).unwrap()].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_should_be_is_refused_and_nothing_stays() {
    let lab = Lab::with(1 << 20);
    let good = layer(&[("a", FILE, 0o644, b"a")]);
    let other = lab.bring(&digest(b"other"), good.clone()).await;
    assert!(matches!(&other, Err(Error::Invalid(text)) if text.contains("damaged")), "{other:?}");
    let big = vec![0u8; 2 << 20];
    let bomb = layer(&[("big", FILE, 0o644, &big)]);
    let refused = lab.bring(&digest(&bomb), gzip(&bomb)).await;
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("--max-image-size")), "{refused:?}");
    let cut = &gzip(&good)[..20];
    let refused = lab.bring(&digest(&good), cut.to_vec()).await;
    assert!(refused.is_err());
    assert!(lab.bring("sha256:../x", Vec::new()).await.is_err());
    assert_eq!(lab.layers(), 0);
    // Compressed in any way it is the same layer.
    for packed in [gzip(&good), zstd::encode_all(good.as_slice(), 1).unwrap(), good.clone()] {
        lab.bring(&digest(&good), packed).await.unwrap();
    }
    assert_eq!(lab.layers(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layers_of_an_image_are_bounded_together() {
    let lab = Lab::with(3 << 20);
    let big = |fill: u8| layer(&[("big", FILE, 0o644, &vec![fill; 2 << 20])]);
    let (first, second) = (big(1), big(2));
    let intake = lab.runtime.intake("one/image:1", &[digest(&first)]);
    let add = async |archive: &[u8], intake: &Intake| {
        let content = Box::pin(Cursor::new(gzip(archive)));
        lab.runtime.add(&digest(archive), content, KnownLayer::default(), intake).await
    };
    add(&first, &intake).await.unwrap();
    let refused = add(&second, &intake).await.unwrap_err().to_string();
    assert!(refused.contains("one/image:1") && refused.contains("--max-image-size"), "{refused}");
    assert_eq!(lab.layers(), 1, "of the second nothing stays");
    // Another image may have it, and one that has the first already counts it too.
    let other = lab.runtime.intake("other:1", &[]);
    add(&second, &other).await.unwrap();
    assert!(add(&first, &other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_stops_before_the_disk_is_full_and_nothing_stays() {
    let (free, _) = room(&std::env::temp_dir()).unwrap();
    let lab = Lab::of(1 << 30, Watermark::Bytes(free * 4));
    let archive = layer(&[("big", FILE, 0o644, &vec![1; 8 << 20])]);
    let refused = lab.try_add(&archive).await;
    let Err(Error::DiskFull(text)) = &refused else { panic!("{refused:?}") };
    assert!(text.contains("the image of one layer") && text.contains("--low-disk-watermark"), "{text}");
    assert_eq!(lab.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_may_be_in_an_image_twice() {
    let lab = Lab::new();
    let base = lab.try_add(&busybox()).await.unwrap();
    let (nothing, file) = (lab.add(&[]).await, lab.add(&[("tmp/a", FILE, 0o644, b"a")]).await);
    let removed = lab.add(&[("tmp/.wh.a", FILE, 0o644, b"")]).await;
    for (number, layers) in
        [&[&nothing, &nothing][..], &[&nothing, &file, &removed, &nothing, &file]].iter().enumerate()
    {
        let all: Vec<&str> = [&base].iter().chain(*layers).map(|layer| layer.as_str()).collect();
        let image = lab.compose(&format!("twice-{number}"), &all).await;
        let (_, said) = lab.run(&image, "cat /tmp/a 2>/dev/null; echo runs", Vec::new()).await;
        assert_eq!(said.replace('\r', ""), ["runs\n", "aruns\n"][number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_known_and_collected() {
    let lab = Lab::new();
    let known = |team: &str| KnownLayer {
        teams: BTreeSet::from([team.to_owned()]),
        origins: BTreeSet::from(["here".to_owned()]),
        bytes: 0,
    };
    let base = layer(&[("a", FILE, 0o644, b"a")]);
    let intake = lab.runtime.intake("r:1", &[]);
    let add = async |team: &str| {
        lab.runtime.add(&digest(&base), Box::pin(Cursor::new(base.clone())), known(team), &intake).await.unwrap();
    };
    add("1").await;
    add("2").await;
    let found = lab.runtime.find(&digest(&base)).await.unwrap().unwrap();
    assert_eq!((found.teams.len(), found.origins.len()), (2, 1));
    // To have it already is no reason not to look at what is brought.
    // What follows such a layer's own bytes is read no further than they could go.
    let endless = Box::pin(tokio::io::AsyncReadExt::chain(Cursor::new(base.clone()), tokio::io::repeat(0)));
    let wrong = lab.runtime.add(&digest(&base), endless, known("3"), &intake).await;
    assert!(wrong.unwrap_err().to_string().contains("goes on beyond"));
    let wrong = lab.bring(&digest(&base), b"x".to_vec()).await;
    assert!(wrong.is_err());

    let second = lab.add(&[("b", FILE, 0o644, b"b")]).await;
    let held = lab.add(&[("c", FILE, 0o644, b"c")]).await;
    let saved = lab.add(&[("d", FILE, 0o644, b"d")]).await;
    let image = SavedImage { name: "r:1".into(), layers: vec![saved.clone()], whole: true, ..SavedImage::default() };
    lab.runtime.save(&image).await.unwrap();
    let hold = lab.runtime.intake("r:2", std::slice::from_ref(&held));
    let one = lab.compose("one", &[&digest(&base), &second]).await;
    let two = lab.compose("two", &[&digest(&base)]).await;
    assert_eq!(lab.layers(), 4);
    lab.runtime.remove_volume(&one).await.unwrap();
    assert_eq!(lab.layers(), 3, "only the second's own layer goes");
    assert!(lab.runtime.find(&digest(&base)).await.unwrap().is_some());
    drop(hold);
    lab.runtime.remove_volume(&two).await.unwrap();
    assert_eq!(lab.layers(), 1);
    assert_eq!(lab.runtime.saved("r:1").await.unwrap(), Some(image));
    assert!(lab.runtime.forget("r:1").await.unwrap() && !lab.runtime.forget("r:1").await.unwrap());
    assert_eq!(lab.layers(), 0);
    let gone = lab.runtime.compose(&VolumeHandle("x".into()), "main", &[saved], &[]).await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_are_marks_in_the_layer() {
    let lab = Lab::new();
    let layer = lab.add(&[("d/.wh.x", FILE, 0o644, b""), ("y", FILE, 0o644, b""), (".wh.y", FILE, 0o644, b"")]).await;
    let meta = lab.files(&layer).join("d/x").symlink_metadata().unwrap();
    assert!(meta.file_type().is_char_device() && meta.rdev() == 0);
    // A layer that has a name anew keeps it, in whatever order.
    assert!(lab.files(&layer).join("y").symlink_metadata().unwrap().is_file());
}
