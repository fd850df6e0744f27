//! Files in and out of volumes, over the engine's archive requests on a container that is never started.
//!
//! Such a container costs a few milliseconds and no process, works for overlay volumes and for engines on other
//! hosts, and leaves the unpacking of what tenants send to the engine, which does it below a changed root.

use std::path::{Component, Path};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, CreateImageOptions, DownloadFromContainerOptions, RemoveContainerOptions,
    UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::{ReaderStream, StreamReader};

use super::connection::{Connection, SOON, lost_reason};
use super::naming::{HANDLE, Naming};
use crate::runtime::{Error, Result, TarStream};

/// Where a helper sees its volume.
const TOP: &str = "/v";
/// The role of helpers, by their label.
pub const HELPER: &str = "helper";
/// Go's bit for "this is a directory" in a mode.
const GO_DIRECTORY: u32 = 1 << 31;
const CHUNK: usize = 128 * 1024;

/// Moves archives in and out of volumes, by their names on the engine.
#[derive(Debug)]
pub struct Archive {
    connection: Arc<Connection>,
    naming: Naming,
    empty_image: tokio::sync::Mutex<Option<String>>,
}

impl Archive {
    /// Over this connection.
    pub fn new(connection: Arc<Connection>, naming: Naming) -> Self {
        Archive { connection, naming, empty_image: tokio::sync::Mutex::new(None) }
    }

    /// Unpacks `tar` below `path` of a volume, which is made where it is missing.
    pub async fn unpack(&self, volume: &str, path: &str, tar: TarStream) -> Result<()> {
        let target = inside(path)?;
        let helper = self.helper(volume).await?;
        let unpacked = async {
            self.ensure_directory(&helper, &target).await?;
            self.put(&helper, &target, tar).await
        };
        let result = unpacked.await;
        helper.remove().await;
        result
    }

    /// Packs `path` of a volume: a file as one entry, a directory's contents relative to it.
    pub async fn pack(&self, volume: &str, path: &str) -> Result<TarStream> {
        let target = inside(path)?;
        let helper = self.helper(volume).await?;
        let what = if path.is_empty() { "the volume's top".to_string() } else { format!("'{path}'") };
        let Some(mode) = self.mode(&helper, &target).await.transpose() else {
            helper.remove().await;
            return Err(Error::NotFound(format!("there is no {what} in the volume")));
        };
        let source = if mode? & GO_DIRECTORY == 0 { target } else { format!("{target}/.") };
        let client = self.connection.long_client().await?;
        let options = DownloadFromContainerOptions { path: source };
        let mut body = Box::pin(client.download_from_container(&helper.id, Some(options)));
        let first = match body.next().await.transpose() {
            Ok(first) => first,
            Err(error) => {
                helper.remove().await;
                return Err(self.connection.failure(&format!("read {what} of a volume"), &error));
            }
        };
        Ok(held_open(helper, first, body))
    }

    /// Makes the directory and its parents, and leaves what is there as it is.
    pub async fn make_directory(&self, volume: &str, path: &str) -> Result<()> {
        let target = inside(path)?;
        let helper = self.helper(volume).await?;
        let made = self.ensure_directory(&helper, &target).await;
        helper.remove().await;
        made
    }

    /// Whether there is such a path in the volume.
    pub async fn exists(&self, volume: &str, path: &str) -> Result<bool> {
        let target = inside(path)?;
        let helper = self.helper(volume).await?;
        let found = self.mode(&helper, &target).await;
        helper.remove().await;
        Ok(found?.is_some())
    }

    /// Makes an image with this tag of a root file system.
    pub async fn import(&self, tag: &str, part: &str, tar: TarStream) -> Result<()> {
        let client = self.connection.long_client().await?;
        let labels = self.naming.part_labels(part);
        let options = CreateImageOptions {
            from_src: Some("-".to_string()),
            repo: Some(self.naming.repository()),
            tag: Some(tag.to_string()),
            changes: labels.iter().map(|(name, value)| format!("LABEL {name}={value:?}")).collect(),
            ..Default::default()
        };
        let (body, broken) = watched(tar);
        let body = bollard::body_try_stream(body);
        let answers = client.create_image(Some(options), Some(body), None).try_for_each(|_| async { Ok(()) }).await;
        self.sent("import a root file system", answers, &broken).await
    }

