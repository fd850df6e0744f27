//! Volumes: plain local ones, and copy-on-write children as overlay mounts over them.
//!
//! Where the engine's directory can be reached, a child is one volume: what it changes and the kernel's scratch lie
//! beside its mount point, in the directory that the engine removes with it, since a volume costs the engine a write
//! that is synced. Elsewhere a child named `x` is three volumes: `x.u` (what it changes), `x.w` (the kernel's scratch)
//! and `x` itself, made last with the overlay's options, so that `x` exists only when all of it does. The engine does
//! not know that the parents' directories are in use; our caller counts that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::archive::Archive;
use super::connection::Connection;
use super::naming::{HANDLE, Layer, Naming, PART};
use super::turn::Turns;
use crate::runtime::{Error, Origin, Result, VolumeHandle};

/// Longer chains are copied once: each layer costs every lookup of a file, and the kernel takes a page of options.
const MOST_LAYERS: usize = 30;
const MOST_OPTION_BYTES: usize = 3_600;

/// So long the engine is not asked again whether a volume is there.
const FRESH: Duration = Duration::from_secs(2);

/// In the directory of a child whose layers lie beside its mount point.
const UPPER: &str = "u";
const WORK: &str = "w";

/// The directories a volume's content is made of, topmost first; one for a plain volume.
type Layers = Vec<String>;

/// The volumes of one installation.
#[derive(Debug)]
pub struct Volumes {
    connection: Arc<Connection>,
    naming: Naming,
    archive: Arc<Archive>,
    turns: Turns,
    /// What a volume is made of never changes while it lives, so it is asked once.
    layers: Mutex<HashMap<VolumeHandle, Layers>>,
    /// When the engine was last asked for a volume whose directories cannot be looked at, and had it.
    seen: Mutex<HashMap<VolumeHandle, Instant>>,
}

