//! `check`: what a tag has now, or which tags are versions.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::TryStreamExt;

use super::CHECK_PATIENCE;
use super::semver::{Constraint, Semver, compare};
use super::source::{Kind, Source};
use crate::base::version::Version;
use crate::resource::registry::client::Notice;
use crate::resource::registry::manifest::{self, Config, Index, Manifest};
use crate::resource::registry::{Error, Registries, Registry, Result};

/// Questions to one registry at once.
const AT_ONCE: usize = 8;

/// The versions after `from`, oldest first. A mirror that has nothing to say is no answer.
pub async fn check(
    kind: Kind,
    source: &Source,
    from: Option<&Version>,
    registries: &Registries,
    notice: &Notice,
) -> Result<Vec<Version>> {
    let source = source.resolved(registries, notice).await?;
    for place in source.places(registries)? {
        let asked = async {
            let registry = place.open(registries, "pull", CHECK_PATIENCE, notice).await?;
            versions(kind, &source, from, &registry).await
        };
        match asked.await {
            Ok(found) if found.is_empty() && place.is_mirror => {
                notice(&format!("checking mirror {} failed: tag not found", place.repository));
            }
            Err(error) if place.is_mirror => {
                notice(&format!("checking mirror {} failed: {error}", place.repository));
            }
            Ok(found) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

/// A version of either type.
pub fn version(kind: Kind, tag: &str, digest: &str) -> Version {
    match kind {
        Kind::Registry => Version::from([("tag", tag), ("digest", digest)]),
        Kind::Docker => Version::from([("digest", digest)]),
    }
}

fn member<'a>(version: Option<&'a Version>, name: &str) -> Option<&'a str> {
    version.and_then(|v| v.0.get(name)).map(String::as_str).filter(|text| !text.is_empty())
}

async fn versions(kind: Kind, source: &Source, from: Option<&Version>, registry: &Registry) -> Result<Vec<Version>> {
    if !source.tag.0.is_empty() {
        of_tag(kind, &source.tag.0, from, registry).await
    } else if !source.tag_regex.is_empty() {
        matching(source, registry).await
    } else {
        of_repository(source, from, registry).await
    }
}

/// What the tag had, if that is still there, and what it has.
async fn of_tag(kind: Kind, tag: &str, from: Option<&Version>, registry: &Registry) -> Result<Vec<Version>> {
    let Some(digest) = registry.digest(tag).await? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if let Some(former) = member(from, "digest").filter(|former| *former != digest)
        && registry.digest(former).await?.is_some()
    {
        found.push(version(kind, tag, former));
    }
    found.push(version(kind, tag, &digest));
    Ok(found)
}

/// The digests of tags that are still there, in the order given.
async fn digests(tags: Vec<String>, registry: &Registry) -> Result<Vec<(String, String)>> {
    let mut asked = Vec::with_capacity(tags.len());
    for tag in tags {
        asked.push(async move {
            let digest = registry.digest(&tag).await?;
            Ok::<_, Error>(digest.map(|digest| (tag, digest)))
        });
    }
    let found: Vec<Option<_>> = futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn matching(source: &Source, registry: &Registry) -> Result<Vec<Version>> {
    let regex = regex::Regex::new(&source.tag_regex)
        .map_err(|e| Error::Invalid(format!("invalid regex pattern in source.tag_regex: {e}")))?;
    let tags = registry.tags().await?.into_iter().filter(|tag| regex.is_match(tag)).collect();
    let mut found = digests(tags, registry).await?;
    if source.created_at_sort {
        let platform = source.platform(None);
        let (mut asked, platform) = (Vec::with_capacity(found.len()), &platform);
        for (tag, digest) in found {
            asked.push(async move {
                let created = created(registry, &digest, platform).await?;
                Ok::<_, Error>((created, tag, digest))
            });
        }
        let mut timed: Vec<_> = futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        timed.sort_by_key(|(created, ..)| *created);
        found = timed.into_iter().map(|(_, tag, digest)| (tag, digest)).collect();
    }
    Ok(found.iter().map(|(tag, digest)| version(Kind::Registry, tag, digest)).collect())
}

/// When an image was made.
async fn created(registry: &Registry, digest: &str, platform: &manifest::Platform) -> Result<Option<jiff::Timestamp>> {
    let (manifest, _) = of_platform(registry, digest, platform).await?;
    let config: Config = manifest::read("configuration", &registry.small_blob(&manifest.config).await?)?;
    Ok(config.created.and_then(|text| text.parse().ok()))
}

/// So many indexes may be in one another.
const DEPTH: usize = 8;

/// The manifest for a platform behind a digest, and the digest of that manifest.
pub async fn of_platform(
    registry: &Registry,
    digest: &str,
    platform: &manifest::Platform,
) -> Result<(Manifest, String)> {
    let missing =
        |digest: &str| Error::Unusable(format!("{}@{digest} is not in the registry (any more)", registry.repository()));
    let mut document = registry.manifest(digest).await?.ok_or_else(|| missing(digest))?;
    // An index may list others.
    for _ in 0..DEPTH {
        if !manifest::is_index(&document.media_type) {
            return Ok((manifest::read("manifest", &document.bytes)?, document.digest));
        }
        let index: Index = manifest::read("index", &document.bytes)?;
        let chosen = index.choose(platform)?.digest.clone();
        document = registry.manifest(&chosen).await?.ok_or_else(|| missing(&chosen))?;
    }
    Err(Error::Unusable(format!("{}@{digest} is an index of indexes, too deep", registry.repository())))
}

/// Which tags of a repository are versions, as its source says.
pub(super) struct Tags<'a> {
    source: &'a Source,
    constraint: Option<Constraint>,
    suffix: String,
}

impl<'a> Tags<'a> {
    /// Of this source; the error is about its constraint.
    pub fn of(source: &'a Source) -> std::result::Result<Tags<'a>, String> {
        let constraint = match source.semver_constraint.as_str() {
            "" => None,
            text => Some(Constraint::parse(text)?),
        };
        Ok(Tags { source, constraint, suffix: format!("-{}", source.variant) })
    }

    /// The version that a tag stands for, if it is wanted.
    pub fn read(&self, tag: &str) -> Option<Semver> {
        let bare = if self.source.variant.is_empty() { tag } else { tag.strip_suffix(&self.suffix)? };
        let version = Semver::parse(bare)?;
        let meets = self.constraint.as_ref().is_none_or(|c| c.allows(&version));
        (meets && self.wants(&version)).then_some(version)
    }

    /// Whether a version's part after the dash is a pre-release that is wanted, and not a variant.
    fn wants(&self, version: &Semver) -> bool {
        let pre = version.pre.as_str();
        if pre.is_empty() {
            return true;
        }
        let usual = ["alpha", "beta", "rc"];
        let more = &self.source.pre_release_prefixes;
        self.source.pre_releases
            && (!more.is_empty() || !pre.contains('-'))
            && (usual.iter().any(|p| pre.starts_with(p)) || more.iter().any(|p| pre.starts_with(p.as_str())))
    }

    /// The tag that is no version and stands for the newest.
    pub fn bare(&self) -> &'a str {
        if self.source.variant.is_empty() { "latest" } else { &self.source.variant }
    }

    /// The versions among tags with their digests.
    pub fn versions(&self, found: &[(String, String)]) -> Vec<Version> {
        chosen(found, |tag| self.read(tag), self.bare(), self.constraint.is_none())
    }
}

async fn of_repository(source: &Source, from: Option<&Version>, registry: &Registry) -> Result<Vec<Version>> {
    let wanted = Tags::of(source)
        .map_err(|e| Error::Invalid(format!("parse semver constraint in source.semver_constraint: {e}")))?;
    let tags = registry.tags().await?;
    // What is known already need not be asked for again, if it is still as it was.
    let cursor = match (member(from, "tag"), member(from, "digest")) {
        (Some(tag), Some(digest)) if tags.iter().any(|t| t == tag) => {
            let same = registry.digest(tag).await?.as_deref() == Some(digest);
            same.then(|| wanted.read(tag)).flatten().map(|version| (version, tag.to_owned()))
        }
        _ => None,
    };
    let newer = |tag: &String| {
        let Some(version) = wanted.read(tag) else { return tag == wanted.bare() };
        cursor.as_ref().is_none_or(|(known, name)| name == tag || compare(known, &version).is_lt())
    };
    let found = digests(tags.into_iter().filter(newer).collect(), registry).await?;
    Ok(wanted.versions(&found))
}

/// One version for each digest: the final one rather than a pre-release, the more exact rather than the less.
fn chosen(
    found: &[(String, String)],
    read: impl Fn(&str) -> Option<Semver>,
    bare: &str,
    with_bare: bool,
) -> Vec<Version> {
    let mut best: HashMap<&str, (Semver, &str)> = HashMap::new();
    for (tag, digest) in found {
        let Some(version) = read(tag).filter(|_| tag != bare) else { continue };
        let better =
            best.get(digest.as_str()).is_none_or(|(known, _)| match (known.pre.is_empty(), version.pre.is_empty()) {
                (true, false) => false,
                (false, true) => true,
                _ => version.precision() > known.precision(),
            });
        if better {
            best.insert(digest, (version, tag));
        }
    }
    let last = found.iter().find(|(tag, digest)| tag == bare && with_bare && !best.contains_key(digest.as_str()));
    let mut ordered: Vec<_> = best.iter().map(|(digest, (version, tag))| (version, *tag, *digest)).collect();
    ordered.sort_by(|a, b| compare(a.0, b.0).then_with(|| a.1.cmp(b.1)));
    let versions = ordered.into_iter().map(|(_, tag, digest)| (tag, digest));
    let last = last.map(|(tag, digest)| (tag.as_str(), digest.as_str()));
    versions.chain(last).map(|(tag, digest)| version(Kind::Registry, tag, digest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(found: &[(&str, &str)], bare: &str, with_bare: bool) -> Vec<String> {
        let found: Vec<_> = found.iter().map(|(t, d)| ((*t).to_owned(), (*d).to_owned())).collect();
        let versions = chosen(&found, Semver::parse, bare, with_bare);
        versions.into_iter().map(|v| v.0["tag"].clone()).collect()
    }

    #[test]
    fn each_image_is_one_version_by_its_best_tag() {
        let found = [("1", "a"), ("1.2", "a"), ("1.2.3", "a"), ("1.2.2", "b"), ("1.2.3-rc.1", "a"), ("latest", "a")];
        assert_eq!(tags(&found, "latest", true), ["1.2.2", "1.2.3"]);
        assert_eq!(tags(&[("1.0.0", "a"), ("latest", "z")], "latest", true), ["1.0.0", "latest"]);
        assert_eq!(tags(&[("1.0.0", "a"), ("latest", "z")], "latest", false), ["1.0.0"]);
        assert_eq!(tags(&[("latest", "z")], "latest", true), ["latest"]);
        assert_eq!(tags(&[("1.10.0", "a"), ("1.9.0", "b")], "latest", true), ["1.9.0", "1.10.0"]);
    }

    #[test]
    fn variants_are_no_pre_releases() {
        let source = |pre_releases: bool, more: &[&str]| Source {
            pre_releases,
            pre_release_prefixes: more.iter().map(|p| (*p).to_owned()).collect(),
            ..Source::default()
        };
        let wanted = |source: &Source, text: &str| Tags::of(source).unwrap().read(text).is_some();
        assert!(wanted(&source(false, &[]), "1.2.3") && !wanted(&source(false, &[]), "1.2.3-rc.1"));
        let with = source(true, &[]);
        assert!(wanted(&with, "1.2.3-rc.1") && !wanted(&with, "1.2.3-alpine") && !wanted(&with, "1.2.3-rc.1-alpine"));
        assert!(wanted(&source(true, &["build"]), "1.2.3-build.3") && wanted(&source(true, &["build"]), "1-rc.1-x"));
    }
}
