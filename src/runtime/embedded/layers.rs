//! Layers of images, unpacked once for all who use them, and volumes composed of them.
//!
//! `layers/HEX/files/rootfs` holds the files of the layer whose archive has that digest, `layer.json` what is known of
//! it. A layer appears by one rename, so it is whole or not there, and never changes. It goes when no volume and no
//! saved image is made of it. Volumes stack layers as an overlay does, so an image costs its files once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};

use super::archive::{self, Job};
use super::blueprint::Layers;
use super::layer::{Rules, Summary};
use super::tree::{Tree, place};
use super::volume::remove_tree;
use super::{Embedded, blocking, failed, rootfs};
use crate::base::chance;
use crate::runtime::room::Floor;
use crate::runtime::{Error, ImageLayers, Intake, KnownLayer, Result, SavedImage, TarStream, VolumeHandle};

const NOTE: &str = "layer.json";
const ROOT: &str = "rootfs";

/// A layer's file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Note {
    known: KnownLayer,
    /// Directories that the layer has files in but does not describe.
    pub(super) implied: BTreeSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// Layers that must stay although no volume is made of them yet.
pub type Holds = Arc<Mutex<HashMap<String, usize>>>;

struct Held(Holds, Vec<String>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in &self.1 {
            if let Some(count) = held.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    held.remove(layer);
                }
            }
        }
    }
}

/// The directory of a layer's files, as a layer of a volume.
pub fn files(layers: &Path, layer: &str) -> PathBuf {
    layers.join(layer).join("files")
}

/// The part of a digest that names a directory.
fn hex_of(digest: &str) -> Result<&str> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let plain = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain { Ok(hex) } else { Err(Error::Invalid(format!("{digest:?} is no digest of a layer: only sha256 is"))) }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", chance::hex::<4>()));
    fs::write(&draft, bytes)?;
    fs::rename(draft, path)
}

/// What a crash left half unpacked.
pub fn sweep(layers: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layers)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

impl Embedded {
    pub(super) fn layers_dir(&self) -> PathBuf {
        self.state.join("layers")
    }

    fn images_dir(&self) -> PathBuf {
        self.state.join("images")
    }

    fn note(&self, hex: &str) -> Option<Note> {
        serde_json::from_slice(&fs::read(self.layers_dir().join(hex).join(NOTE)).ok()?).ok()
    }

    /// Bytes of a layer's files.
    pub(super) fn layer_bytes(&self, hex: &str) -> Option<u64> {
        Some(self.note(hex)?.known.bytes)
    }

    fn write_note(&self, hex: &str, note: &Note) -> Result<()> {
        let text = serde_json::to_vec(note).map_err(|e| Error::Failed(e.to_string()))?;
        write_whole(&self.layers_dir().join(hex).join(NOTE), &text).map_err(failed("note layer", &hex))
    }

    /// `bytes` is what the layer has, if it is there and only compared.
    fn layer_job(&self, directory: PathBuf, bytes: Option<u64>) -> Job {
        let most_bytes = bytes.unwrap_or(self.options.most_image_bytes);
        Job {
            layers: Layers { upper: None, lower: vec![directory] },
            staging: self.staging(),
            path: String::new(),
            unpack: true,
            layer: Some(Rules { most_bytes, discard: bytes.is_some() }),
        }
    }

