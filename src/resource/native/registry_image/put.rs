//! `out`: pushes an image from an artifact, and moves the tags that should follow it.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::get::loud;
use super::semver::{Semver, compare};
use super::source::{Kind, Source};
use super::{PATIENCE, wait};
use crate::base::version::{MetadataField, Version};
use crate::resource::registry::archive::{Archive, DockerImage, Part};
use crate::resource::registry::manifest::{self, DOCKER_MANIFEST, Index, Manifest, OCI_INDEX};
use crate::resource::registry::{Error, Registries, Registry, Result};
use crate::resource::{Env, Failure, Request, Response};

const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    image: String,
    version: String,
    bump_aliases: bool,
    additional_tags: String,
    tag_prefix: String,
}

/// A blob to push.
struct Blob {
    digest: String,
    part: Part,
}

/// What is pushed: blobs first, then manifests by digest, then the top by its tags.
struct Load {
    blobs: Vec<Blob>,
    manifests: Vec<(String, String, Vec<u8>)>,
    media_type: String,
    top: Vec<u8>,
}

/// Pushes what `params` say.
pub fn put(request: &Request, directory: &Path, env: &mut Env<'_>) -> std::result::Result<Response, Failure> {
    let source = Source::read(Kind::Registry, &request.source)?;
    let value = Value::Object(request.params.clone().unwrap_or_default());
    let params: Params =
        serde_json::from_value(value).map_err(|e| Failure::Config(format!("params cannot be used: {e}")))?;
    if source.content_trust.is_some() {
        return Err(Failure::Config(
            "source.content_trust: images are not signed here: sign with a task (cosign, notation) or declare \
             registry-image under resource_types with its image concourse/registry-image-resource"
                .to_owned(),
        ));
    }
    wait(env, push(&source, &params, directory, &env.registries))
}

async fn push(source: &Source, params: &Params, directory: &Path, registries: &Registries) -> Result<Response> {
    let notice = loud();
    let more = additional(params, directory)?;
    let source = &source.resolved(registries, &notice).await?;
    let place = source.places(registries)?.into_iter().find(|place| !place.is_mirror);
    let place = place.ok_or_else(|| Error::Invalid("no registry to push to".to_owned()))?;
    let scratch = tempfile::tempdir().map_err(|e| Error::Unusable(format!("no place for temporary files: {e}")))?;
    let path = image_path(directory, &params.image)?;
    let load = load(&path, scratch.path())?;
    let registry = place.open(registries, "pull,push", PATIENCE, &notice).await?;
    let tags = tags(source, params, more, &registry).await?;
    notice(&format!("pushing tag(s) {}", tags.join(", ")));
    for blob in &load.blobs {
        let open = || Ok(reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(blob.part.open_async()?)));
        if registry.push_blob(&blob.digest, blob.part.size, open).await? {
            notice(&format!("pushed blob: {}", blob.digest));
        } else {
            notice(&format!("existing blob: {}", blob.digest));
        }
    }
    for (digest, media_type, bytes) in &load.manifests {
        registry.push_manifest(digest, media_type, bytes).await?;
    }
    let digest = manifest::sha256(&load.top);
    for tag in &tags {
        registry.push_manifest(tag, &load.media_type, &load.top).await?;
        notice(&format!("{}:{tag}: digest: {digest} size: {}", registry.repository(), load.top.len()));
    }
    notice("pushed");
    let field = |name: &str, value: String| MetadataField { name: name.to_owned(), value };
    Ok(Response {
        version: Version::from([("tag", tags[0].as_str()), ("digest", &digest)]),
        metadata: vec![field("repository", source.repository.clone()), field("tags", tags.join(" "))],
    })
}

/// A path of the step's, which must not lead out of its artifacts.
fn inside(directory: &Path, path: &str) -> Result<PathBuf> {
    if Path::new(path).components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(Error::Invalid(format!("params: {path:?} leads out of the step's inputs")));
    }
    Ok(directory.join(path.trim_start_matches('/')))
}

fn additional(params: &Params, directory: &Path) -> Result<Vec<String>> {
    if params.additional_tags.is_empty() {
        if params.tag_prefix.is_empty() {
            return Ok(Vec::new());
        }
        return Err(Error::Invalid("tag_prefix can only be used when additional_tags are specified".to_owned()));
    }
    let path = inside(directory, &params.additional_tags)?;
    let text = fs::read_to_string(&path).map_err(|e| {
        Error::Invalid(format!(
            "could not parse additional tags: failed to read file at {:?}: {e}",
            params.additional_tags
        ))
    })?;
    Ok(text.split_whitespace().map(|tag| format!("{}{tag}", params.tag_prefix)).collect())
}

