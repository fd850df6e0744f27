//! Volumes: a directory each, or an upper layer over those of its parents.
//!
//! `volumes/HANDLE/data` holds the files (of a copy-on-write child: its changes), `work` the file system's scratch
//! space, `volume.json` the chain of parents. A volume appears by one rename, so it is whole or not there.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blueprint::Layers;
use super::{layers, rootfs};
use crate::runtime::{Error, Origin, Result, VolumeHandle};

/// Parents a child may have before it is made a plain copy: each costs look-ups, and mount options are limited.
const MAX_PARENTS: usize = 60;
/// The same with the layers of an image counted, of which Docker allows 127.
const MAX_LAYERS: usize = 190;
const META: &str = "volume.json";

#[derive(Serialize, Deserialize)]
struct Meta {
    team: String,
    /// The chain of parents, the nearest first.
    parents: Vec<VolumeHandle>,
    /// Layers of the image below them, the topmost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image: Vec<String>,
    /// Its own files are a layer as well and never change: it was composed of an image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
}

/// What is left to do for a new volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// Nothing.
    Done,
    /// Fill the directory with a copy of the parent and then [`Volumes::publish`] it.
    Copy,
}

/// All volumes below one directory.
#[derive(Debug, Clone)]
pub struct Volumes {
    dir: PathBuf,
    /// Where layers of images are.
    layers: PathBuf,
}

fn failed(what: &str, error: &io::Error) -> Error {
    let text = format!("cannot {what}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(text),
        io::ErrorKind::NotFound => Error::NotFound(text),
        _ => Error::Failed(text),
    }
}

impl Volumes {
    /// Opens the directory; what a crash left half made or half removed goes.
    pub fn open(dir: PathBuf, layers: PathBuf, sweep: bool) -> io::Result<Volumes> {
        fs::create_dir_all(&dir)?;
        // A step's root may leave set-user-id programs in a volume; no other user of the host may come near them.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)?.flatten() {
            if sweep && entry.file_name().to_string_lossy().starts_with('.') {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Volumes { dir, layers })
    }

    /// Where a volume is.
    pub fn path(&self, volume: &VolumeHandle) -> PathBuf {
        self.dir.join(&volume.0)
    }

    /// Where a volume that is being made is.
    fn draft(&self, volume: &VolumeHandle) -> PathBuf {
        self.dir.join(format!(".new-{}", volume.0))
    }

    fn meta(&self, volume: &VolumeHandle) -> Result<Meta> {
        let missing = || Error::NotFound(format!("there is no volume {volume}"));
        let text = fs::read(self.path(volume).join(META)).map_err(|_| missing())?;
        serde_json::from_slice(&text).map_err(|e| Error::Failed(format!("volume {volume} is damaged: {e}")))
    }

    /// Makes a volume or finds it.
    pub fn create(&self, volume: &VolumeHandle, team: &str, origin: &Origin) -> Result<Created> {
        if self.path(volume).exists() {
            return Ok(Created::Done);
        }
        let (mut parents, mut image) = (Vec::new(), Vec::new());
        if let Origin::CopyOf(parent) = origin {
            let meta = self.meta(parent)?;
            parents.push(parent.clone());
            parents.extend(meta.parents);
            image = meta.image;
        }
        let long = parents.len() > MAX_PARENTS || parents.len() + image.len() > MAX_LAYERS;
        let copy = !parents.is_empty() && (long || rootfs::on_overlay(&self.dir));
        let template = parents.first().map(|parent| self.path(parent).join("data"));
        if copy {
            (parents, image) = (Vec::new(), Vec::new());
        }
        let meta = Meta { team: team.to_owned(), parents, image, sealed: false };
        self.write_draft(volume, &meta, template.as_deref())
            .map_err(|e| failed(&format!("make volume {volume}"), &e))?;
        if copy {
            return Ok(Created::Copy);
        }
        self.publish(volume)?;
        Ok(Created::Done)
    }

    fn write_draft(&self, volume: &VolumeHandle, meta: &Meta, template: Option<&Path>) -> io::Result<()> {
        let draft = self.draft(volume);
        if draft.exists() {
            remove_tree(&draft)?;
        }
        let data = draft.join("data");
        fs::create_dir_all(&data)?;
        if !meta.parents.is_empty() {
            fs::create_dir(draft.join("work"))?;
        }
        // The top of an overlay looks as its upper layer does. It belongs to root, as in Concourse, whoever had the parent.
        let like = template.map(fs::metadata).transpose()?;
        let mode = like.map_or(0o755, |like| like.mode() & 0o7777);
        fs::set_permissions(&data, fs::Permissions::from_mode(mode))?;
        fs::write(draft.join(META), serde_json::to_vec(meta)?)
    }

    /// Makes a finished draft the volume.
    pub fn publish(&self, volume: &VolumeHandle) -> Result<()> {
        fs::rename(self.draft(volume), self.path(volume)).map_err(|e| failed(&format!("make volume {volume}"), &e))
    }

    /// The directory of a draft that is still to be filled.
    pub fn draft_layers(&self, volume: &VolumeHandle) -> Layers {
        Layers { upper: None, lower: vec![self.draft(volume).join("data")] }
    }