    /// Unpacks a layer that is not there. Nothing of it stays if its digest is another.
    async fn unpack(&self, digest: &str, content: TarStream, known: KnownLayer, of: &Intake) -> Result<()> {
        let hex = hex_of(digest)?;
        let draft = self.layers_dir().join(format!(".new-{hex}-{}", chance::hex::<4>()));
        let root = draft.join("files").join(ROOT);
        fs::create_dir_all(&root).map_err(failed("unpack layer", &digest))?;
        let draft = Arc::new(Draft(draft));
        for directory in [root.parent().unwrap_or(&root), &root] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).ok();
        }
        let floor = Floor { place: self.layers_dir(), watermark: self.options.watermark };
        let (job, grew) = (self.layer_job(root, None), |bytes| of.grew(bytes, &floor));
        let exe = &self.options.self_exe;
        let summary = archive::unpack_layer(exe, &job, content, draft.clone(), grew).await?;
        is_same(digest, &summary)?;
        let known = KnownLayer { bytes: summary.bytes, ..known };
        let note = Note { known, implied: summary.implied, links: summary.links };
        let text = serde_json::to_vec(&note).map_err(|e| Error::Failed(e.to_string()))?;
        let failed = failed("keep layer", &digest);
        fs::write(draft.0.join(NOTE), text).map_err(&failed)?;
        match fs::rename(&draft.0, self.layers_dir().join(hex)) {
            // Another process was as fast, with the same files.
            Err(_) if self.note(hex).is_some() => Ok(()),
            other => other.map_err(&failed),
        }
    }

    /// Removes layers that nothing is made of.
    pub(super) async fn collect_layers(&self) -> Result<()> {
        let _turn = self.turn("layers".to_owned()).await;
        let failed = failed("collect", &"image layers");
        let mut needed = self.volumes()?.image_layers().map_err(&failed)?;
        for saved in self.saved_images()? {
            needed.extend(saved.layers.iter().filter_map(|layer| hex_of(layer).ok().map(str::to_owned)));
        }
        let held: HashSet<String> = self.holds.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let dir = self.layers_dir();
        blocking(move || {
            for entry in fs::read_dir(&dir)?.flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.starts_with('.') || needed.contains(&name) || held.contains(&name) {
                    continue;
                }
                // By one rename, so that no part of it is ever taken for the whole.
                let gone = dir.join(format!(".gone-{name}"));
                fs::rename(entry.path(), &gone)?;
                remove_tree(&gone)?;
            }
            Ok(())
        })
        .await
        .map_err(failed)
    }

    fn saved_images(&self) -> Result<Vec<SavedImage>> {
        let entries = match fs::read_dir(self.images_dir()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &"saved images"))?,
        };
        let read = |entry: fs::DirEntry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok();
        let mut saved: Vec<SavedImage> = entries.flatten().filter_map(read).collect();
        saved.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(saved)
    }

    fn saved_path(&self, name: &str) -> PathBuf {
        self.images_dir().join(format!("{}.json", &crate::base::version::digest(name.as_bytes())[..32]))
    }

    fn stack(&self, layers: &[String]) -> Result<Vec<(PathBuf, Note)>> {
        let read = |digest: &String| {
            let hex = hex_of(digest)?;
            let note = self.note(hex).ok_or_else(|| Error::NotFound(format!("there is no layer {digest}")))?;
            Ok((files(&self.layers_dir(), hex).join(ROOT), note))
        };
        layers.iter().map(read).collect()
    }
}

/// Each layer once, where it comes last: an overlay takes none twice, and what is below it has the same files.
fn topmost(layers: &[String]) -> Vec<String> {
    let again = |(index, layer): &(usize, &String)| layers[index + 1..].contains(layer);
    layers.iter().enumerate().filter(|layer| !again(layer)).map(|(_, layer)| layer.clone()).collect()
}

struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::debug!(%error, "a layer's draft is removed at the next start");
        }
    }
}

fn is_same(digest: &str, summary: &Summary) -> Result<()> {
    if summary.digest == digest {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the image is damaged: its layer {digest} unpacks to what has the digest {}",
        summary.digest
    )))
}

#[async_trait]
impl ImageLayers for Embedded {
    fn intake(&self, image: &str, layers: &[String]) -> Intake {
        let layers: Vec<String> = layers.iter().filter_map(|l| hex_of(l).ok().map(str::to_owned)).collect();
        let mut held = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in &layers {
            *held.entry(layer.clone()).or_default() += 1;
        }
        drop(held);
        Intake::new(image, self.options.most_image_bytes, Box::new(Held(self.holds.clone(), layers)))
    }

