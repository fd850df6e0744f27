//! Manifests, indexes and configurations of images, as Docker and the OCI write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// An OCI index of several platforms.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// An OCI manifest of one platform.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What is asked for, the best first.
pub const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A reference to content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// How long it is.
    pub size: u64,
    /// `sha256:…`
    pub digest: String,
    /// For whom, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Elsewhere that it may be had from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether it is of several platforms.
    pub fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }
}

/// Whether a media type is an index's.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Operating system and processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `linux` …
    pub os: String,
    /// `v7`, `v8` …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Where steps run, unless a source says otherwise.
    pub fn here() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: String::new() }
    }

    /// Whether `self`, as asked for, may be served by `offered`.
    fn fits(&self, offered: &Platform) -> bool {
        let (architecture, variant) = self.architecture.split_once('/').unwrap_or((&self.architecture, &self.variant));
        self.os == offered.os
            && architecture == offered.architecture
            && (variant.is_empty() || offered.variant.is_empty() || variant == offered.variant)
    }
}

/// Images of one name for several platforms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The images.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The image for a platform.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|offered| platform.fits(offered));
        self.manifests.iter().find(fits).ok_or_else(|| {
            let offered: Vec<String> = self
                .manifests
                .iter()
                .filter_map(|d| d.platform.as_ref())
                .filter(|p| p.os != "unknown")
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            Error::Unusable(format!(
                "the image has no variant for {}/{}, only for {}: set source.platform to one of them",
                platform.os,
                platform.architecture,
                offered.join(", ")
            ))
        })
    }
}

/// The parts of one image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// How to run it.
    pub config: Descriptor,
    /// What it is made of, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An image's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// When it was made.
    pub created: Option<String>,
    /// How its processes run.
    pub config: Option<Run>,
    /// The digests of its layers, unpacked.
    pub rootfs: Layers,
}

/// `rootfs` of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// The lowest first.
    pub diff_ids: Vec<String>,
}

/// How processes of an image run. Docker writes `null` for what is not set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Run {
    /// `NAME=value`
    pub env: Option<Vec<String>>,
    /// Name or number.
    pub user: Option<String>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// What it is given, or what runs.
    pub cmd: Option<Vec<String>>,
    /// Notes.
    pub labels: Option<BTreeMap<String, String>>,
}

/// `sha256:…` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::base::version::digest(bytes))
}

/// Whether a digest has the one form that is used in file names here.
pub fn is_sha256(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)))
}

/// Reads one of the structures of this module.
pub fn read<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Unusable(format!("the image's {what} cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let entry = |os: &str, architecture: &str, variant: &str| Descriptor {
            digest: format!("{os}/{architecture}/{variant}"),
            platform: Some(Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() }),
            ..Descriptor::default()
        };
        let manifests = vec![
            entry("unknown", "unknown", ""),
            entry("linux", "arm", "v6"),
            entry("linux", "arm", "v7"),
            entry("linux", "amd64", ""),
        ];
        Index { manifests, ..Index::default() }
    }

    #[test]
    fn the_variant_for_a_platform_is_chosen() {
        let choose = |os: &str, architecture: &str| {
            let platform = Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() };
            index().choose(&platform).map(|d| d.digest.clone()).map_err(|e| e.to_string())
        };
        assert_eq!(choose("linux", "amd64").unwrap(), "linux/amd64/");
        assert_eq!(choose("linux", "arm/v7").unwrap(), "linux/arm/v7");
        assert_eq!(choose("linux", "arm").unwrap(), "linux/arm/v6");
        let error = choose("linux", "s390x").unwrap_err();
        assert!(
            error.contains("linux/s390x") && error.contains("linux/amd64") && !error.contains("unknown"),
            "{error}"
        );
    }

    #[test]
    fn digests_are_file_names() {
        assert!(is_sha256(&sha256(b"")));
        assert!(!is_sha256("sha256:../../x") && !is_sha256("sha512:00") && !is_sha256(&sha256(b"").to_uppercase()));
    }
}
