//! One image as its registry describes it, and what a get writes beside its files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::check::of_platform;
use super::source::{Kind, Source};
use crate::base::version::{MetadataField, Version};
use crate::resource::registry::manifest::{self, Config, Descriptor, Manifest, Platform};
use crate::resource::registry::{Error, Registry, Result};

/// An image's description: all but its layers.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Its parts.
    pub manifest: Manifest,
    /// How to run it.
    pub config: Config,
    /// The same as it is written.
    pub config_text: Vec<u8>,
}

impl Description {
    /// Asks for the image behind a digest.
    pub async fn fetch(registry: &Arc<Registry>, digest: &str, platform: &Platform) -> Result<Description> {
        let (manifest, _) = of_platform(registry, digest, platform).await?;
        let config_text = registry.small_blob(&manifest.config).await?;
        let config = manifest::read("configuration", &config_text)?;
        Ok(Description { manifest, config, config_text })
    }

    /// Its layers, the lowest first, each with the digest of what it unpacks to.
    pub fn layers(&self) -> Result<Vec<(Descriptor, String)>> {
        let (packed, unpacked) = (&self.manifest.layers, &self.config.rootfs.diff_ids);
        if packed.len() != unpacked.len() {
            return Err(Error::Unusable(format!(
                "this is no image that can be unpacked: its manifest names {} layers and its configuration {}",
                packed.len(),
                unpacked.len()
            )));
        }
        let unknown = unpacked.iter().chain(packed.iter().map(|d| &d.digest)).find(|d| !manifest::is_sha256(d));
        if let Some(digest) = unknown {
            return Err(Error::Unusable(format!("the image's layer has the digest {digest:?}: only sha256 is known")));
        }
        Ok(packed.iter().cloned().zip(unpacked.iter().cloned()).collect())
    }

    /// `NAME=value`
    pub fn env(&self) -> Vec<String> {
        self.config.config.as_ref().and_then(|run| run.env.clone()).unwrap_or_default()
    }

    /// Its user, if it names one.
    pub fn user(&self) -> Option<String> {
        self.config.config.as_ref().and_then(|run| run.user.clone()).filter(|user| !user.is_empty())
    }

    /// Its entry point and command.
    pub fn command(&self) -> Vec<String> {
        let run = self.config.config.clone().unwrap_or_default();
        run.entrypoint.into_iter().chain(run.cmd).flatten().collect()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.config.config.as_ref().and_then(|run| run.labels.clone()).unwrap_or_default()
    }

    /// What lies beside `rootfs/`.
    pub fn files(&self, kind: Kind, source: &Source, version: &Version) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut add = |name: &str, text: String| files.push((name.to_owned(), text.into_bytes()));
        let run = self.config.config.clone().unwrap_or_default();
        match kind {
            Kind::Registry => {
                let metadata = json!({
                    "cmd": run.cmd, "entrypoint": run.entrypoint, "env": run.env, "user": run.user.unwrap_or_default(),
                });
                add("metadata.json", format!("{metadata}\n"));
                add("labels.json", format!("{}\n", json!(self.labels())));
            }
            Kind::Docker => {
                let user = self.user().unwrap_or_else(|| "root".to_owned());
                add("metadata.json", format!("{}\n", json!({"user": user, "env": self.env()})));
                add("image-id", format!("{}\n", self.manifest.config.digest));
                add("docker_inspect.json", format!("{:#}\n", self.inspected(source, version)));
            }
        }
        files.extend(names(kind, source, version));
        files
    }

    /// What `docker inspect` would say, as far as it does not depend on an engine.
    fn inspected(&self, source: &Source, version: &Version) -> Value {
        let config: Value = serde_json::from_slice(&self.config_text).unwrap_or_default();
        let digest = version.0.get("digest").cloned().unwrap_or_default();
        json!([{
            "Id": self.manifest.config.digest,
            "RepoTags": [],
            "RepoDigests": [format!("{}@{digest}", source.repository)],
            "Created": config["created"],
            "Architecture": config["architecture"],
            "Os": config["os"],
            "Config": config["config"],
            "RootFS": {"Type": "layers", "Layers": self.config.rootfs.diff_ids},
        }])
    }

    /// What the step tells about the version.
    pub fn metadata(&self, kind: Kind, source: &Source, version: &Version) -> Result<Vec<MetadataField>> {
        let mut fields = basics(kind, source, version);
        if kind == Kind::Docker {
            fields.push(field("image", self.manifest.config.digest.chars().take(12).collect()));
        }
        let annotations = self.manifest.annotations.clone().unwrap_or_default();
        let filters = [
            ("label_regex", &source.label_regex, self.labels()),
            ("annotation_regex", &source.annotation_regex, annotations),
        ];
        for (name, pattern, values) in filters {
            if !pattern.is_empty() {
                let regex =
                    regex::Regex::new(pattern).map_err(|e| Error::Invalid(format!("invalid source.{name}: {e}")))?;
                fields.extend(values.into_iter().filter(|(k, _)| regex.is_match(k)).map(|(k, v)| field(&k, v)));
            }
        }
        Ok(fields)
    }
}