    async fn find(&self, layer: &str) -> Result<Option<KnownLayer>> {
        self.volumes()?;
        Ok(self.note(hex_of(layer)?).map(|note| note.known))
    }

    async fn add(&self, layer: &str, content: TarStream, known: KnownLayer, of: &Intake) -> Result<()> {
        self.volumes()?;
        let hex = hex_of(layer)?;
        let _turn = self.turn(format!("layer {hex}")).await;
        let Some(note) = self.note(hex) else { return self.unpack(layer, content, known, of).await };
        of.found(note.known.bytes)?;
        // It is there, but who brings it must have had it.
        let job = self.layer_job(self.staging(), Some(note.known.bytes));
        let summary = archive::unpack_layer(&self.options.self_exe, &job, content, (), |_| Ok(())).await?;
        is_same(layer, &summary)?;
        self.merge_note(hex, known)
    }

    async fn admit(&self, layer: &str, known: KnownLayer) -> Result<()> {
        let hex = hex_of(layer)?;
        let _turn = self.turn(format!("layer {hex}")).await;
        self.merge_note(hex, known)
    }

    async fn compose(
        &self,
        volume: &VolumeHandle,
        team: &str,
        layers: &[String],
        own: &[(String, Vec<u8>)],
    ) -> Result<()> {
        let _turn = self.turn(format!("volume {volume}")).await;
        let layers = &topmost(layers);
        let stack = self.stack(layers)?;
        let image = layers.iter().rev().map(|l| hex_of(l).map(str::to_owned)).collect::<Result<Vec<_>>>()?;
        let volumes = self.volumes()?.clone();
        let (volume, team, own) = (volume.clone(), team.to_owned(), own.to_vec());
        blocking(move || {
            let Some(data) = volumes.compose(&volume, &team, image)? else { return Ok(()) };
            fill(&data, &stack, &own).map_err(failed("make volume", &volume))?;
            volumes.publish(&volume)
        })
        .await
    }

    async fn saved(&self, name: &str) -> Result<Option<SavedImage>> {
        let found = match fs::read(self.saved_path(name)) {
            Ok(text) => serde_json::from_slice::<SavedImage>(&text).ok(),
            Err(_) => None,
        };
        Ok(found.filter(|saved| saved.name == name && saved.whole))
    }

    async fn all_saved(&self) -> Result<Vec<SavedImage>> {
        self.saved_images()
    }

    async fn save(&self, image: &SavedImage) -> Result<()> {
        self.volumes()?;
        let failed = failed("save image", &image.name);
        fs::create_dir_all(self.images_dir()).map_err(&failed)?;
        let text = serde_json::to_vec(image).map_err(|e| Error::Failed(e.to_string()))?;
        write_whole(&self.saved_path(&image.name), &text).map_err(&failed)
    }

    async fn forget(&self, name: &str) -> Result<bool> {
        let gone = fs::remove_file(self.saved_path(name)).is_ok();
        if gone {
            self.collect_layers().await?;
        }
        Ok(gone)
    }

    async fn collect(&self) -> Result<()> {
        self.collect_layers().await
    }
}

impl Embedded {
    fn merge_note(&self, hex: &str, more: KnownLayer) -> Result<()> {
        let mut note = self.note(hex).ok_or_else(|| Error::NotFound(format!("there is no layer sha256:{hex}")))?;
        let before = note.known.clone();
        note.known.teams.extend(more.teams);
        note.known.origins.extend(more.origins);
        if note.known == before { Ok(()) } else { self.write_note(hex, &note) }
    }
}

