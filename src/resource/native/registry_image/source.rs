//! `source` and `params` of `registry-image`, and of `docker-image`, which means the same by other names.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ecr;
use crate::base::network;
use crate::base::secret::Secret;
use crate::resource::registry::client::{Notice, Opening};
use crate::resource::registry::{Access, Error, Mirror, Platform, Registries, Registry, Repository, Result};

/// Which of the two types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `registry-image`
    Registry,
    /// `docker-image`
    Docker,
}

impl Kind {
    /// The type of that name.
    pub fn find(name: &str) -> Option<Kind> {
        match name {
            "registry-image" => Some(Kind::Registry),
            "docker-image" => Some(Kind::Docker),
            _ => None,
        }
    }
}

/// A tag may be written as a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tag(pub String);

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Tag, D::Error> {
        Ok(Tag(match Value::deserialize(deserializer)? {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

/// What both types know.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Source {
    /// `host/name`
    pub repository: String,
    /// Plain HTTP will do.
    pub insecure: bool,
    /// Versions with `-rc.1` and the like count.
    pub pre_releases: bool,
    /// What else may stand after the dash.
    pub pre_release_prefixes: Vec<String>,
    /// Only tags that end so.
    pub variant: String,
    /// Only versions that meet it.
    pub semver_constraint: String,
    /// The one tag to look at.
    pub tag: Tag,
    /// Or those that match.
    pub tag_regex: String,
    /// By the time of making.
    pub created_at_sort: bool,
    /// Which annotations are metadata.
    pub annotation_regex: String,
    /// Which labels are.
    pub label_regex: String,
    /// Who.
    pub username: String,
    /// And how to prove it.
    pub password: Secret<String>,
    /// ECR.
    #[serde(flatten)]
    pub aws: Aws,
    /// Asked before Docker Hub.
    pub registry_mirror: Option<Mirror>,
    /// Signatures: only a put looks at it.
    pub content_trust: Option<Value>,
    /// Authorities, PEM.
    pub ca_certs: Vec<String>,
    /// For which machines.
    pub platform: Option<Wanted>,
    /// More text in the log.
    pub debug: bool,
    /// Hosts whose certificates are not looked at (`docker-image`).
    #[serde(skip)]
    pub unverified: bool,
}

/// For images in Amazon's registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Aws {
    /// Key.
    pub aws_access_key_id: String,
    /// Its secret.
    pub aws_secret_access_key: Secret<String>,
    /// Its session.
    pub aws_session_token: Secret<String>,
    /// Turns it on.
    pub aws_region: String,
    /// Means nothing any more.
    pub aws_ecr_registry_id: Value,
    /// A role to take first.
    pub aws_role_arn: String,
    /// Or several, one after the other.
    pub aws_role_arns: Vec<String>,
    /// Whose registry.
    pub aws_account_id: Tag,
}

/// A platform as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// `amd64` …
    pub architecture: String,
    /// `linux` …
    pub os: String,
}

/// `params` of a get.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GetParams {
    /// `rootfs`, `oci` or `oci-layout`.
    pub format: String,
    /// Instead of the source's.
    pub platform: Option<Wanted>,
    /// Only what is known of it.
    pub skip_download: bool,
    /// `docker-image`: the image as a file too.
    pub save: bool,
    /// `docker-image`: the root file system as a file too.
    pub rootfs: bool,
}

/// Members of `docker-image` that have another name or form here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Docker {
    repository: String,
    tag: Tag,
    username: String,
    password: Secret<String>,
    insecure_registries: Vec<String>,
    registry_mirror: String,
    ca_certs: Vec<DomainCertificate>,
    aws_access_key_id: String,
    aws_secret_access_key: Secret<String>,
    aws_session_token: Secret<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DomainCertificate {
    cert: String,
}

fn invalid(what: &str, error: &serde_json::Error) -> Error {
    Error::Invalid(format!("{what} cannot be used: {error}"))
}

