//! `in` for the formats that are files: `oci` (as `docker save` writes it) and `oci-layout`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::image::{Description, basics, names};
use super::source::{GetParams, Kind, Place, Source};
use super::{PATIENCE, wait};
use crate::base::version::Version;
use crate::resource::registry::client::{Document, Notice};
use crate::resource::registry::manifest::{self, Index, Manifest, OCI_INDEX};
use crate::resource::registry::{Descriptor, Error, Registries, Registry, Result};
use crate::resource::{Env, Failure, Request, Response};

/// Waits are told where a child's log goes.
pub fn loud() -> Notice {
    use std::io::Write;
    // Nobody reads any more where this fails.
    Arc::new(|text| drop(writeln!(io::stderr(), "{text}")))
}

fn disk(what: &Path) -> impl Fn(io::Error) -> Error {
    move |e| Error::Unusable(format!("cannot write {}: {e}", what.display()))
}

/// Fetches `request.version`.
pub fn get(
    kind: Kind,
    request: &Request,
    directory: &Path,
    env: &mut Env<'_>,
) -> std::result::Result<Response, Failure> {
    let source = Source::read(kind, &request.source)?;
    let params = GetParams::read(request.params.as_ref())?;
    let version = request.version.clone().unwrap_or_default();
    let metadata = wait(env, fetch(&source, &params, &version, directory, &env.registries))?;
    for (name, bytes) in names(kind, &source, &version) {
        fs::write(directory.join(name), bytes).map_err(disk(directory))?;
    }
    let metadata = match metadata {
        Some(description) => description.metadata(kind, &source, &version)?,
        None => basics(kind, &source, &version),
    };
    Ok(Response { version, metadata })
}

async fn fetch(
    source: &Source,
    params: &GetParams,
    version: &Version,
    directory: &Path,
    registries: &Registries,
) -> Result<Option<Description>> {
    if params.skip_download {
        return Ok(None);
    }
    let notice = loud();
    let digest = version.0.get("digest").filter(|d| !d.is_empty());
    let digest = digest.ok_or_else(|| Error::Invalid("the version has no digest".to_owned()))?;
    let source = &source.resolved(registries, &notice).await?;
    notice(&format!("fetching \u{1b}[32m{}\u{1b}[0m@\u{1b}[33m{digest}\u{1b}[0m", source.repository));
    let mut failed = None;
    for place in source.places(registries)? {
        match from(&place, source, params, version, directory, registries).await {
            Err(error) if place.is_mirror => {
                notice(&format!("download from mirror {} failed: {error}", place.repository));
                failed = Some(error);
            }
            other => return other.map(Some),
        }
    }
    Err(failed.unwrap_or_else(|| Error::Invalid("no registry to ask".to_owned())))
}

async fn from(
    place: &Place,
    source: &Source,
    params: &GetParams,
    version: &Version,
    directory: &Path,
    registries: &Registries,
) -> Result<Description> {
    let registry = Arc::new(place.open(registries, "pull", PATIENCE, &loud()).await?);
    let digest = version.0.get("digest").map(String::as_str).unwrap_or_default();
    let platform = source.platform(params.platform.as_ref());
    let description = Description::fetch(&registry, digest, &platform).await?;
    match params.format.as_str() {
        "oci" => {
            let tag = version.0.get("tag").map(String::as_str).unwrap_or_default();
            let name = format!("{}:{tag}", crate::resource::registry::Repository::parse(&source.repository)?);
            tarball(&registry, &description, &name, directory).await?;
            let labels = description.files(Kind::Registry, source, version);
            for (name, bytes) in labels.iter().filter(|(name, _)| name == "labels.json") {
                fs::write(directory.join(name), bytes).map_err(disk(directory))?;
            }
        }
        "oci-layout" => layout(&registry, digest, &directory.join("oci")).await?,
        _ => {
            return Err(Error::Invalid(
                "a root file system is unpacked by the server itself: ask for format: oci or oci-layout here"
                    .to_owned(),
            ));
        }
    }
    Ok(description)
}

/// Downloads a blob to a file; nothing of it stays if it is damaged.
async fn download(registry: &Arc<Registry>, descriptor: &Descriptor, to: &Path) -> Result<()> {
    let mut content = registry.blob(descriptor, Arc::<AtomicU64>::default());
    let mut file = tokio::fs::File::create(to).await.map_err(disk(to))?;
    let copied = async {
        tokio::io::copy(&mut content, &mut file).await?;
        file.flush().await
    };
    if let Err(error) = copied.await {
        drop(fs::remove_file(to));
        return Err(Error::Unusable(error.to_string()));
    }
    Ok(())
}

