//! `whistlestop image`: images from files, for servers without a way to a registry.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::said;
use crate::base::packing::Unpacked;
use crate::resource::registry::archive::{Archive, DockerImage, Part};
use crate::resource::registry::manifest::{self, Config, DOCKER_MANIFEST, Index, Manifest};
use crate::resource::registry::{Descriptor, Platform, Repository};
use crate::runtime::embedded::{Embedded, Options};
use crate::runtime::room::{Floor, Watermark};
use crate::runtime::{ImageLayers, KnownLayer, SavedImage};
use crate::server::containment::watermark;

/// Saved images of a server: they answer for their repository and tag before any registry is asked.
#[derive(Debug, Args)]
pub struct Image {
    /// The server's state directory
    #[arg(long, global = true, value_name = "DIR", env = "WHISTLESTOP_STATE_DIR", default_value = "whistlestop-state")]
    state_dir: PathBuf,
    /// Free space on the disk below which no image is unpacked, as a size or a share
    #[arg(
        long,
        global = true,
        value_name = "SIZE|PERCENT",
        env = "WHISTLESTOP_LOW_DISK_WATERMARK",
        default_value = "1GB"
    )]
    #[arg(value_parser = watermark)]
    low_disk_watermark: Watermark,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load images that `docker save` wrote, or OCI layouts: tar files, also compressed with gzip or zstd, or directories;
    /// the server may run meanwhile
    Preload {
        /// The name, where the file has none or another
        #[arg(long, value_name = "REPOSITORY:TAG")]
        name: Option<String>,
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List what is loaded
    Ls,
    /// Forget an image; its files go when no build uses them any more
    Rm {
        /// As listed
        #[arg(required = true, value_name = "REPOSITORY:TAG")]
        names: Vec<String>,
    },
}

/// One image of a file, with where its layers are.
struct Found {
    saved: SavedImage,
    layers: Vec<Part>,
}

/// Runs the command.
pub fn run(image: Image) -> anyhow::Result<()> {
    if matches!(image.command, Command::Preload { .. }) {
        let made = std::fs::create_dir_all(&image.state_dir);
        made.with_context(|| format!("cannot make {}", image.state_dir.display()))?;
    }
    let floor = Floor { place: image.state_dir.clone(), watermark: image.low_disk_watermark };
    let store = open(&image.state_dir, image.low_disk_watermark)?;
    super::runtime()?.block_on(async {
        match image.command {
            Command::Preload { name, files } => {
                if name.is_some() && files.len() > 1 {
                    bail!("--name names one image: give one file with it");
                }
                for file in files {
                    preload(&store, &file, name.as_deref(), &floor)
                        .await
                        .with_context(|| format!("cannot load {}", file.display()))?;
                }
            }
            Command::Ls => {
                for saved in store.all_saved().await?.iter().filter(|saved| saved.whole) {
                    said::line(&format!("{}  {}  {} layers", saved.name, saved.digest, saved.layers.len()))?;
                }
            }
            Command::Rm { names } => {
                for name in names {
                    let whole = full_name(&name)?;
                    if !store.forget(&whole).await? {
                        bail!("there is no image {whole} here: `whistlestop image ls` lists those that are");
                    }
                }
            }
        }
        Ok(())
    })
}

fn open(state_dir: &Path, watermark: Watermark) -> anyhow::Result<Embedded> {
    let metadata = std::fs::metadata(state_dir);
    let owner = metadata.with_context(|| format!("there is no installation in {}", state_dir.display()))?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        bail!("{} belongs to the user {owner}: run this as that user, as the server runs", state_dir.display());
    }
    let options = Options {
        allow_host_rootfs: false,
        allow_local: false,
        self_exe: std::env::current_exe().context("where this program's file is")?,
        masked: Vec::new(),
        isolation: Default::default(),
        most_image_bytes: u64::MAX,
        watermark,
    };
    Ok(Embedded::beside(std::path::absolute(state_dir)?.join("worker"), options)?)
}

/// `busybox:1` as `index.docker.io/library/busybox:1`.
fn full_name(name: &str) -> anyhow::Result<String> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    };
    let repository = Repository::parse(repository).map_err(|e| anyhow::anyhow!("{name:?} is no image's name: {e}"))?;
    Ok(format!("{repository}:{tag}"))
}

/// A compressed file unpacked, since an archive is read where its index points to. It has no name, and goes with the
/// last who has it open.
fn unpacked(file: &Path, floor: &Floor) -> anyhow::Result<Option<File>> {
    if file.is_dir() {
        return Ok(None);
    }
    let mut unpacked = Unpacked::new(BufReader::new(File::open(file)?))?;
    if unpacked.head().is_some() {
        return Ok(None);
    }
    let mut plain = tempfile::tempfile_in(&floor.place)?;
    let mut written = 0;
    loop {
        floor.admit(format_args!("unpacking {}", file.display()), written)?;
        match std::io::copy(&mut (&mut unpacked).take(16 << 20), &mut plain)? {
            0 => return Ok(Some(plain)),
            some => written += some,
        }
    }
}