/// The one file or directory that the pattern names.
fn image_path(directory: &Path, pattern: &str) -> Result<PathBuf> {
    if pattern.is_empty() {
        return Err(Error::Invalid("params.image is missing: name the image's file or OCI layout".to_owned()));
    }
    let whole = inside(directory, pattern)?;
    if whole.exists() {
        return Ok(whole);
    }
    let glob = globset::GlobBuilder::new(pattern.trim_start_matches("./")).literal_separator(true).build();
    let glob = glob.map_err(|e| Error::Invalid(format!("failed to glob path '{pattern}': {e}")))?.compile_matcher();
    let depth = Path::new(pattern.trim_start_matches("./")).components().count();
    let (mut level, mut found) = (vec![PathBuf::new()], Vec::new());
    for n in 1..=depth {
        let mut next = Vec::new();
        for below in &level {
            for entry in fs::read_dir(directory.join(below)).into_iter().flatten().flatten() {
                let path = below.join(entry.file_name());
                if n == depth && glob.is_match(&path) {
                    found.push(path);
                } else if n < depth && entry.path().is_dir() {
                    next.push(path);
                }
            }
        }
        level = next;
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(directory.join(only)),
        [] => Err(Error::Invalid(format!("no files match glob '{pattern}'"))),
        many => {
            let names: Vec<_> = many.iter().map(|path| path.display().to_string()).collect();
            Err(Error::Invalid(format!("too many files/directories match glob '{pattern}': {}", names.join(" "))))
        }
    }
}

async fn tags(source: &Source, params: &Params, more: Vec<String>, registry: &Registry) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    if !source.tag.0.is_empty() {
        tags.push(source.tag.0.clone());
    }
    if !params.version.is_empty() {
        let version = Semver::parse(&params.version)
            .ok_or_else(|| Error::Invalid(format!("invalid semantic version: {:?}", params.version)))?;
        tags.push(with_variant(&version.to_string(), &source.variant));
        if params.bump_aliases && version.pre.is_empty() {
            let known = match registry.tags().await {
                // The first image of its repository.
                Err(Error::Refused { status: 404, .. }) => Vec::new(),
                other => other?,
            };
            tags.extend(aliases(&version, &source.variant, &known));
        }
    }
    tags.extend(more);
    if tags.is_empty() {
        let told = "no tag specified - need either 'version:' in params or 'tag:' in source";
        return Err(Error::Invalid(told.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match tags.iter().find(|tag| tag.is_empty() || tag.len() > 128 || !tag.chars().all(plain)) {
        Some(wrong) => Err(Error::Invalid(format!("{wrong:?} cannot be a tag: use letters, digits, _, . and -"))),
        None => Ok(tags),
    }
}

fn with_variant(tag: &str, variant: &str) -> String {
    if variant.is_empty() { tag.to_owned() } else { format!("{tag}-{variant}") }
}

/// The tags that should move to `version`, given those there are.
fn aliases(version: &Semver, variant: &str, known: &[String]) -> Vec<String> {
    let [major, minor, _] = version.numbers;
    let suffix = format!("-{variant}");
    let others = known.iter().filter_map(|tag| {
        let bare = if variant.is_empty() { tag.as_str() } else { tag.strip_suffix(&suffix)? };
        Semver::parse(bare).filter(|other| other.pre.is_empty())
    });
    let (mut latest, mut of_major, mut of_minor) = (true, true, true);
    for other in others {
        let same_major = other.numbers[0] == major;
        latest &= !compare(&other, version).is_gt();
        of_major &= !(same_major && other.numbers[1] > minor);
        if same_major && other.numbers[1] == minor && other.numbers[2] > version.numbers[2] {
            (of_major, of_minor) = (false, false);
        }
    }
    let mut aliases = Vec::new();
    if latest {
        aliases.push(if variant.is_empty() { "latest".to_owned() } else { variant.to_owned() });
    }
    if of_major {
        aliases.push(with_variant(&major.to_string(), variant));
    }
    if of_minor {
        aliases.push(with_variant(&format!("{major}.{minor}"), variant));
    }
    aliases
}

fn load(path: &Path, scratch: &Path) -> Result<Load> {
    let archive = Archive::open(path)?;
    if !path.is_dir()
        && let Some(images) = archive.docker_images()?
    {
        return match images.as_slice() {
            [only] => docker(&archive, only, scratch),
            many => {
                let told = format!("{} has {} images: it must have one", path.display(), many.len());
                Err(Error::Unusable(told))
            }
        };
    }
    oci(&archive)
}

/// From `docker save`: what is not packed yet is packed.
fn docker(archive: &Archive, image: &DockerImage, scratch: &Path) -> Result<Load> {
    let failed = |e: io::Error| Error::Unusable(format!("cannot read the image: {e}"));
    let config = archive.part(&image.config)?;
    let mut blobs = vec![Blob { digest: config.digest().map_err(failed)?, part: config }];
    for name in &image.layers {
        let part = archive.part(name)?;
        let part = if part.is_packed().map_err(failed)? {
            part
        } else {
            packed(&part, scratch, blobs.len()).map_err(failed)?
        };
        blobs.push(Blob { digest: part.digest().map_err(failed)?, part });
    }
    let entry = |media: &str, blob: &Blob| json!({"mediaType": media, "size": blob.part.size, "digest": blob.digest});
    let layers: Vec<Value> = blobs[1..].iter().map(|blob| entry(LAYER, blob)).collect();
    let top = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": entry(CONFIG, &blobs[0]), "layers": layers,
    });
    let (media_type, top) = (DOCKER_MANIFEST.to_owned(), top.to_string().into_bytes());
    Ok(Load { blobs, manifests: Vec::new(), media_type, top })
}

