//! What steps run in: Debian's static busybox, as a resource type of its own and as an image in a registry of the test.

use std::path::Path;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::world::run;

const DIRECTORIES: [&str; 7] = ["bin", "etc", "tmp", "proc", "sys", "dev", "root"];
const APPLETS: [&str; 20] = [
    "sh", "true", "false", "cat", "echo", "env", "sleep", "cp", "mkdir", "ls", "ln", "printf", "seq", "wget", "test",
    "date", "tr", "usleep", "touch", "yes",
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
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
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
    _directory: tempfile::TempDir,
}

impl Registry {
    pub async fn new() -> Registry {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            directory.path().display()
        );
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
                break address.split('"').next().unwrap().to_string();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let image = format!("{address}/busybox:latest");
        let root = directory.path().join("root");
        busybox(&root);
        run(directory.path(), "tar", &["-C", "root", "-cf", "root.tar", "."]).await;
        run(directory.path(), "docker", &["import", "-c", "ENV OF_IMAGE=yes", "root.tar", &image]).await;
        run(directory.path(), "docker", &["push", "-q", &image]).await;
        // Whoever uses it has to pull it.
        run(directory.path(), "docker", &["rmi", &image]).await;
        Registry { address, _server: server, _directory: directory }
    }
}