    /// Removes helpers that a former server process left behind. One process at a time uses an installation's id.
    pub async fn sweep(&self) -> Result<()> {
        let client = self.connection.client().await?;
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some(self.naming.part_filter(HELPER)),
            ..Default::default()
        };
        let stale = client.list_containers(Some(options)).await;
        for container in stale.map_err(|e| self.connection.failure("list helper containers", &e))? {
            // An image may have given a step's container our label for helpers.
            let step = container.labels.is_some_and(|labels| labels.contains_key(HANDLE));
            if let Some(id) = container.id.filter(|_| !step) {
                Helper { id, connection: self.connection.clone() }.remove().await;
            }
        }
        Ok(())
    }

    async fn helper(&self, volume: &str) -> Result<Helper> {
        let client = self.connection.client().await?;
        let mut again = true;
        loop {
            let image = self.empty_image().await?;
            let body = helper_body(image, volume, self.naming.part_labels(HELPER));
            match client.create_container(None, body).await {
                Ok(made) => return Ok(Helper { id: made.id, connection: self.connection.clone() }),
                Err(error) => {
                    let failure = self.connection.failure("create a helper container", &error);
                    if !again || !matches!(failure, Error::NotFound(_)) {
                        return Err(failure);
                    }
                    // Someone pruned the engine's images.
                    again = false;
                    *self.empty_image.lock().await = None;
                }
            }
        }
    }

    /// A container needs an image, even one that is never started: this one is empty.
    pub async fn empty_image(&self) -> Result<String> {
        let mut known = self.empty_image.lock().await;
        if let Some(image) = known.as_ref() {
            return Ok(image.clone());
        }
        let image = format!("{}:empty", self.naming.repository());
        let client = self.connection.client().await?;
        if client.inspect_image(&image).await.is_err() {
            let nothing = vec![0u8; 1024];
            self.import("empty", "empty", Box::pin(std::io::Cursor::new(nothing))).await?;
        }
        *known = Some(image.clone());
        Ok(image)
    }

    async fn ensure_directory(&self, helper: &Helper, target: &str) -> Result<()> {
        if target == TOP || self.mode(helper, target).await?.is_some() {
            return Ok(());
        }
        let below = target.strip_prefix("/v/").unwrap_or_default();
        let mut builder = tar::Builder::new(Vec::new());
        let mut parents: Vec<&Path> = Path::new(below).ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            // An entry for a directory that exists would reset its owner and mode.
            if self.mode(helper, &format!("{TOP}/{}", parent.display())).await?.is_none() {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                let added = builder.append_data(&mut header, parent, std::io::empty());
                added.map_err(|e| Error::Invalid(format!("cannot make directory '{below}': {e}")))?;
            }
        }
        let tar = builder.into_inner().map_err(|e| Error::Failed(format!("cannot make directory '{below}': {e}")))?;
        self.put(helper, TOP, Box::pin(std::io::Cursor::new(tar))).await
    }

    async fn put(&self, helper: &Helper, target: &str, tar: TarStream) -> Result<()> {
        let client = self.connection.long_client().await?;
        let options = UploadToContainerOptions { path: target.to_string(), ..Default::default() };
        let (body, broken) = watched(tar);
        let sent = client.upload_to_container(&helper.id, Some(options), bollard::body_try_stream(body)).await;
        self.sent("unpack files into a volume", sent, &broken).await
    }

    /// Tells a source that broke, an engine that hung up on us in the middle, and an engine that is gone apart.
    async fn sent(
        &self,
        what: &str,
        sent: std::result::Result<(), bollard::errors::Error>,
        broken: &Broken,
    ) -> Result<()> {
        let Err(error) = sent else { return Ok(()) };
        if let Some(reason) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Failed(format!("cannot {what}: the archive cannot be read: {reason}")));
        }
        if let (Some(reason), Ok(())) = (lost_reason(&error), self.connection.ping(SOON).await) {
            return Err(Error::Failed(format!("cannot {what}: the Docker engine ended the transfer: {reason}")));
        }
        Err(self.connection.failure(what, &error))
    }

    async fn mode(&self, helper: &Helper, target: &str) -> Result<Option<u32>> {
        let client = self.connection.client().await?;
        let options = ContainerArchiveInfoOptions { path: target.to_string() };
        match client.get_container_archive_info(&helper.id, Some(options)).await {
            Ok(found) => Ok(Some(found.file_mode)),
            Err(error) => match self.connection.failure("look into a volume", &error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }
}

/// The root file system of a container that was never started; it is removed when the stream has ended or is dropped.
pub async fn export(connection: Arc<Connection>, client: &bollard::Docker, id: String) -> Result<TarStream> {
    let mut body = Box::pin(client.export_container(&id));
    let helper = Helper { id, connection };
    match body.next().await.transpose() {
        Ok(first) => Ok(held_open(helper, first, body)),
        Err(error) => {
            let failure = helper.connection.failure("export an image", &error);
            helper.remove().await;
            Err(failure)
        }
    }
}

/// A container that is never started and holds a volume open for archive requests.
struct Helper {
    id: String,
    connection: Arc<Connection>,
}

impl Helper {
    async fn remove(self) {
        let options = RemoveContainerOptions { force: true, v: false, ..Default::default() };
        let Ok(client) = self.connection.client().await else { return };
        if let Err(error) = client.remove_container(&self.id, Some(options)).await {
            tracing::debug!(helper = self.id, %error, "helper container was not removed");
        }
    }
}

fn helper_body(image: String, volume: &str, labels: std::collections::HashMap<String, String>) -> ContainerCreateBody {
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_string()),
        target: Some(TOP.to_string()),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    };
    ContainerCreateBody {
        image: Some(image),
        entrypoint: Some(vec!["never-started".to_string()]),
        labels: Some(labels),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The path as the helper sees it. What points out of the volume is refused here; links are the engine's to resolve.
fn inside(path: &str) -> Result<String> {
    let mut target = TOP.to_string();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => {
                target.push('/');
                target.push_str(&name.to_string_lossy());
            }
            Component::CurDir | Component::RootDir => {}
            _ => return Err(Error::Invalid(format!("path '{path}' leads out of the volume"))),
        }
    }
    Ok(target)
}