impl Source {
    /// Reads what a pipeline says.
    pub fn read(kind: Kind, source: &Map<String, Value>) -> Result<Source> {
        let value = Value::Object(source.clone());
        if kind == Kind::Registry {
            // Flattened members take whatever is left, so what is unknown is looked for here.
            if let Some(key) = source.keys().find(|key| !KEYS.contains(&key.as_str())) {
                let near = KEYS.iter().min_by_key(|k| crate::base::distance::distance(k, key)).copied();
                let near = near.filter(|k| crate::base::distance::distance(k, key) <= 2);
                let hint = near.map(|k| format!("; did you mean {k}?")).unwrap_or_default();
                return Err(Error::Invalid(format!("invalid payload: unknown field \"{key}\" in source{hint}")));
            }
            return serde_json::from_value(value).map_err(|e| invalid("source", &e));
        }
        let docker: Docker = serde_json::from_value(value).map_err(|e| invalid("source", &e))?;
        let host = docker.registry_mirror;
        let tag = if docker.tag.0.is_empty() { Tag("latest".to_owned()) } else { docker.tag };
        let mut read = Source {
            repository: docker.repository,
            tag,
            username: docker.username,
            password: docker.password,
            ca_certs: docker.ca_certs.into_iter().map(|c| c.cert).collect(),
            registry_mirror: (!host.is_empty()).then(|| Mirror { host, ..Mirror::default() }),
            ..Source::default()
        };
        let host = Repository::parse(&read.repository)?.host;
        if docker.insecure_registries.iter().any(|named| named == &host || is_within(&host, named)) {
            (read.insecure, read.unverified) = (true, true);
        }
        // As the original, which asks for credentials whenever the host is Amazon's and none are given.
        if read.username.is_empty()
            && let Some((account, region)) = ecr::registry(&host)
        {
            read.aws.aws_access_key_id = docker.aws_access_key_id;
            read.aws.aws_secret_access_key = docker.aws_secret_access_key;
            read.aws.aws_session_token = docker.aws_session_token;
            (read.aws.aws_region, read.aws.aws_account_id) = (region.to_owned(), Tag(account.to_owned()));
            read.repository = read.repository.split_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default();
        }
        Ok(read)
    }

    /// The platform that is wanted; a step's word counts more.
    pub fn platform(&self, step: Option<&Wanted>) -> Platform {
        let here = Platform::here();
        let Some(wanted) = step.or(self.platform.as_ref()) else { return here };
        let or = |given: &str, usual: String| if given.is_empty() { usual } else { given.to_owned() };
        Platform {
            architecture: or(&wanted.architecture, here.architecture),
            os: or(&wanted.os, here.os),
            variant: String::new(),
        }
    }

    /// The mirror of this source: its own, or the operator's.
    pub fn mirror<'a>(&'a self, registries: &'a Registries) -> Option<&'a Mirror> {
        let own = self.registry_mirror.as_ref().filter(|m| !m.host.is_empty());
        own.or(registries.mirror.as_deref())
    }

    fn access(&self, username: &str, password: &Secret<String>) -> Access {
        let both = !username.is_empty() && !password.expose().is_empty();
        Access {
            credentials: both.then(|| (username.to_owned(), password.clone())),
            insecure: self.insecure,
            unverified: self.unverified,
            ca_certs: self.ca_certs.clone(),
        }
    }

    /// The registries that may have the image, the first to ask first: a mirror stands before Docker Hub only.
    pub fn places(&self, registries: &Registries) -> Result<Vec<Place>> {
        let repository = Repository::parse(&self.repository)?;
        let origin = Place {
            repository: repository.clone(),
            scheme: None,
            access: self.access(&self.username, &self.password),
            is_mirror: false,
        };
        if !repository.is_default() {
            return Ok(vec![origin]);
        }
        let mirror = self.mirror(registries).map(|mirror| {
            let mut access = self.access(&mirror.username, &mirror.password);
            access.ca_certs.extend(mirror.ca_certs.iter().cloned());
            Place {
                repository: repository.at(&mirror.host),
                scheme: mirror.host.split_once("://").map(|(scheme, _)| scheme.to_owned()),
                access,
                is_mirror: true,
            }
        });
        Ok(mirror.into_iter().chain([origin]).collect())
    }
}

/// Whether a host's address is in a network that is written as `10.0.0.0/8`.
fn is_within(host: &str, network: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    let (address, network) = (bare.parse::<IpAddr>(), network::read(network.trim()));
    matches!((address, network), (Ok(address), Some(network)) if network.contains(&address))
}

const KEYS: &[&str] = &[
    "repository",
    "insecure",
    "pre_releases",
    "pre_release_prefixes",
    "variant",
    "semver_constraint",
    "tag",
    "tag_regex",
    "created_at_sort",
    "annotation_regex",
    "label_regex",
    "username",
    "password",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_ecr_registry_id",
    "aws_role_arn",
    "aws_role_arns",
    "aws_account_id",
    "registry_mirror",
    "content_trust",
    "ca_certs",
    "platform",
    "debug",
];

/// One registry that may have the image.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where.
    pub repository: Repository,
    /// `http` or `https` where it is said.
    pub scheme: Option<String>,
    /// How.
    pub access: Access,
    /// Whether its failure is no failure yet.
    pub is_mirror: bool,
}

