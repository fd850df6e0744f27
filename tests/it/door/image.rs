//! What steps run in: Debian's static busybox, as a resource type of its own and as an image in a registry of the test.

use std::path::Path;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::world::run;

const DIRECTORIES: [&str; 7] = ["bin", "etc", "tmp", "proc", "sys", "dev", "root"];
const APPLETS: [&str; 23] = [
    "sh", "true", "false", "cat", "echo", "env", "sleep", "cp", "mkdir", "ls", "ln", "printf", "seq", "wget", "test",
    "date", "tr", "usleep", "touch", "yes", "id", "sort", "head",
];

/// A root file system with busybox.
pub fn busybox(root: &Path) {
    for directory in DIRECTORIES {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("this test needs the package busybox-static");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
}

/// `DIR/NAME/rootfs.tgz` and its description, as Concourse's worker has its resource types, with these scripts.
pub fn resource_type(types: &Path, name: &str, scripts: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    busybox(root.path());
    let place = root.path().join("opt/resource");
    std::fs::create_dir_all(&place).unwrap();
    for (script, text) in scripts {
        std::fs::write(place.join(script), format!("#!/bin/sh\nset -eu\n{text}\n")).unwrap();
        std::fs::set_permissions(place.join(script), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let folder = types.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let metadata = serde_json::json!({"type": name, "version": "1.0.0", "privileged": false});
    std::fs::write(folder.join("resource_metadata.json"), metadata.to_string()).unwrap();
    let file = std::fs::File::create(folder.join("rootfs.tgz")).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    archive.follow_symlinks(false);
    archive.append_dir_all(".", root.path()).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

/// The type `rootfs`, whose one version is its own root file system as an image.
pub fn rootfs_type(types: &Path) {
    let made = "mkdir $1/rootfs; for d in etc tmp proc sys dev root; do mkdir $1/rootfs/$d; done\n\
                cp -a /bin $1/rootfs/bin; cp /etc/passwd /etc/group $1/rootfs/etc/\n\
                echo '{\"env\": [\"OF_IMAGE=yes\"]}' > $1/metadata.json\n\
                echo '{\"version\": {\"n\": \"1\"}, \"metadata\": [{\"name\": \"made\", \"value\": \"by the test\"}]}'";
    resource_type(types, "rootfs", &[("check", "echo '[{\"n\": \"1\"}]'"), ("in", made), ("out", "exit 1")]);
}

/// Debian's registry on a free loopback port, with the image `busybox:latest`.
pub struct Registry {
    /// `HOST:PORT`
    pub address: String,
    _server: Child,
    /// Where it keeps everything.
    pub directory: tempfile::TempDir,
}

impl Registry {
    pub async fn new() -> Registry {
        let registry = Registry::empty("").await;
        let (directory, address) = (registry.directory.path(), &registry.address);
        let image = format!("{address}/busybox:latest");
        let root = directory.join("root");
        busybox(&root);
        run(directory, "tar", &["-C", "root", "-cf", "root.tar", "."]).await;
        run(directory, "docker", &["import", "-c", "ENV OF_IMAGE=yes", "root.tar", &image]).await;
        run(directory, "docker", &["push", "-q", &image]).await;
        // Whoever uses it has to pull it.
        run(directory, "docker", &["rmi", &image]).await;
        registry
    }

    /// One without an image, with more of its configuration; `{DIR}` is a directory of its own.
    pub async fn empty(more: &str) -> Registry {
        Registry::serve(tempfile::tempdir().unwrap(), "", more).await
    }

    /// As [`Registry::empty`], over TLS: `cert.pem` and `key.pem` of its directory.
    pub async fn encrypted(directory: tempfile::TempDir, more: &str) -> Registry {
        let tls = ", tls: {certificate: '{DIR}/cert.pem', key: '{DIR}/key.pem'}";
        Registry::serve(directory, tls, more).await
    }

    async fn serve(directory: tempfile::TempDir, http: &str, more: &str) -> Registry {
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{{DIR}}/data'}}}}\n\
             http: {{addr: '127.0.0.1:0'{http}}}\n{more}\n"
        );
        let config = config.replace("{DIR}", &directory.path().display().to_string());
        std::fs::write(directory.path().join("config.yml"), config).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs the package docker-registry");
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the registry ended");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.split(['"', ',']).next().unwrap().to_string();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Registry { address, _server: server, directory }
    }
}

/// `sha256:…`
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// A tar archive of a directory's files.
pub fn archive(root: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", root).unwrap();
    archive.into_inner().unwrap()
}

/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Pushes an image without an engine: layers as tar archives, the lowest first, and how it runs. Its digest.
pub async fn push(registry: &str, name: &str, tag: &str, layers: &[Vec<u8>], run: serde_json::Value) -> String {
    use std::io::Write;
    let gzip = |layer: &Vec<u8>| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(layer).unwrap();
        (layer.clone(), "gzip", encoder.finish().unwrap())
    };
    push_packed(registry, (name, tag), &layers.iter().map(gzip).collect::<Vec<_>>(), run).await
}

/// As [`push`], of layers that are compressed already; each with the name of how.
pub async fn push_packed(
    registry: &str,
    (name, tag): (&str, &str),
    layers: &[(Vec<u8>, &str, Vec<u8>)],
    run: serde_json::Value,
) -> String {
    let http = reqwest::Client::new();
    let blob = async |bytes: Vec<u8>| {
        let start = http.post(format!("http://{registry}/v2/{name}/blobs/uploads/")).send().await.unwrap();
        let mut place = start.url().join(start.headers()["location"].to_str().unwrap()).unwrap();
        place.query_pairs_mut().append_pair("digest", &digest(&bytes));
        let (size, name) = (bytes.len(), digest(&bytes));
        let sent = http.put(place).body(bytes).send().await.unwrap();
        assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
        serde_json::json!({"mediaType": "", "size": size, "digest": name})
    };
    let mut entries = Vec::new();
    for (_, how, packed) in layers {
        let mut entry = blob(packed.clone()).await;
        entry["mediaType"] = format!("application/vnd.oci.image.layer.v1.tar+{how}").into();
        entries.push(entry);
    }
    let unpacked: Vec<String> = layers.iter().map(|(layer, ..)| digest(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": run, "rootfs": {"type": "layers", "diff_ids": unpacked},
    });
    let mut config = blob(config.to_string().into_bytes()).await;
    config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": entries}).to_string();
    let named = digest(manifest.as_bytes());
    let put = http.put(format!("http://{registry}/v2/{name}/manifests/{tag}")).header("content-type", media);
    let sent = put.body(manifest).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    named
}

/// Pushes an index of one manifest, or of one index, that is in the registry already. Its digest.
pub async fn push_index(registry: &str, name: &str, tag: &str, (of, media_type): (&str, &str)) -> String {
    let http = reqwest::Client::new();
    let found =
        http.get(format!("http://{registry}/v2/{name}/manifests/{of}")).header("accept", media_type).send().await;
    let size = found.unwrap().bytes().await.unwrap().len();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": media_type, "size": size, "digest": of}],
    });
    let index = index.to_string();
    let named = digest(index.as_bytes());
    let put = http.put(format!("http://{registry}/v2/{name}/manifests/{tag}")).header("content-type", INDEX);
    let sent = put.body(index).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    named
}