/// Keeps the helper until the last byte was read, or the reader went away, and is done with it before the end is seen.
fn held_open<S>(helper: Helper, first: Option<Bytes>, mut body: S) -> TarStream
where
    S: Stream<Item = std::result::Result<Bytes, bollard::errors::Error>> + Send + Unpin + 'static,
{
    let (sender, mut receiver) = mpsc::channel::<std::io::Result<Bytes>>(8);
    tokio::spawn(async move {
        let mut next = first.map(Ok);
        while let Some(chunk) = next {
            if sender.send(chunk.map_err(std::io::Error::other)).await.is_err() {
                break;
            }
            next = tokio::select! {
                chunk = body.next() => chunk,
                () = sender.closed() => None,
            };
        }
        drop(body);
        helper.remove().await;
    });
    Box::pin(StreamReader::new(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

type Broken = Arc<Mutex<Option<String>>>;

/// The stream's bytes, and a place where its error is kept: the HTTP client only tells that the body ended early.
fn watched(
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> (impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, Broken) {
    let broken = Broken::default();
    let noted = broken.clone();
    let body = ReaderStream::with_capacity(tar, CHUNK).inspect_err(move |error| {
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    });
    (body, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_volume() {
        let cases = [("", "/v"), ("a", "/v/a"), ("/a//b/./c/", "/v/a/b/c"), ("a b", "/v/a b")];
        for (path, expected) in cases {
            assert_eq!(inside(path).unwrap(), expected);
        }
        for bad in ["..", "a/../b", "/../a"] {
            assert!(matches!(inside(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }
}
