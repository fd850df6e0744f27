//! Images of the engine's own store: whether one is still there, and which of them we have pulled ourselves.
//!
//! What we have pulled gets a tag of ours. By that tag it is found again and removed when nothing needs it any more,
//! and `docker system prune` leaves it alone, which takes every image without a tag. An image that was there before is
//! somebody else's: it gets no tag and is never removed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions};
use tokio::sync::RwLock;

use super::connection::Connection;
use super::naming::Naming;
use crate::runtime::{Error, Result};

/// So long the engine is not asked again whether an image is there.
const FRESH: Duration = Duration::from_secs(2);

/// The images that steps use, of one installation.
#[derive(Debug)]
pub struct Pulled {
    connection: Arc<Connection>,
    naming: Naming,
    /// Before this nothing is known of what was asked for.
    begun: Instant,
    asked: Mutex<HashMap<String, Asked>>,
    /// Held by whoever removes, so that nobody is told of an image that is about to go.
    removal: RwLock<()>,
}

/// What is remembered of an image.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// When the engine said that it is there.
    seen: Instant,
    /// When somebody wanted to use it.
    wanted: Instant,
}

impl Pulled {
    /// Over this connection.
    pub fn new(connection: Arc<Connection>, naming: Naming) -> Self {
        Pulled { connection, naming, begun: Instant::now(), asked: Mutex::default(), removal: RwLock::default() }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the engine says of an image that somebody wants to use.
    pub async fn inspect(&self, reference: &str) -> Result<Option<ImageInspect>> {
        let _stays = self.removal.read().await;
        let client = self.connection.client().await?;
        match client.inspect_image(reference).await {
            Ok(found) => {
                let now = Instant::now();
                if let Some(id) = found.id.clone() {
                    self.asked().insert(id, Asked { seen: now, wanted: now });
                }
                Ok(Some(found))
            }
            Err(error) => match self.connection.failure(&format!("look at image {reference}"), &error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Whether the image is there, as the engine has said lately.
    pub async fn holds(&self, id: &str) -> Result<bool> {
        {
            let _stays = self.removal.read().await;
            if let Some(asked) = self.asked().get_mut(id)
                && asked.seen.elapsed() < FRESH
            {
                asked.wanted = Instant::now();
                return Ok(true);
            }
        }
        Ok(self.inspect(id).await?.is_some())
    }

    /// Bytes of an image; asking does not count as wanting it.
    pub async fn size(&self, id: &str) -> Result<Option<u64>> {
        let client = self.connection.client().await?;
        match client.inspect_image(id).await {
            Ok(found) => Ok(found.size.and_then(|size| u64::try_from(size).ok())),
            Err(error) => match self.connection.failure(&format!("look at image {id}"), &error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The engine has denied that it is there.
    pub fn forget(&self, id: &str) {
        self.asked().remove(id);
    }

    /// Writes down, on the engine, that this image is there because of us.
    pub async fn mark(&self, id: &str) {
        let tag = async {
            let client = self.connection.client().await?;
            let options =
                TagImageOptions { repo: Some(self.naming.repository()), tag: Some(self.naming.pulled_tag(id)) };
            client.tag_image(id, Some(options)).await.map_err(|e| self.connection.failure("tag an image", &e))
        };
        if let Err(error) = tag.await {
            tracing::warn!(%error, id, "a pulled image stays on the Docker engine until somebody removes it");
        }
    }

    /// Removes what we have pulled and nobody needs: not among `used`, and not asked for within `idle`. Whether nothing
    /// of that kind is left.
    pub async fn collect(&self, used: &HashSet<String>, idle: Duration) -> Result<bool> {
        let reference = format!("{}:{}*", self.naming.repository(), self.naming.pulled_tag(""));
        let filters = HashMap::from([("reference".to_string(), vec![reference])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let client = self.connection.client().await?;
        let images = client.list_images(Some(options)).await;
        let images = images.map_err(|e| self.connection.failure("list images", &e))?;
        let mut all = true;
        for image in images.into_iter().filter(|image| !used.contains(&image.id)) {
            let _alone = self.removal.write().await;
            let wanted = self.asked().get(&image.id).map_or(self.begun, |asked| asked.wanted);
            all &= wanted.elapsed() >= idle && self.remove(&image.id).await?;
        }
        Ok(all)
    }

    async fn has_container(&self, id: &str) -> Result<bool> {
        let client = self.connection.client().await?;
        let filters = HashMap::from([("ancestor".to_string(), vec![id.to_string()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let found = client.list_containers(Some(options)).await;
        Ok(!found.map_err(|e| self.connection.failure("list containers", &e))?.is_empty())
    }

    /// Takes our tag away, and what the pull has named it by, unless somebody has given it another name. `false` where a
    /// container is made of an image that would go.
    async fn remove(&self, id: &str) -> Result<bool> {
        let client = self.connection.client().await?;
        // A list by our tags leaves out all other names.
        let Ok(image) = client.inspect_image(id).await else { return Ok(true) };
        let (tags, pulled) = (image.repo_tags.unwrap_or_default(), image.repo_digests.unwrap_or_default());
        let start = format!("{}:", self.naming.repository());
        let (ours, anothers): (Vec<_>, Vec<_>) = tags.into_iter().partition(|tag| tag.starts_with(&start));
        if anothers.is_empty() && self.has_container(id).await? {
            return Ok(false);
        }
        self.forget(id);
        // The tag goes last: what a crash leaves is found by it.
        for name in pulled.iter().filter(|_| anothers.is_empty()).chain(&ours) {
            if let Err(error) = client.remove_image(name, None::<RemoveImageOptions>, None).await {
                match self.connection.failure(&format!("remove image {name}"), &error) {
                    Error::NotFound(_) => {}
                    other => return Err(other),
                }
            }
        }
        tracing::info!(id, names = ?pulled, "an image that nothing needs any more was removed");
        Ok(true)
    }
}