/// Writes the files of an image's own, and mends what its layers leave open. `stack` has the lowest layer first.
fn fill(data: &Path, stack: &[(PathBuf, Note)], own: &[(String, Vec<u8>)]) -> io::Result<()> {
    let root = data.join(ROOT);
    fs::create_dir(&root)?;
    let top = Top { root, stack };
    top.directory(Path::new(""))?;
    let detours = top.detours()?;
    for (n, (_, note)) in stack.iter().enumerate() {
        for path in &note.implied {
            // A layer above may describe it; else one below does, and its word counts.
            if !detours.cover(path) && top.described(path).is_some_and(|(at, _)| at < n) {
                top.directory(path)?;
            }
        }
        for (link, target) in &note.links {
            top.link(n, &detours.follow(link), &detours.follow(target))?;
        }
    }
    for (name, bytes) in own {
        fs::write(data.join(name), bytes)?;
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The layer that a volume adds on top of an image's.
pub(super) struct Top<'a> {
    /// Where its files are put.
    pub(super) root: PathBuf,
    /// The image's layers, the lowest first.
    pub(super) stack: &'a [(PathBuf, Note)],
}

impl Top<'_> {
    /// What a layer has under a name, without following any link.
    pub(super) fn look(&self, layer: usize, path: &Path) -> Option<fs::Metadata> {
        fs::metadata(place(&self.open(layer, path)?)).ok()
    }

    /// The words of a link.
    pub(super) fn link_of(&self, layer: usize, path: &Path) -> Option<OsString> {
        nix::fcntl::readlinkat(self.open(layer, path)?, "").ok()
    }

    fn open(&self, layer: usize, path: &Path) -> Option<OwnedFd> {
        let tree = Tree::open(&self.stack.get(layer)?.0).ok()?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH);
        openat2(tree.fd(), path, how).ok()
    }

    /// The topmost layer that says itself what is under this name.
    pub(super) fn says(&self, path: &Path) -> Option<(usize, fs::Metadata)> {
        let says = |n: usize| (!self.stack[n].1.implied.contains(path)).then(|| self.look(n, path)).flatten();
        (0..self.stack.len()).rev().find_map(|n| Some((n, says(n)?)))
    }

    /// The same, if that is a directory.
    fn described(&self, path: &Path) -> Option<(usize, fs::Metadata)> {
        self.says(path).filter(|(_, meta)| meta.is_dir())
    }

    /// Makes the directory, looking as the layers say; likewise those above it.
    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        let mut sofar = PathBuf::new();
        self.alike(&sofar)?;
        for component in path.components() {
            sofar.push(component);
            match fs::create_dir(self.root.join(&sofar)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => self.alike(&sofar)?,
            }
        }
        Ok(())
    }

    fn alike(&self, path: &Path) -> io::Result<()> {
        match self.described(path) {
            Some((_, meta)) => self.look_like(path, &meta),
            None => Ok(()),
        }
    }

    /// Gives a directory the owner and the mode of another.
    pub(super) fn look_like(&self, path: &Path, meta: &fs::Metadata) -> io::Result<()> {
        let place = self.root.join(path);
        if rootfs::is_root() {
            std::os::unix::fs::lchown(&place, Some(meta.uid()), Some(meta.gid()))?;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(meta.mode() & 0o7777))
    }

    /// A link of layer `n` to a file of a layer below it.
    fn link(&self, n: usize, link: &Path, target: &Path) -> io::Result<()> {
        if (n + 1..self.stack.len()).any(|above| self.look(above, link).is_some()) {
            return Ok(());
        }
        let in_layer = || {
            let found = (0..n).rev().find_map(|below| Some((below, self.look(below, target)?)));
            found.filter(|(_, meta)| meta.is_file()).map(|(below, _)| self.stack[below].0.join(target))
        };
        // What was carried here is newer.
        let carried = self.root.join(target);
        let carried = fs::symlink_metadata(&carried).is_ok_and(|meta| meta.is_file()).then_some(carried);
        let Some(from) = carried.or_else(in_layer) else {
            let told =
                format!("the image is damaged: {} is a link to {}, which is no file", link.display(), target.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, told));
        };
        self.directory(link.parent().unwrap_or(Path::new("")))?;
        fs::hard_link(from, self.root.join(link))
    }
}