fn field(name: &str, value: String) -> MetadataField {
    MetadataField { name: name.to_owned(), value }
}

/// What is known without a look at the image.
pub fn basics(kind: Kind, source: &Source, version: &Version) -> Vec<MetadataField> {
    vec![field("repository", source.repository.clone()), field("tag", tag(kind, source, version))]
}

fn tag(kind: Kind, source: &Source, version: &Version) -> String {
    match kind {
        Kind::Registry => version.0.get("tag").cloned().unwrap_or_default(),
        Kind::Docker => source.tag.0.clone(),
    }
}

/// The files that only say which version it is.
pub fn names(kind: Kind, source: &Source, version: &Version) -> Vec<(String, Vec<u8>)> {
    let end = if kind == Kind::Docker { "\n" } else { "" };
    let digest = version.0.get("digest").cloned().unwrap_or_default();
    [("repository", source.repository.clone()), ("tag", tag(kind, source, version)), ("digest", digest)]
        .map(|(name, text)| (name.to_owned(), format!("{text}{end}").into_bytes()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let config = json!({"config": {"Env": ["A=b"], "User": "", "Entrypoint": null, "Cmd": ["sh"], "Labels":
            {"org.x": "1", "y": "2"}}, "rootfs": {"diff_ids": ["sha256:00"]}});
        let config_text = config.to_string().into_bytes();
        Description { config: serde_json::from_value(config).unwrap(), config_text, ..Description::default() }
    }

    fn source(value: Value) -> Source {
        Source::read(Kind::Registry, value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn files_are_those_of_the_original() {
        let version = Version::from([("tag", "1"), ("digest", "sha256:ab")]);
        let files = description().files(Kind::Registry, &source(json!({"repository": "a"})), &version);
        let text = |name: &str| {
            String::from_utf8(files.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1.clone())
                .unwrap()
        };
        assert_eq!(text("metadata.json"), "{\"cmd\":[\"sh\"],\"entrypoint\":null,\"env\":[\"A=b\"],\"user\":\"\"}\n");
        assert_eq!(text("labels.json"), "{\"org.x\":\"1\",\"y\":\"2\"}\n");
        assert_eq!((text("tag"), text("digest"), text("repository")), ("1".into(), "sha256:ab".into(), "a".into()));
    }

    #[test]
    fn labels_are_metadata_where_they_are_asked_for() {
        let version = Version::from([("tag", "1"), ("digest", "sha256:ab")]);
        let fields = |value| {
            let fields = description().metadata(Kind::Registry, &source(value), &version).unwrap();
            fields.into_iter().map(|f| f.name).collect::<Vec<_>>()
        };
        assert_eq!(fields(json!({"repository": "a"})), ["repository", "tag"]);
        assert_eq!(fields(json!({"repository": "a", "label_regex": "^org"})), ["repository", "tag", "org.x"]);
    }

    #[test]
    fn layers_must_be_named_twice() {
        assert!(description().layers().unwrap_err().to_string().contains("0 layers"));
    }
}
