//! Our own binary as a volume, so that it can be PID 1 in containers of any image, on engines of any host.

use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::archive::Archive;
use super::connection::Connection;
use super::naming::Naming;
use crate::runtime::{Error, Result, TarStream};

/// The role of the volume, by its label.
const BINARY: &str = "binary";
/// The entry that is unpacked last: where it is, all is.
const COMPLETE: &str = "complete";
const BLOCK: u64 = 512;

/// The volume that holds the binary, filled once per content of it.
#[derive(Debug)]
pub struct Binary {
    connection: Arc<Connection>,
    naming: Naming,
    archive: Arc<Archive>,
    path: PathBuf,
    volume: tokio::sync::Mutex<Option<String>>,
}

impl Binary {
    /// Of the file at `path`.
    pub fn new(connection: Arc<Connection>, naming: Naming, archive: Arc<Archive>, path: PathBuf) -> Self {
        Binary { connection, naming, archive, path, volume: tokio::sync::Mutex::new(None) }
    }

    /// The volume's name; filled when this returns.
    pub async fn volume(&self) -> Result<String> {
        let mut known = self.volume.lock().await;
        if let Some(name) = known.as_ref() {
            return Ok(name.clone());
        }
        let (digest, size) = self.digest().await?;
        let name = self.naming.binary(&digest);
        let client = self.connection.client().await?;
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(self.naming.part_labels(BINARY)),
            ..Default::default()
        };
        client
            .create_volume(request)
            .await
            .map_err(|e| self.connection.failure("create the supervisor's volume", &e))?;
        if !self.archive.exists(&name, COMPLETE).await? {
            self.archive.unpack(&name, "", self.packed(size).await?).await?;
        }
        self.remove_former(&name).await;
        *known = Some(name.clone());
        Ok(name)
    }

    /// Looks again next time, after a container did not find the binary in its volume; whether it was thought there.
    pub async fn forget(&self) -> bool {
        let Some(name) = self.volume.lock().await.take() else { return false };
        // Where there was none, the engine has made an empty one without our labels.
        if let Ok(client) = self.connection.client().await {
            let _ = client.remove_volume(&name, None::<RemoveVolumeOptions>).await;
        }
        true
    }

    async fn digest(&self) -> Result<(String, u64)> {
        let path = self.path.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let mut file = std::fs::File::open(path)?;
            let mut hasher = Sha256::new();
            let (mut buffer, mut size) = (vec![0; 256 * 1024], 0);
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
            let mut digest = hex::encode(hasher.finalize());
            digest.truncate(16);
            Ok::<_, std::io::Error>((digest, size))
        });
        let hashed = hashed.await.map_err(std::io::Error::other).flatten();
        hashed.map_err(|e| self.unreadable(&e))
    }

    async fn packed(&self, size: u64) -> Result<TarStream> {
        let file = tokio::fs::File::open(&self.path).await.map_err(|e| self.unreadable(&e))?;
        let mut end = vec![0; usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0)];
        end.extend_from_slice(&header(COMPLETE, 0)?);
        end.extend_from_slice(&[0; 1024]);
        let start = std::io::Cursor::new(header("whistlestop", size)?);
        Ok(Box::pin(start.chain(file.take(size)).chain(std::io::Cursor::new(end))))
    }

    /// Volumes of former versions that no container uses any more.
    async fn remove_former(&self, current: &str) {
        let Ok(client) = self.connection.client().await else { return };
        let mut filters = self.naming.part_filter(BINARY);
        filters.insert("dangling".to_string(), vec!["true".to_string()]);
        let Ok(found) = client.list_volumes(Some(ListVolumesOptions { filters: Some(filters) })).await else { return };
        for volume in found.volumes.unwrap_or_default().into_iter().filter(|volume| volume.name != current) {
            if let Err(error) = client.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                tracing::debug!(volume = volume.name, %error, "volume of a former version was not removed");
            }
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        Error::Failed(format!("the server's own binary {} cannot be read for containers: {error}", self.path.display()))
    }
}

fn header(name: &str, size: u64) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).map_err(|e| Error::Failed(format!("cannot pack {name}: {e}")))?;
    header.set_mode(0o755);
    header.set_size(size);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}
