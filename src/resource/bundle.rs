//! `--resource-types DIR`: the resource types of an existing Concourse worker, brought along as they are.
//!
//! Each folder `NAME` has `resource_metadata.json` and `rootfs.tgz`. A root file system is unpacked once, to a
//! directory named for the archive's size and time of change, so a replaced archive is unpacked anew.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use tar::{Archive, EntryType};

use crate::base::version::digest;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it cannot be read.
    #[error(
        "cannot read {path}: {source}; --resource-types takes a folder with NAME/rootfs.tgz and \
             NAME/resource_metadata.json"
    )]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The description is not what it should be.
    #[error("{path} is not a resource type's description: {reason}")]
    Metadata {
        /// The description.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Two folders are for the same type.
    #[error("the resource type {name} is in {first} and in {second}: remove one of them")]
    Twice {
        /// The type.
        name: String,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The archive cannot be unpacked.
    #[error("cannot unpack {path}: {source}")]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// One type of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its name in pipelines.
    pub name: String,
    /// Its own version, for `fly workers -d`.
    pub version: String,
    /// Its containers are privileged.
    pub privileged: bool,
    /// Its versions are not shared between resources of equal configuration.
    pub unique_version_history: bool,
    /// `rootfs.tgz`.
    pub archive: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "type")]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    unique_version_history: bool,
}

/// Every type in `dir`, by name. Hidden entries and plain files beside the folders are passed over.
pub fn discover(dir: &Path) -> Result<Vec<Bundle>, Error> {
    let read = |source| Error::Read { path: dir.to_owned(), source };
    let mut bundles: Vec<Bundle> = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.path().is_dir() || entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let bundle = open(&entry.path())?;
        if let Some(other) = bundles.iter().find(|b| b.name == bundle.name) {
            return Err(Error::Twice { name: bundle.name, first: other.archive.clone(), second: bundle.archive });
        }
        bundles.push(bundle);
    }
    bundles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bundles)
}

fn open(folder: &Path) -> Result<Bundle, Error> {
    let path = folder.join("resource_metadata.json");
    let text = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|err| Error::Metadata { path: path.clone(), reason: err.to_string() })?;
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if metadata.name.is_empty() || metadata.name.starts_with('.') || !metadata.name.chars().all(plain) {
        let reason = format!("{:?} cannot be a type's name: use letters, digits, -, _ and .", metadata.name);
        return Err(Error::Metadata { path, reason });
    }
    let archive = folder.join("rootfs.tgz");
    match fs::metadata(&archive) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
            return Err(Error::Read { path: archive, source });
        }
        Err(source) => return Err(Error::Read { path: archive, source }),
    }
    Ok(Bundle {
        name: metadata.name,
        version: metadata.version,
        privileged: metadata.privileged,
        unique_version_history: metadata.unique_version_history,
        archive,
    })
}

