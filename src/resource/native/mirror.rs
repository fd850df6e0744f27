//! Gives this binary away as the image of a resource type: `rootfs/` and `metadata.json`, as `in` of an image type.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::resource::{Mirror, SCRIPTS, Script};

/// The file beside the scripts that names the type they are.
pub const TYPE_FILE: &str = "type";

/// The file beside the scripts that says that all others are the host's own, so that they are not copied either
/// when a container that runs on them gives itself away.
pub const HOST_FILE: &str = "host_rootfs";

/// Directories whose contents are of the running system, not of the image.
const LIVE: [&str; 4] = ["tmp", "dev", "proc", "sys"];

/// What a runtime has put there itself.
const OURS: [&str; 2] = [".whistlestop", ".whistlestop-run"];

/// Writes the image of the type `name`, which says it is `version`, to `directory`.
pub fn write(name: &str, version: &str, directory: &Path, mirror: Mirror) -> io::Result<()> {
    let rootfs = directory.join("rootfs");
    fs::create_dir_all(&rootfs)?;
    let mut metadata = json!({"env": [format!("MIRRORED_VERSION={version}")], "user": "root"});
    match mirror {
        Mirror::Nothing => {}
        Mirror::HostRootfs => metadata["host_rootfs"] = json!(true),
        Mirror::Container => {
            let mut skip: Vec<&str> = LIVE.to_vec();
            let top = directory.components().nth(1).map(|c| c.as_os_str().to_string_lossy().into_owned());
            skip.extend(top.as_deref().filter(|top| !skip.contains(top)));
            skip.extend(OURS);
            copy_tree(Path::new("/"), &rootfs, &skip)?;
        }
    }
    for live in LIVE {
        let path = rootfs.join(live);
        fs::create_dir_all(&path)?;
        if live == "tmp" {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
        }
    }
    place(name, &rootfs)?;
    if mirror == Mirror::HostRootfs {
        fs::write(rootfs.join(SCRIPTS.trim_start_matches('/')).join(HOST_FILE), "")?;
    }
    fs::write(directory.join("metadata.json"), format!("{metadata}\n"))
}

/// Puts the scripts of the native type `name` into a root file system.
///
/// The binary is copied, never linked: a container may write to its root, and must not reach the server's file.
pub fn place(name: &str, rootfs: &Path) -> io::Result<()> {
    let scripts = rootfs.join(SCRIPTS.trim_start_matches('/'));
    fs::create_dir_all(&scripts)?;
    for script in [Script::Check, Script::In, Script::Out] {
        match fs::remove_file(scripts.join(script.name())) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    let binary = scripts.join(Script::Check.name());
    // A container without /proc can only be one that this binary is the script of.
    let running = Path::new("/proc/self/exe");
    let own = if running.exists() { running.to_owned() } else { Script::Check.path().into() };
    fs::copy(own, &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    for script in [Script::In, Script::Out] {
        symlink(Script::Check.name(), scripts.join(script.name()))?;
    }
    fs::write(scripts.join(TYPE_FILE), format!("{name}\n"))
}

/// Copies a tree with its modes, links and, where allowed, owners; devices, sockets and pipes are left out.
fn copy_tree(from: &Path, to: &Path, skip: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| skip.contains(&name)) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let meta = entry.metadata()?;
        if meta.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&source, &target, &[])?;
        } else if meta.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if meta.is_file() {
            fs::copy(&source, &target)?;
        } else {
            continue;
        }
        own(&target, &meta)?;
    }
    Ok(())
}

fn own(target: &Path, meta: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    match std::os::unix::fs::lchown(target, Some(meta.uid()), Some(meta.gid())) {
        Err(err) if err.kind() != io::ErrorKind::PermissionDenied => return Err(err),
        _ => {}
    }
    // After the owner, since changing that drops the set-user-id bit.
    if meta.is_symlink() { Ok(()) } else { fs::set_permissions(target, meta.permissions()) }
}
