//! Images for the engine made from what our callers call one: a volume's or a directory's `rootfs`.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};

use super::archive::Archive;
use super::connection::Connection;
use super::naming::{Naming, fingerprint};
use super::tree;
use super::turn::Turns;
use super::volume::Volumes;
use crate::runtime::{Error, Image, Result, TarStream, VolumeHandle};

/// The role of imported images, by their label.
const ROOTFS: &str = "rootfs";

/// The imported images of one installation.
#[derive(Debug)]
pub struct Rootfs {
    connection: Arc<Connection>,
    naming: Naming,
    archive: Arc<Archive>,
    volumes: Arc<Volumes>,
    turns: Turns,
    known: Mutex<HashSet<String>>,
}

impl Rootfs {
    /// On this connection.
    pub fn new(connection: Arc<Connection>, naming: Naming, archive: Arc<Archive>, volumes: Arc<Volumes>) -> Self {
        Rootfs { connection, naming, archive, volumes, turns: Turns::default(), known: Mutex::default() }
    }

    /// What the engine knows the image by; imports it if it has not been yet.
    pub async fn resolve(&self, image: &Image) -> Result<String> {
        match image {
            Image::Engine(id) => Ok(id.clone()),
            Image::Host | Image::HostWithScripts(_) => Err(Error::Invalid(
                "a step without an image of its own cannot run in Docker: give it an image_resource, or run steps with \
                 --runtime embedded"
                    .to_string(),
            )),
            Image::Volume { volume, path } => {
                let tag = format!("{}{}", self.naming.image_tags_of(volume)?, fingerprint(path.as_bytes(), 8));
                let source = Path::new(path).join("rootfs").to_string_lossy().into_owned();
                let from_volume = async { self.archive.pack(&self.volumes.existing(volume).await?, &source).await };
                self.ensure(&tag, from_volume).await
            }
            Image::Directory(path) => {
                let (place, content) = directory_key(path)?;
                let tag = format!("{place}{content}");
                let fresh = !self.is_known(&tag);
                let name = self.ensure(&tag, async { Ok(tree::pack(path.clone())) }).await?;
                if fresh {
                    self.remove_others(&place, &tag).await;
                }
                Ok(name)
            }
        }
    }

    /// Looks for images again, after the engine denied that one exists; whether that can help for this image.
    pub fn forget_imported(&self, image: &Image) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        matches!(image, Image::Volume { .. } | Image::Directory(_))
    }

    /// Removes the images made of a volume.
    pub async fn remove(&self, volume: &VolumeHandle) -> Result<()> {
        let prefix = self.naming.image_tags_of(volume)?;
        for name in self.tagged(&prefix).await? {
            self.delete(&name).await?;
        }
        Ok(())
    }

    async fn ensure(&self, tag: &str, content: impl Future<Output = Result<TarStream>>) -> Result<String> {
        let name = format!("{}:{tag}", self.naming.repository());
        if self.is_known(tag) {
            return Ok(name);
        }
        let _turn = self.turns.take(tag).await;
        if !self.is_known(tag) {
            let client = self.connection.client().await?;
            if client.inspect_image(&name).await.is_err() {
                self.archive.import(tag, ROOTFS, content.await?).await?;
            }
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.to_string());
        }
        Ok(name)
    }

    fn is_known(&self, tag: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(tag)
    }

    /// Former contents of the same directory; one that is still in use stays until the next change.
    async fn remove_others(&self, prefix: &str, tag: &str) {
        for name in self.tagged(prefix).await.unwrap_or_default() {
            if !name.ends_with(tag)
                && let Err(error) = self.delete(&name).await
            {
                tracing::debug!(image = name, %error, "former image of a directory was not removed");
            }
        }
    }

    async fn tagged(&self, prefix: &str) -> Result<Vec<String>> {
        let client = self.connection.client().await?;
        let reference = format!("{}:{prefix}*", self.naming.repository());
        let filters = HashMap::from([("reference".to_string(), vec![reference])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let images = client.list_images(Some(options)).await;
        let images = images.map_err(|e| self.connection.failure("list images", &e))?;
        let start = format!("{}:{prefix}", self.naming.repository());
        Ok(images.into_iter().flat_map(|image| image.repo_tags).filter(|name| name.starts_with(&start)).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let client = self.connection.client().await?;
        if let Some((_, tag)) = name.rsplit_once(':') {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(tag);
        }
        match client.remove_image(name, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(()),
            Err(error) => match self.connection.failure("remove an image", &error) {
                Error::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}

/// Tag parts that say which directory it is, and which content it had.
fn directory_key(path: &Path) -> Result<(String, String)> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::NotFound(format!("root file system '{}' cannot be read: {e}", path.display())))?;
    let content = format!("{}.{}.{}", metadata.mtime(), metadata.mtime_nsec(), metadata.ino());
    let place = fingerprint(path.as_os_str().as_encoded_bytes(), 12);
    Ok((format!("d-{place}."), fingerprint(content.as_bytes(), 12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directorys_key_names_its_place_and_follows_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let (place, content) = directory_key(directory.path()).unwrap();
        std::fs::File::open(directory.path()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let (same_place, other_content) = directory_key(directory.path()).unwrap();
        assert_eq!(place, same_place);
        assert_ne!(content, other_content);
        assert!(matches!(directory_key(Path::new("/nonexistent")), Err(Error::NotFound(_))));
    }
}