/// `image.tar`, to be loaded with `docker load`.
async fn tarball(registry: &Arc<Registry>, description: &Description, name: &str, directory: &Path) -> Result<()> {
    let path = directory.join("image.tar");
    let failed = disk(&path);
    let mut archive = tar::Builder::new(File::create(&path).map_err(&failed)?);
    let mut add = |name: &str, size: u64, content: &mut dyn io::Read| -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size);
        archive.append_data(&mut header, name, content)
    };
    let config = &description.manifest.config.digest;
    add(config, description.config_text.len() as u64, &mut description.config_text.as_slice()).map_err(&failed)?;
    let mut layers = Vec::new();
    for (packed, _) in description.layers()? {
        let file = format!("{}.tar.gz", packed.digest.trim_start_matches("sha256:"));
        if !layers.contains(&file) {
            let draft = directory.join(".layer");
            download(registry, &packed, &draft).await?;
            let mut content = File::open(&draft).map_err(&failed)?;
            let size = content.metadata().map_err(&failed)?.len();
            add(&file, size, &mut content).map_err(&failed)?;
            fs::remove_file(&draft).map_err(&failed)?;
        }
        layers.push(file);
    }
    let told = json!([{"Config": config, "RepoTags": [name], "Layers": layers}]).to_string();
    add("manifest.json", told.len() as u64, &mut told.as_bytes()).map_err(&failed)?;
    archive.into_inner().and_then(|file| file.sync_data()).map_err(&failed)
}

/// The OCI's layout with all that hangs on the digest, every platform included.
async fn layout(registry: &Arc<Registry>, digest: &str, directory: &Path) -> Result<()> {
    let blobs = directory.join("blobs/sha256");
    let failed = disk(&blobs);
    fs::create_dir_all(&blobs).map_err(&failed)?;
    let top = document(registry, digest).await?;
    fs::write(directory.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").map_err(&failed)?;
    let index = if manifest::is_index(&top.media_type) {
        children(registry, &manifest::read("index", &top.bytes)?, &blobs).await?;
        top.bytes
    } else {
        image(registry, &top, &blobs).await?;
        fs::write(directory.join("single-image-digest"), &top.digest).map_err(&failed)?;
        let entry = json!({"mediaType": top.media_type, "size": top.bytes.len(), "digest": top.digest});
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string().into_bytes()
    };
    fs::write(directory.join("index.json"), index).map_err(&failed)
}

async fn document(registry: &Registry, digest: &str) -> Result<Document> {
    let missing = || Error::Unusable(format!("{}@{digest} is not in the registry (any more)", registry.repository()));
    registry.manifest(digest).await?.ok_or_else(missing)
}

fn keep(blobs: &Path, digest: &str, bytes: &[u8]) -> Result<()> {
    let path = blob(blobs, digest)?;
    fs::write(&path, bytes).map_err(disk(&path))
}

/// The file of a blob. A digest of another kind could lead elsewhere.
fn blob(blobs: &Path, digest: &str) -> Result<std::path::PathBuf> {
    match digest.strip_prefix("sha256:").filter(|_| manifest::is_sha256(digest)) {
        Some(hex) => Ok(blobs.join(hex)),
        None => Err(Error::Unusable(format!("the image has a part with the digest {digest:?}: only sha256 is known"))),
    }
}

async fn children(registry: &Arc<Registry>, index: &Index, blobs: &Path) -> Result<()> {
    let mut open = index.manifests.clone();
    while let Some(descriptor) = open.pop() {
        let found = document(registry, &descriptor.digest).await?;
        if descriptor.is_index() {
            open.extend(manifest::read::<Index>("index", &found.bytes)?.manifests);
            keep(blobs, &found.digest, &found.bytes)?;
        } else {
            image(registry, &found, blobs).await?;
        }
    }
    Ok(())
}

async fn image(registry: &Arc<Registry>, found: &Document, blobs: &Path) -> Result<()> {
    let read: Manifest = manifest::read("manifest", &found.bytes)?;
    for part in std::iter::once(&read.config).chain(&read.layers) {
        let path = blob(blobs, &part.digest)?;
        if !path.exists() {
            download(registry, part, &path).await?;
        }
    }
    keep(blobs, &found.digest, &found.bytes)
}
