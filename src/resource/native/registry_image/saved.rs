//! Images that the operator has loaded from files: they answer for their tags and digests before any registry does. A
//! source that wants whichever tag is newest hears of the registry's others too, where that answers.

use std::collections::HashMap;

use super::check::{Tags, version};
use super::image::Description;
use super::semver::compare;
use super::source::{Kind, Source};
use crate::base::version::Version;
use crate::resource::registry::{Error, Repository, Result, manifest};
use crate::runtime::SavedImage;

/// `host/repository:tag` as two parts.
fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

/// The versions of a source among the saved images; nothing if none is of its repository.
pub fn versions(kind: Kind, source: &Source, saved: &[SavedImage]) -> Result<Vec<Version>> {
    let repository = Repository::parse(&source.repository)?.to_string();
    let of_repository: HashMap<&str, &str> = saved
        .iter()
        .filter(|image| image.whole)
        .filter_map(|image| {
            let (name, tag) = split(&image.name)?;
            (name == repository).then_some((tag, image.digest.as_str()))
        })
        .collect();
    let mut tags: Vec<(String, String)> =
        of_repository.iter().map(|(tag, digest)| ((*tag).to_owned(), (*digest).to_owned())).collect();
    tags.sort();
    if !source.tag.0.is_empty() {
        let found = tags.iter().filter(|(tag, _)| *tag == source.tag.0);
        return Ok(found.map(|(tag, digest)| version(kind, tag, digest)).collect());
    }
    if !source.tag_regex.is_empty() {
        let regex = regex::Regex::new(&source.tag_regex)
            .map_err(|e| Error::Invalid(format!("invalid regex pattern in source.tag_regex: {e}")))?;
        let found = tags.iter().filter(|(tag, _)| regex.is_match(tag));
        return Ok(found.map(|(tag, digest)| version(kind, tag, digest)).collect());
    }
    let wanted = Tags::of(source).map_err(Error::Invalid)?;
    let known: Vec<_> =
        tags.into_iter().filter(|(tag, _)| tag == wanted.bare() || wanted.read(tag).is_some()).collect();
    Ok(wanted.versions(&known))
}

/// What the registry has found beside what is saved, in order: of a tag that both have the saved image counts.
pub fn merged(source: &Source, from: Option<&Version>, saved: &[Version], found: Vec<Version>) -> Result<Vec<Version>> {
    let pair = |version: &Version| {
        let member = |name: &str| version.0.get(name).cloned().unwrap_or_default();
        (member("tag"), member("digest"))
    };
    let saved: Vec<_> = saved.iter().map(pair).collect();
    let mut found: Vec<_> = found.iter().map(pair).collect();
    for (tag, digest) in &mut found {
        if let Some((_, known)) = saved.iter().find(|(name, _)| name == tag) {
            digest.clone_from(known);
        }
    }
    let more: Vec<_> = saved.into_iter().filter(|(tag, _)| found.iter().all(|(name, _)| name != tag)).collect();
    if !source.tag_regex.is_empty() {
        return Ok(more.iter().chain(&found).map(|(tag, digest)| version(Kind::Registry, tag, digest)).collect());
    }
    let wanted = Tags::of(source).map_err(Error::Invalid)?;
    let cursor = from.and_then(|version| wanted.read(&pair(version).0));
    let is_news = |tag: &str| match (&cursor, wanted.read(tag)) {
        (Some(cursor), Some(version)) => compare(cursor, &version).is_le(),
        _ => true,
    };
    found.extend(more.into_iter().filter(|(tag, _)| is_news(tag)));
    Ok(wanted.versions(&found))
}

/// The saved image of a repository with this digest.
pub fn find(repository: &str, digest: &str, saved: &[SavedImage]) -> Option<SavedImage> {
    let repository = Repository::parse(repository).ok()?.to_string();
    let of = |image: &&SavedImage| {
        image.whole && image.digest == digest && split(&image.name).is_some_and(|(name, _)| name == repository)
    };
    saved.iter().find(of).cloned()
}

/// What its registry would have said of it.
pub fn description(saved: &SavedImage) -> Result<Description> {
    Ok(Description {
        manifest: manifest::read("manifest", saved.manifest.as_bytes())?,
        config: manifest::read("configuration", saved.config.as_bytes())?,
        config_text: saved.config.clone().into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn saved_images_answer_for_their_repository() {
        let image = |name: &str, digest: &str| SavedImage {
            name: name.into(),
            digest: digest.into(),
            whole: !digest.is_empty(),
            ..SavedImage::default()
        };
        let saved = [
            image("index.docker.io/library/busybox:latest", "a"),
            image("index.docker.io/library/busybox:1.36.1", "b"),
            image("index.docker.io/library/busybox:1.37.0", ""),
            image("127.0.0.1:5000/x:latest", "c"),
        ];
        let tags = |value: serde_json::Value| {
            let source = Source::read(Kind::Registry, value.as_object().unwrap()).unwrap();
            let versions = versions(Kind::Registry, &source, &saved).unwrap();
            versions.into_iter().map(|v| v.0["tag"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(tags(json!({"repository": "busybox", "tag": "latest"})), ["latest"]);
        assert_eq!(tags(json!({"repository": "busybox"})), ["1.36.1", "latest"]);
        assert_eq!(tags(json!({"repository": "busybox", "tag_regex": "^1"})), ["1.36.1"]);
        assert_eq!(tags(json!({"repository": "127.0.0.1:5000/x"})), ["latest"]);
        assert!(tags(json!({"repository": "alpine"})).is_empty());
        assert_eq!(find("docker.io/busybox", "b", &saved).unwrap().name, saved[1].name);
        assert!(find("alpine", "b", &saved).is_none());
    }

    #[test]
    fn newer_tags_of_the_registry_are_not_hidden() {
        let source = |value: serde_json::Value| Source::read(Kind::Registry, value.as_object().unwrap()).unwrap();
        let versions = |all: &[(&str, &str)]| -> Vec<Version> {
            all.iter().map(|(tag, digest)| version(Kind::Registry, tag, digest)).collect()
        };
        let saved = versions(&[("1.35.0", "a"), ("1.36.1", "b"), ("latest", "b")]);
        let found = versions(&[("1.36.0", "r"), ("1.36.1", "other"), ("1.37.0", "s")]);
        let newest = source(json!({"repository": "busybox"}));
        let from = version(Kind::Registry, "1.36.0", "r");
        let expected = versions(&[("1.36.0", "r"), ("1.36.1", "b"), ("1.37.0", "s")]);
        assert_eq!(merged(&newest, Some(&from), &saved, found.clone()).unwrap(), expected);
        assert_eq!(merged(&newest, None, &saved, found.clone()).unwrap().len(), 4);
        let regex = source(json!({"repository": "busybox", "tag_regex": "^1"}));
        let tags: Vec<_> = merged(&regex, None, &saved[..2], found).unwrap();
        assert_eq!(tags, versions(&[("1.35.0", "a"), ("1.36.0", "r"), ("1.36.1", "b"), ("1.37.0", "s")]));
    }
}