/// Removes from `cache` what none of `bundles` needs any more, and what an interrupted start left half unpacked. Only
/// for the start of the server, before the first [`Bundle::rootfs`].
pub fn sweep(cache: &Path, bundles: &[Bundle]) -> io::Result<()> {
    let needed: Vec<PathBuf> = bundles.iter().filter_map(|bundle| bundle.target(cache).ok()).collect();
    let entries = match fs::read_dir(cache) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !needed.contains(&path) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

impl Bundle {
    /// Where below `cache` this very archive is unpacked.
    fn target(&self, cache: &Path) -> io::Result<PathBuf> {
        let meta = fs::metadata(&self.archive)?;
        let key = digest(format!("{} {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec()).as_bytes());
        Ok(cache.join(format!("{}-{}", self.name, &key[..16])))
    }

    /// The root file system, unpacked below `cache` if it is not there yet. Blocks; safe to repeat and to interrupt.
    pub fn rootfs(&self, cache: &Path) -> Result<PathBuf, Error> {
        let failed = |source| Error::Unpack { path: self.archive.clone(), source };
        let target = self.target(cache).map_err(failed)?;
        if target.is_dir() {
            return Ok(target);
        }
        fs::create_dir_all(cache).map_err(failed)?;
        let partial = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(cache).map_err(failed)?;
        let root = partial.path().join("rootfs");
        fs::create_dir(&root).map_err(failed)?;
        let archive = File::open(&self.archive).map_err(failed)?;
        unpack(MultiGzDecoder::new(archive), &root).map_err(failed)?;
        match fs::rename(&root, &target) {
            // Somebody else was as fast, with the same files.
            Err(_) if target.is_dir() => {}
            other => other.map_err(failed)?,
        }
        Ok(target)
    }
}

/// Unpacks a root file system's archive. Nothing is written outside of `root`: the tar crate refuses `..` and does
/// not write through links out of the target. Devices are left out; the runtime makes its own.
fn unpack(stream: impl Read, root: &Path) -> io::Result<()> {
    let mut archive = Archive::new(stream);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    let leaves = || io::Error::new(io::ErrorKind::InvalidData, "an entry's path leaves the archive");
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::Char | EntryType::Block | EntryType::Fifo => {}
            // Last, so that a directory without the right to write can be filled before.
            EntryType::Directory => directories.push(entry),
            _ if entry.unpack_in(root)? => {}
            _ => return Err(leaves()),
        }
    }
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        if !directory.unpack_in(root)? {
            return Err(leaves());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    fn archive(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, content, mode) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(nix::unistd::geteuid().as_raw().into());
            header.set_gid(nix::unistd::getegid().as_raw().into());
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn folder(dir: &Path, name: &str, metadata: &str, archive: &[u8]) {
        fs::create_dir_all(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("resource_metadata.json"), metadata).unwrap();
        File::create(dir.join(name).join("rootfs.tgz")).unwrap().write_all(archive).unwrap();
    }

    #[test]
    fn types_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), "s3", r#"{"type":"s3","version":"1.2","privileged":true}"#, b"");
        folder(dir.path(), "a", r#"{"type":"git","version":"2","unique_version_history":true,"image":"x"}"#, b"");
        fs::write(dir.path().join("README"), "").unwrap();
        let found = discover(dir.path()).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|b| (b.name.as_str(), b.version.as_str(), b.privileged, b.unique_version_history))
            .collect();
        assert_eq!(seen, [("git", "2", false, true), ("s3", "1.2", true, false)]);
    }

    #[test]
    fn mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = |dir: &Path| discover(dir).unwrap_err().to_string();
        assert!(text(&dir.path().join("none")).contains("--resource-types takes a folder"));
        folder(dir.path(), "x", "{}", b"");
        assert!(text(dir.path()).contains("missing field `type`"));
        folder(dir.path(), "x", r#"{"type":"../x"}"#, b"");
        assert!(text(dir.path()).contains("cannot be a type's name"));
        folder(dir.path(), "x", r#"{"type":"x"}"#, b"");
        fs::remove_file(dir.path().join("x/rootfs.tgz")).unwrap();
        assert!(text(dir.path()).contains("x/rootfs.tgz"));
        folder(dir.path(), "x", r#"{"type":"x"}"#, b"");
        folder(dir.path(), "y", r#"{"type":"x"}"#, b"");
        assert!(text(dir.path()).starts_with("the resource type x is in "));
    }

    #[test]
    fn a_root_is_unpacked_once_for_each_archive() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let entries = [
            ("./", EntryType::Directory, "", 0o755),
            ("opt/", EntryType::Directory, "", 0o555),
            ("opt/resource/check", EntryType::Regular, "#!/bin/sh", 0o4755),
            ("opt/resource/in", EntryType::Symlink, "/opt/resource/check", 0o777),
            ("opt/resource/out", EntryType::Link, "opt/resource/check", 0o755),
            ("dev/null", EntryType::Char, "", 0o666),
        ];
        folder(dir.path(), "x", r#"{"type":"x"}"#, &archive(&entries));
        let bundle = discover(dir.path()).unwrap().remove(0);
        let root = bundle.rootfs(cache.path()).unwrap();
        assert_eq!(fs::metadata(root.join("opt/resource/check")).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(fs::metadata(root.join("opt")).unwrap().mode() & 0o7777, 0o555);
        assert_eq!(fs::read_link(root.join("opt/resource/in")).unwrap(), Path::new("/opt/resource/check"));
        assert!(!root.join("dev/null").exists());
        assert_eq!(bundle.rootfs(cache.path()).unwrap(), root);
        folder(dir.path(), "x", r#"{"type":"x"}"#, &archive(&entries[..3]));
        assert_ne!(bundle.rootfs(cache.path()).unwrap(), root);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 2, "nothing half-made is left");
        sweep(cache.path(), std::slice::from_ref(&bundle)).unwrap();
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [bundle.rootfs(cache.path()).unwrap()]);
        assert!(!root.exists());
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().unwrap();
        let out = outside.path().to_str().unwrap();
        for entries in [
            vec![("../x", EntryType::Regular, "x", 0o644)],
            vec![("l", EntryType::Symlink, out, 0o777), ("l/x", EntryType::Regular, "x", 0o644)],
            vec![("l", EntryType::Link, "/etc/hostname", 0o644)],
            vec![("l", EntryType::Link, "../../etc/hostname", 0o644)],
        ] {
            let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            folder(dir.path(), "x", r#"{"type":"x"}"#, &archive(&entries));
            let bundle = discover(dir.path()).unwrap().remove(0);
            assert!(bundle.rootfs(cache.path()).is_err(), "{entries:?}");
            assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_broken_archive_says_so() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        folder(dir.path(), "x", r#"{"type":"x"}"#, b"not gzip");
        let err = discover(dir.path()).unwrap().remove(0).rootfs(cache.path()).unwrap_err();
        assert!(err.to_string().starts_with("cannot unpack "), "{err}");
    }
}