    /// Begins a volume that is composed of an image's layers, the topmost first, and of what is put into the
    /// directory that is returned. [`Volumes::publish`] makes it one. `None` if it is there already.
    pub fn compose(&self, volume: &VolumeHandle, team: &str, image: Vec<String>) -> Result<Option<PathBuf>> {
        if self.path(volume).exists() {
            return Ok(None);
        }
        let meta = Meta { team: team.to_owned(), parents: Vec::new(), image, sealed: true };
        self.write_draft(volume, &meta, None).map_err(|e| failed(&format!("make volume {volume}"), &e))?;
        Ok(Some(self.draft(volume).join("data")))
    }

    /// The layers of images that volumes are made of.
    pub fn image_layers(&self) -> io::Result<std::collections::HashSet<String>> {
        let mut found = std::collections::HashSet::new();
        // Drafts count: their layers must not go while they are composed.
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let text = fs::read(entry.path().join(META)).unwrap_or_default();
            found.extend(serde_json::from_slice::<Meta>(&text).map(|meta| meta.image).unwrap_or_default());
        }
        Ok(found)
    }

    /// The directories of a volume and its parents, and the layers of an image below them.
    pub fn parts(&self, volume: &VolumeHandle) -> Result<(Vec<PathBuf>, Vec<String>)> {
        let meta = self.meta(volume)?;
        let own = [volume].into_iter().chain(&meta.parents).map(|volume| self.path(volume)).collect();
        Ok((own, meta.image))
    }

    /// Whether a volume is composed of an image's layers.
    pub fn is_image(&self, volume: &VolumeHandle) -> bool {
        self.meta(volume).is_ok_and(|meta| !meta.image.is_empty())
    }

    /// The directories that make up a volume.
    pub fn layers(&self, volume: &VolumeHandle) -> Result<Layers> {
        let meta = self.meta(volume)?;
        let data = |v: &VolumeHandle| self.path(v).join("data");
        let image = meta.image.iter().map(|layer| layers::files(&self.layers, layer));
        let below: Vec<PathBuf> = meta.parents.iter().map(data).chain(image).collect();
        if meta.sealed || below.is_empty() {
            return Ok(Layers { upper: None, lower: [data(volume)].into_iter().chain(below).collect() });
        }
        let upper = (data(volume), self.path(volume).join("work"));
        Ok(Layers { upper: Some(upper), lower: below })
    }

    /// All volumes.
    pub fn list(&self) -> io::Result<Vec<VolumeHandle>> {
        names(&self.dir).map(|names| names.into_iter().map(VolumeHandle).collect())
    }

    /// Removes a volume if it is there.
    pub fn remove(&self, volume: &VolumeHandle) -> Result<()> {
        let gone = self.dir.join(format!(".gone-{}", volume.0));
        match fs::rename(self.path(volume), &gone) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && !gone.exists() => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&format!("remove volume {volume}"), &e)),
        }
        remove_tree(&gone).map_err(|e| failed(&format!("remove volume {volume}"), &e))
    }
}

/// The names in a directory that are not private to this module.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = entries.filter(|n| !n.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

/// Removes a tree, also where its directories do not allow that to an ordinary user.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(name: &str) -> VolumeHandle {
        VolumeHandle(name.into())
    }

    #[test]
    fn a_child_lists_its_parents_nearest_first() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().join("volumes"), dir.path().join("layers"), true).unwrap();
        volumes.create(&handle("a"), "main", &Origin::Empty).unwrap();
        volumes.create(&handle("b"), "main", &Origin::CopyOf(handle("a"))).unwrap();
        volumes.create(&handle("c"), "main", &Origin::CopyOf(handle("b"))).unwrap();
        let data = |v: &str| dir.path().join("volumes").join(v).join("data");
        let layers = volumes.layers(&handle("c")).unwrap();
        assert_eq!(layers.lower, [data("b"), data("a")]);
        assert_eq!(layers.upper.unwrap().0, data("c"));
        assert_eq!(volumes.list().unwrap(), [handle("a"), handle("b"), handle("c")]);
        let orphan = volumes.create(&handle("d"), "main", &Origin::CopyOf(handle("nope")));
        assert!(matches!(orphan, Err(Error::NotFound(_))));
    }

    #[test]
    fn create_and_remove_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().to_path_buf(), PathBuf::new(), true).unwrap();
        volumes.create(&handle("a"), "main", &Origin::Empty).unwrap();
        fs::write(volumes.path(&handle("a")).join("data/file"), "x").unwrap();
        volumes.create(&handle("a"), "main", &Origin::Empty).unwrap();
        assert!(volumes.path(&handle("a")).join("data/file").exists());
        volumes.remove(&handle("a")).unwrap();
        volumes.remove(&handle("a")).unwrap();
        assert!(volumes.list().unwrap().is_empty());
    }

    #[test]
    fn a_draft_of_a_crash_goes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".new-x/data")).unwrap();
        fs::create_dir_all(dir.path().join(".gone-y/work/work")).unwrap();
        fs::set_permissions(dir.path().join(".gone-y/work/work"), fs::Permissions::from_mode(0o000)).unwrap();
        Volumes::open(dir.path().to_path_buf(), PathBuf::new(), true).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