impl Volumes {
    /// On this connection.
    pub fn new(connection: Arc<Connection>, naming: Naming, archive: Arc<Archive>) -> Self {
        Volumes {
            connection,
            naming,
            archive,
            turns: Turns::default(),
            layers: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Makes a volume, or finds it.
    pub async fn create(&self, volume: &VolumeHandle, team: &str, origin: &Origin) -> Result<()> {
        let name = self.naming.volume(volume)?;
        let _turn = self.turns.take(&volume.0).await;
        match origin {
            Origin::Empty => {
                let made = self.make(name, self.labels(volume, team, None), HashMap::new()).await?;
                self.remember(volume, layers_of(&made));
                Ok(())
            }
            Origin::CopyOf(parent) => self.create_child(volume, name, team, parent).await,
        }
    }

    async fn create_child(&self, volume: &VolumeHandle, name: String, team: &str, parent: &VolumeHandle) -> Result<()> {
        let mut lowers = self.layers(parent).await?;
        if too_long(&lowers) {
            if self.find(&name).await?.is_some() {
                return Ok(());
            }
            lowers = vec![self.flatten(volume, team, parent).await?];
        }
        let beside = self.volumes_directory(&lowers).map(|directory| directory.join(&name));
        let (upper, work) = match &beside {
            Some(own) => (own.join(UPPER).display().to_string(), own.join(WORK).display().to_string()),
            None => {
                let upper = self.make_layer(volume, team, Layer::Upper);
                let work = self.make_layer(volume, team, Layer::Work);
                tokio::try_join!(upper, work)?
            }
        };
        let options = HashMap::from([
            ("type".to_string(), "overlay".to_string()),
            ("device".to_string(), "overlay".to_string()),
            ("o".to_string(), format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"))),
        ]);
        let made = layers_of(&self.make(name, self.labels(volume, team, None), options).await?);
        // Also when the volume was there: a crash may have come between it and its directories.
        if let Some(own) = beside
            && made.first() == Some(&upper)
        {
            make_directories(&own, Path::new(&lowers[0])).map_err(|e| {
                Error::Failed(format!("cannot make the directories of the volume '{volume}' in {}: {e}", own.display()))
            })?;
        }
        self.remember(volume, made);
        Ok(())
    }

    /// Where the engine keeps its volumes, if this process can write there.
    fn volumes_directory(&self, lowers: &Layers) -> Option<PathBuf> {
        if !self.connection.is_local() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        // `VOLUMES/NAME/_data` or `VOLUMES/NAME/u`
        let nearest = Path::new(lowers.first()?);
        nearest.is_dir().then(|| nearest.parent()?.parent().map(Path::to_owned)).flatten()
    }

    /// Copies the parent into one directory. A copy a crash left unfinished is thrown away.
    async fn flatten(&self, volume: &VolumeHandle, team: &str, parent: &VolumeHandle) -> Result<String> {
        let name = self.naming.layer(volume, Layer::Base)?;
        self.delete(&name).await?;
        let base = self.make_layer(volume, team, Layer::Base).await?;
        let content = self.archive.pack(&self.naming.volume(parent)?, "").await?;
        self.archive.unpack(&name, "", content).await?;
        Ok(base)
    }

    /// Removes a volume with its layers; absent is fine.
    pub async fn remove(&self, volume: &VolumeHandle) -> Result<()> {
        let name = self.naming.volume(volume)?;
        let _turn = self.turns.take(&volume.0).await;
        self.delete(&name).await?;
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
        let own = |top: &String| Path::new(top).parent().is_some_and(|directory| directory.ends_with(&name));
        let beside = layers.is_some_and(|layers| layers.first().is_some_and(own));
        let others: &[Layer] = if beside { &[Layer::Base] } else { &Layer::ALL };
        for layer in others.iter().copied() {
            self.delete(&self.naming.layer(volume, layer)?).await?;
        }
        Ok(())
    }

    /// The engine's name of a volume that exists. The engine itself would make an empty one in silence.
    pub async fn existing(&self, volume: &VolumeHandle) -> Result<String> {
        let name = self.naming.volume(volume)?;
        match self.find(&name).await? {
            Some(found) => {
                self.remember(volume, layers_of(&found));
                Ok(name)
            }
            None => Err(Error::NotFound(format!("there is no volume '{volume}' on the Docker engine"))),
        }
    }

    /// Whether a volume is there with all below it. Where the engine's directories can be looked at it is not asked, and
    /// elsewhere not each time.
    pub async fn holds(&self, volume: &VolumeHandle) -> Result<bool> {
        let layers = match self.layers(volume).await {
            Ok(layers) => layers,
            Err(Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.connection.is_local() && layers.iter().all(|layer| Path::new(layer).is_dir()) {
            return Ok(true);
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(volume).copied();
        if seen.is_some_and(|seen| seen.elapsed() < FRESH) {
            return Ok(true);
        }
        let own = self.naming.volume(volume)?;
        // `VOLUMES/NAME/_data` or `VOLUMES/NAME/u`
        let name = |layer: &String| Some(Path::new(layer).parent()?.file_name()?.to_str()?.to_owned());
        let names: BTreeSet<String> = layers.iter().filter_map(name).chain([own]).collect();
        for name in names {
            if self.find(&name).await?.is_none() {
                self.layers.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
                return Ok(false);
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, seen| seen.elapsed() < FRESH);
        seen.insert(volume.clone(), Instant::now());
        Ok(true)
    }

    /// The directories that a volume is made of, where they can be looked at.
    pub async fn parts(&self, volume: &VolumeHandle) -> Result<Layers> {
        if !self.connection.is_local() {
            return Ok(Layers::new());
        }
        let layers = match self.layers(volume).await {
            Err(Error::NotFound(_)) => return Ok(Layers::new()),
            layers => layers?,
        };
        Ok(layers.into_iter().filter(|layer| Path::new(layer).is_dir()).collect())
    }

    /// Where a plain volume's files lie, if they can be reached from here.
    pub fn local_path(&self, volume: &VolumeHandle) -> Option<PathBuf> {
        if !self.connection.is_local() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let [path] = layers.get(volume)?.as_slice() else { return None };
        Some(PathBuf::from(path)).filter(|path| path.is_dir())
    }

    /// Every volume, those included of which only layers are left.
    pub async fn list(&self) -> Result<Vec<VolumeHandle>> {
        let client = self.connection.client().await?;
        let options = ListVolumesOptions { filters: Some(self.naming.filter()) };
        let listed =
            client.list_volumes(Some(options)).await.map_err(|e| self.connection.failure("list volumes", &e))?;
        let mut handles = Vec::new();
        for found in listed.volumes.unwrap_or_default() {
            let Some(handle) = found.labels.get(HANDLE).map(|handle| VolumeHandle(handle.clone())) else { continue };
            if !found.labels.contains_key(PART) {
                self.remember(&handle, layers_of(&found));
            }
            handles.push(handle);
        }
        handles.sort();
        handles.dedup();
        Ok(handles)
    }

    async fn layers(&self, volume: &VolumeHandle) -> Result<Layers> {
        let known = self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(volume).cloned();
        if let Some(layers) = known {
            return Ok(layers);
        }
        match self.find(&self.naming.volume(volume)?).await? {
            Some(found) => Ok(layers_of(&found)),
            None => Err(Error::NotFound(format!("there is no volume '{volume}' to copy on the Docker engine"))),
        }
    }

    fn remember(&self, volume: &VolumeHandle, layers: Layers) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.clone(), layers);
    }

    fn labels(&self, volume: &VolumeHandle, team: &str, part: Option<&str>) -> HashMap<String, String> {
        let part = part.map(|part| (PART.to_string(), part.to_string()));
        self.naming.labels(team, &volume.0, &BTreeMap::from_iter(part))
    }

    async fn make_layer(&self, volume: &VolumeHandle, team: &str, layer: Layer) -> Result<String> {
        let labels = self.labels(volume, team, Some("layer"));
        Ok(self.make(self.naming.layer(volume, layer)?, labels, HashMap::new()).await?.mountpoint)
    }

    /// The engine answers a repeated request with the volume that exists.
    async fn make(
        &self,
        name: String,
        labels: HashMap<String, String>,
        options: HashMap<String, String>,
    ) -> Result<Volume> {
        let client = self.connection.client().await?;
        let request = VolumeCreateRequest {
            name: Some(name),
            driver: Some("local".to_string()),
            driver_opts: Some(options),
            labels: Some(labels),
            ..Default::default()
        };
        client.create_volume(request).await.map_err(|e| self.connection.failure("create a volume", &e))
    }

    async fn find(&self, name: &str) -> Result<Option<Volume>> {
        let client = self.connection.client().await?;
        match client.inspect_volume(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match self.connection.failure("look for a volume", &error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let client = self.connection.client().await?;
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) => match self.connection.failure("remove a volume", &error) {
                Error::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}

/// The directories of a child; what is seen at its top has the mode of its parent's and belongs to root, as in Concourse:
/// to whom the engine takes for root, who has the mount point that it has just made.
fn make_directories(own: &Path, parent: &Path) -> std::io::Result<()> {
    let (top, root) = (parent.metadata()?, own.join("_data").metadata()?);
    for name in [UPPER, WORK] {
        let directory = own.join(name);
        match std::fs::create_dir(&directory) {
            Ok(()) => {
                std::os::unix::fs::chown(&directory, Some(root.uid()), Some(root.gid()))?;
                std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(top.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a child of this volume has below it.
fn layers_of(volume: &Volume) -> Layers {
    let Some(options) = volume.options.get("o") else { return vec![volume.mountpoint.clone()] };
    let value = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let lowers = value("lowerdir").into_iter().flat_map(|lowers| lowers.split(':'));
    value("upperdir").into_iter().chain(lowers).map(str::to_string).collect()
}

fn too_long(lowers: &Layers) -> bool {
    let bytes: usize = lowers.iter().map(|directory| directory.len() + 1).sum();
    lowers.len() > MOST_LAYERS || bytes > MOST_OPTION_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_layers_are_its_changes_over_its_parents() {
        let plain = Volume { mountpoint: "/d/a/_data".into(), ..Default::default() };
        assert_eq!(layers_of(&plain), ["/d/a/_data"]);
        let options = HashMap::from([("o".to_string(), "lowerdir=/d/p:/d/a,upperdir=/d/u,workdir=/d/w".to_string())]);
        let child = Volume { mountpoint: "/d/x/_data".into(), options, ..Default::default() };
        assert_eq!(layers_of(&child), ["/d/u", "/d/p", "/d/a"]);
    }

    #[test]
    fn chains_are_cut_by_depth_and_by_the_size_of_their_options() {
        assert!(!too_long(&vec!["/short".to_string(); MOST_LAYERS]));
        assert!(too_long(&vec!["/short".to_string(); MOST_LAYERS + 1]));
        assert!(too_long(&vec!["/long".repeat(60); 20]));
    }
}