fn packed(part: &Part, scratch: &Path, n: usize) -> io::Result<Part> {
    let path = scratch.join(n.to_string());
    let mut encoder = GzEncoder::new(File::create(&path)?, Compression::default());
    io::copy(&mut part.open()?, &mut encoder)?;
    encoder.finish()?;
    Part::whole(path)
}

/// From the OCI's layout.
fn oci(archive: &Archive) -> Result<Load> {
    let (index, bytes) = archive.unwrapped_index()?;
    let mut load = Load { blobs: Vec::new(), manifests: Vec::new(), media_type: OCI_INDEX.to_owned(), top: bytes };
    let single = match archive.find("single-image-digest") {
        Some(_) => Some(String::from_utf8_lossy(&archive.read("single-image-digest")?).trim().to_owned()),
        None => None,
    };
    let mut open: Vec<_> = index.manifests;
    if let Some(digest) = single {
        open.retain(|descriptor| descriptor.digest == digest);
        let only = open.first().ok_or_else(|| Error::Unusable(format!("there is no image {digest} in the layout")))?;
        load.media_type = only.media_type.clone();
        load.top = archive.document(only)?;
    } else if !index.media_type.is_empty() {
        load.media_type = index.media_type;
    }
    while let Some(descriptor) = open.pop() {
        let bytes = archive.document(&descriptor)?;
        if descriptor.is_index() {
            open.extend(manifest::read::<Index>("index", &bytes)?.manifests);
        } else {
            let read: Manifest = manifest::read("manifest", &bytes)?;
            for part in std::iter::once(&read.config).chain(&read.layers) {
                if !load.blobs.iter().any(|blob| blob.digest == part.digest) {
                    let found = archive.part(&Archive::blob(&part.digest))?;
                    load.blobs.push(Blob { digest: part.digest.clone(), part: found });
                }
            }
        }
        // Those that hang on others come first.
        load.manifests.insert(0, (descriptor.digest, descriptor.media_type, bytes));
    }
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_follow_the_newest_of_their_series() {
        let known = |tags: &[&str]| tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let version = Semver::parse("1.2.3").unwrap();
        assert_eq!(aliases(&version, "", &known(&[])), ["latest", "1", "1.2"]);
        assert_eq!(aliases(&version, "", &known(&["1.2.4"])), Vec::<String>::new());
        assert_eq!(aliases(&version, "", &known(&["1.3.0", "2.0.0-rc.1"])), ["1.2"]);
        assert_eq!(aliases(&version, "", &known(&["2.0.0"])), ["1", "1.2"]);
        assert_eq!(aliases(&version, "alpine", &known(&["2.0.0"])), ["alpine", "1-alpine", "1.2-alpine"]);
    }

    #[test]
    fn one_image_is_found_by_its_pattern() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        let find = |pattern: &str| {
            let found = image_path(dir.path(), pattern).map_err(|e| e.to_string());
            found.map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string())
        };
        fs::write(dir.path().join("out/image-1.tar"), "").unwrap();
        assert_eq!(find("out/image-1.tar").unwrap(), "out/image-1.tar");
        assert_eq!(find("out/*.tar").unwrap(), "out/image-1.tar");
        assert!(find("out/*.tgz").unwrap_err().contains("no files match glob 'out/*.tgz'"));
        fs::write(dir.path().join("out/image-2.tar"), "").unwrap();
        assert!(find("out/*.tar").unwrap_err().contains("too many"));
        assert!(find("../x").unwrap_err().contains("leads out") && find("").unwrap_err().contains("params.image"));
    }
}
