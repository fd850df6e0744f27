//! Uploads for one-off builds, and outputs for download: tar archives, compressed on the way.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::read::GzEncoder;
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use crate::base::chance;
use crate::base::error::{Error, Kind};
use crate::base::hold::Hold;
use crate::base::id::{ArtifactId, TeamId};
use crate::base::packing::Unpacked;
use crate::exec::placement::allowed;
use crate::front::{Answer, App, Call, Failure, Permit, json};
use crate::runtime::{self, Origin, TarStream, VolumeHandle};
use crate::store::artifact::{Artifact, NewArtifact};
use crate::store::volume::Volume;

/// Between the network and the (de)compressor.
const BUFFER: usize = 64 * 1024;

/// An artifact.
#[derive(Debug, Serialize)]
pub struct ArtifactJson<'a> {
    id: ArtifactId,
    name: &'a str,
    build_id: i64,
    created_at: i64,
}

impl<'a> ArtifactJson<'a> {
    /// As Concourse shows it: no build is 0.
    pub fn new(artifact: &'a Artifact) -> ArtifactJson<'a> {
        ArtifactJson {
            id: artifact.id,
            name: &artifact.name,
            build_id: artifact.build_id.map_or(0, |b| b.0),
            created_at: artifact.created_at.unix(),
        }
    }
}

/// `CreateArtifact`: the body is a tar archive, compressed with gzip or zstd or not at all.
pub async fn upload(permit: Permit, call: Call) -> Answer {
    let (app, team, team_name) = (call.app.clone(), permit.team()?, permit.team_name()?.to_owned());
    let tags: Vec<String> = call.query.all("tags").map(str::to_owned).collect();
    if let Err(stop) = allowed(call.query.get("platform"), &tags, &app.settings.worker_tags) {
        return Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, stop.text()));
    }
    if let Some(why) = app.hold.why() {
        return Err(full(&why).into());
    }
    let artifact = note(&app, team).await?;
    let volume = VolumeHandle(artifact.volume.clone());
    let body = call.into_body().into_data_stream().map_err(std::io::Error::other);
    match receive(&app, &team_name, &volume, StreamReader::new(body)).await {
        Ok(()) => json(StatusCode::CREATED, &ArtifactJson::new(&artifact)),
        Err(failure) => {
            let id = artifact.id;
            app.store.write(move |tx| tx.drop_artifact(id)).await?;
            app.wakes.gc.ring();
            Err(failure)
        }
    }
}

/// Writes volume and artifact down before there is anything.
async fn note(app: &App, team: TeamId) -> Result<Artifact, Failure> {
    let (handle, now) = (format!("up-{}", chance::hex::<12>()), app.clock.now());
    let volume = Volume {
        handle: handle.clone(),
        team_id: team,
        kind: "artifact".to_owned(),
        parent: None,
        container: None,
        build_id: None,
        path: String::new(),
        created_at: now,
    };
    let artifact = NewArtifact { team, name: String::new(), volume: handle, build: None, now };
    let noted = app.store.write(move |tx| {
        tx.insert_volume(&volume)?;
        tx.add_artifact(&artifact)
    });
    Ok(noted.await?)
}

async fn receive(
    app: &App,
    team: &str,
    volume: &VolumeHandle,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Result<(), Failure> {
    app.runtime.create_volume(volume, team, &Origin::Empty).await?;
    let (reader, writer) = tokio::io::duplex(BUFFER);
    let hold = app.hold.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut plain = WhileRoom { from: decompressed(SyncIoBridge::new(body))?, hold };
        let mut to = SyncIoBridge::new(writer);
        std::io::copy(&mut plain, &mut to)?;
        to.shutdown()
    });
    let stored = app.runtime.stream_in(volume, "", Box::pin(reader)).await;
    // Where the archive is broken the decompressor knows why, and the runtime only that it ended early.
    match unpacking.await.map_err(Error::internal)? {
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Err(full(&e).into()),
        Err(e) if stored.is_ok() || e.kind() != std::io::ErrorKind::BrokenPipe => Err(broken(e)),
        _ => stored.map_err(|e| match e {
            runtime::Error::Failed(text) => Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text),
            other => other.into(),
        }),
    }
}

/// What is uploaded may be long, and longer than it looks: it ends when the disk is nearly full.
struct WhileRoom<R> {
    from: R,
    hold: Hold,
}

impl<R: Read> Read for WhileRoom<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.hold.why() {
            Some(why) => Err(std::io::Error::new(std::io::ErrorKind::StorageFull, why)),
            None => self.from.read(buffer),
        }
    }
}

fn full(why: &impl std::fmt::Display) -> Error {
    Error::new(Kind::Unavailable, format!("nothing can be uploaded now: {why}"))
}

fn broken(e: std::io::Error) -> Failure {
    let text = format!("the upload is no tar archive, plain or compressed with gzip or zstd: {e}");
    Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// The archive without its compression, which its first bytes name.
fn decompressed<R: Read>(from: R) -> std::io::Result<Unpacked<R>> {
    let unpacked = Unpacked::new(from)?;
    match unpacked.head() {
        // Two zero bytes begin the end of an archive without entries; a name begins any other.
        None | Some([0, 0, ..]) => Ok(unpacked),
        Some([first, _, _, _, ..]) if first.is_ascii_graphic() => Ok(unpacked),
        Some(_) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is too short")),
    }
}

/// `GetArtifact`
pub async fn download(permit: Permit, call: Call) -> Answer {
    let (team, id) = (permit.team()?, call.param("artifact_id").parse::<ArtifactId>());
    let id = id.map_err(|_| Failure::not_found())?;
    let found = call.app.store.read(move |tx| tx.artifact(team, id)).await?.ok_or_else(Failure::not_found)?;
    let tar = call.app.runtime.stream_out(&VolumeHandle(found.volume), "").await?;
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(compressed(tar), BUFFER)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// The archive compressed with gzip while it is read.
fn compressed(tar: TarStream) -> impl AsyncRead {
    let (reader, writer) = tokio::io::duplex(BUFFER);
    tokio::task::spawn_blocking(move || {
        let mut to = SyncIoBridge::new(writer);
        let packed = std::io::copy(&mut GzEncoder::new(SyncIoBridge::new(tar), Compression::fast()), &mut to);
        if let Err(error) = packed.and_then(|_| to.shutdown()) {
            // The reader sees an archive that breaks off.
            tracing::warn!(%error, "a download ended early");
        }
    });
    reader
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_read_ends_when_the_room_does() {
        let hold = Hold::default();
        let mut read = WhileRoom { from: std::io::repeat(1), hold: hold.clone() };
        assert_eq!(read.read(&mut [0; 8]).unwrap(), 8);
        hold.set(Some("Low disk space".to_owned()));
        let error = read.read(&mut [0; 8]).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (std::io::ErrorKind::StorageFull, "Low disk space"));
    }

    #[test]
    fn the_first_bytes_name_the_compression() {
        let plain = b"name".repeat(200);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&plain).unwrap();
        let zst = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for packed in [plain.clone(), gz.finish().unwrap(), zst] {
            let mut out = Vec::new();
            decompressed(std::io::Cursor::new(packed)).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, plain);
        }
        assert!(decompressed(std::io::Cursor::new(b"xx".to_vec())).is_err());
    }
}