impl Place {
    /// Speaks to it.
    pub async fn open(
        &self,
        registries: &Registries,
        actions: &'static str,
        patience: Duration,
        notice: &Notice,
    ) -> Result<Registry> {
        let opening = Opening {
            outgoing: &registries.outgoing,
            access: self.access.clone(),
            actions,
            patience,
            notice: notice.clone(),
        };
        Registry::open(self.repository.clone(), self.scheme.as_deref(), opening).await
    }
}

impl GetParams {
    /// Reads what a step says.
    pub fn read(params: Option<&Map<String, Value>>) -> Result<GetParams> {
        let value = Value::Object(params.cloned().unwrap_or_default());
        let read: GetParams = serde_json::from_value(value).map_err(|e| invalid("params", &e))?;
        match read.format.as_str() {
            "" | "rootfs" | "oci" | "oci-layout" => Ok(read),
            other => Err(Error::Invalid(format!(
                "unknown format provided, must be one of 'rootfs', 'oci', 'oci-layout': {other}"
            ))),
        }
    }

    /// Whether the files of the image are wanted unpacked, and nothing else.
    pub fn is_rootfs(&self) -> bool {
        matches!(self.format.as_str(), "" | "rootfs") && !self.skip_download && !self.save && !self.rootfs
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: Kind, value: Value) -> Result<Source> {
        Source::read(kind, value.as_object().unwrap())
    }

    #[test]
    fn a_tag_may_be_a_number() {
        for (tag, expected) in [(json!(1.5), "1.5"), (json!(8), "8"), (json!("x"), "x"), (json!(null), "")] {
            assert_eq!(read(Kind::Registry, json!({"repository": "a", "tag": tag})).unwrap().tag.0, expected);
        }
        assert_eq!(read(Kind::Docker, json!({"repository": "a"})).unwrap().tag.0, "latest");
    }

    #[test]
    fn what_is_unknown_is_named() {
        let error = read(Kind::Registry, json!({"repository": "a", "tags": "x"})).unwrap_err().to_string();
        assert!(error.contains("\"tags\"") && error.contains("did you mean tag?"), "{error}");
        let params = json!({"format": "tar"});
        assert!(GetParams::read(params.as_object()).unwrap_err().to_string().contains("'oci-layout': tar"));
        assert!(GetParams::read(json!({"frmat": "oci"}).as_object()).is_err());
    }

    #[test]
    fn a_mirror_stands_before_docker_hub_only() {
        let own =
            json!({"repository": "a", "registry_mirror": {"host": "m.example", "username": "u", "password": "p"}});
        let flag = Mirror { host: "http://127.0.0.1:5".into(), ca_certs: vec!["PEM".into()], ..Mirror::default() };
        let registries = Registries { mirror: Some(flag.into()), ..Registries::default() };
        let places = |value| {
            let places = read(Kind::Registry, value).unwrap().places(&registries).unwrap();
            places.into_iter().map(|p| (p.repository.to_string(), p.scheme, p.is_mirror)).collect::<Vec<_>>()
        };
        let hub = ("index.docker.io/library/a".to_owned(), None, false);
        assert_eq!(places(own), [("m.example/library/a".to_owned(), None, true), hub.clone()]);
        let at_flag = ("127.0.0.1:5/library/a".to_owned(), Some("http".to_owned()), true);
        assert_eq!(places(json!({"repository": "a"})), [at_flag, hub]);
        assert_eq!(places(json!({"repository": "ghcr.io/a"})), [("ghcr.io/a".to_owned(), None, false)]);
        let source = read(Kind::Registry, json!({"repository": "a"})).unwrap();
        let trusted: Vec<_> =
            source.places(&registries).unwrap().into_iter().map(|p| p.access.ca_certs.len()).collect();
        assert_eq!(trusted, [1, 0], "its authority is trusted for the mirror only");
    }

    #[test]
    fn docker_image_has_names_of_its_own() {
        let source = json!({
            "repository": "127.0.0.1:5000/a", "insecure_registries": ["127.0.0.0/8"], "registry_mirror": "https://m",
            "ca_certs": [{"domain": "x", "cert": "PEM"}], "email": "ignored",
        });
        let read = read(Kind::Docker, source).unwrap();
        assert!(read.insecure && read.unverified);
        assert_eq!(read.ca_certs, ["PEM"]);
        let ecr = json!({"repository": "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/app"});
        let read = self::read(Kind::Docker, ecr).unwrap();
        assert_eq!((read.aws.aws_region.as_str(), read.repository.as_str()), ("cn-north-1", "team/app"));
    }
}