async fn preload(store: &Embedded, file: &Path, name: Option<&str>, floor: &Floor) -> anyhow::Result<()> {
    let plain = unpacked(file, floor)?;
    let archive = match &plain {
        Some(plain) => Archive::named(file, &PathBuf::from(format!("/proc/self/fd/{}", plain.as_raw_fd())))?,
        None => Archive::open(file)?,
    };
    let found = match archive.docker_images()? {
        Some(images) if !file.is_dir() => docker(&archive, &images, name)?,
        _ => layout(&archive, name)?,
    };
    for image in found {
        // Written down before, so that the server's collector leaves the layers alone.
        store.save(&SavedImage { whole: false, ..image.saved.clone() }).await?;
        let intake = store.intake(&image.saved.name, &image.saved.layers);
        let mut fresh = 0;
        for (layer, part) in image.saved.layers.iter().zip(&image.layers) {
            let origin = format!("{}@{layer}", image.saved.name);
            let known =
                KnownLayer { bytes: 0, teams: BTreeSet::from(["*".to_owned()]), origins: BTreeSet::from([origin]) };
            if store.find(layer).await?.is_some() {
                store.admit(layer, known).await?;
            } else {
                store.add(layer, Box::pin(part.open_async()?), known, &intake).await?;
                fresh += 1;
            }
        }
        store.save(&SavedImage { whole: true, ..image.saved.clone() }).await?;
        let (name, digest, layers) = (&image.saved.name, &image.saved.digest, image.saved.layers.len());
        said::line(&format!("loaded {name}@{digest}: {layers} layers, {fresh} of them new"))?;
    }
    Ok(())
}

/// Images as `docker save` writes them.
fn docker(archive: &Archive, images: &[DockerImage], name: Option<&str>) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for image in images {
        let config = archive.read(&image.config)?;
        let layers = image.layers.iter().map(|layer| archive.part(layer)).collect::<Result<Vec<_>, _>>()?;
        let (digest, text) = match in_index(archive, &manifest::sha256(&config))? {
            Some(known) => known,
            None => described(&config, &layers)?,
        };
        let names = names(name, image.repo_tags.iter().flatten().map(String::as_str))?;
        for name in names {
            found.push(entry(name, digest.clone(), text.clone(), &config, layers.clone())?);
        }
    }
    Ok(found)
}

fn names<'a>(given: Option<&str>, tags: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = match given {
        Some(name) => vec![full_name(name)?],
        None => tags.map(full_name).collect::<Result<_, _>>()?,
    };
    if names.is_empty() {
        bail!("it names no repository and tag: give them with --name REPOSITORY:TAG");
    }
    Ok(names)
}

/// Newer engines write the OCI's layout beside their own, with the manifest that a registry would have.
fn in_index(archive: &Archive, config: &str) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    if archive.find("index.json").is_none() {
        return Ok(None);
    }
    for descriptor in archive.index()?.0.manifests.iter().filter(|d| !d.is_index()) {
        let bytes = archive.document(descriptor)?;
        if manifest::read::<Manifest>("manifest", &bytes)?.config.digest == config {
            return Ok(Some((descriptor.digest.clone(), bytes)));
        }
    }
    Ok(None)
}

/// A manifest for an image that has none.
fn described(config: &[u8], layers: &[Part]) -> anyhow::Result<(String, Vec<u8>)> {
    let entry = |media: &str, size: u64, digest: String| json!({"mediaType": media, "size": size, "digest": digest});
    let mut entries = Vec::new();
    for layer in layers {
        let media = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        entries.push(entry(media, layer.size, layer.digest()?));
    }
    let media = "application/vnd.docker.container.image.v1+json";
    let config = entry(media, config.len() as u64, manifest::sha256(config));
    let text = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": entries});
    let text = text.to_string().into_bytes();
    Ok((manifest::sha256(&text), text))
}

fn entry(name: String, digest: String, text: Vec<u8>, config: &[u8], layers: Vec<Part>) -> anyhow::Result<Found> {
    let read: Config = manifest::read("configuration", config)?;
    if read.rootfs.diff_ids.len() != layers.len() {
        bail!("{name}: its configuration names {} layers, and {} are there", read.rootfs.diff_ids.len(), layers.len());
    }
    let saved = SavedImage {
        name,
        digest,
        manifest: String::from_utf8(text)?,
        config: String::from_utf8(config.to_vec())?,
        layers: read.rootfs.diff_ids,
        whole: false,
    };
    Ok(Found { saved, layers })
}

/// Images of the OCI's layout.
fn layout(archive: &Archive, name: Option<&str>) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for descriptor in &archive.index()?.0.manifests {
        let annotation = |key: &str| descriptor.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
        let named = annotation("io.containerd.image.name")
            .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':'])));
        let names = names(name, named.into_iter())?;
        let bytes = archive.document(&chosen(archive, descriptor)?)?;
        let read: Manifest = manifest::read("manifest", &bytes)?;
        let config = archive.read(&Archive::blob(&read.config.digest))?;
        let layers = read.layers.iter().map(|layer| archive.part(&Archive::blob(&layer.digest)));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        for name in names {
            found.push(entry(name, descriptor.digest.clone(), bytes.clone(), &config, layers.clone())?);
        }
    }
    Ok(found)
}

/// The image for this machine behind an entry.
fn chosen(archive: &Archive, descriptor: &Descriptor) -> anyhow::Result<Descriptor> {
    let mut at = descriptor.clone();
    for _ in 0..8 {
        if !at.is_index() {
            break;
        }
        let index: Index = manifest::read("index", &archive.document(&at)?)?;
        at = index.choose(&Platform::here())?.clone();
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_a_source_resolves_them() {
        assert_eq!(full_name("busybox").unwrap(), "index.docker.io/library/busybox:latest");
        assert_eq!(full_name("docker.io/a/b:1").unwrap(), "index.docker.io/a/b:1");
        assert_eq!(full_name("127.0.0.1:5000/a").unwrap(), "127.0.0.1:5000/a:latest");
        assert!(full_name("A").is_err());
        assert!(names(None, std::iter::empty()).unwrap_err().to_string().contains("--name"));
    }
}
