//! The engine's own image store: digests from registries, pulls with progress, and images as files.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::models::{ContainerCreateBody, CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::archive;
use super::connection::Connection;
use super::naming::Naming;
use super::pulled::Pulled;
use crate::runtime::room::{Floor, Watermark};
use crate::runtime::{EngineImage, EngineImages, Error, RegistryAuth, Result, TarStream};

/// So often the engine's disk is looked at while it pulls.
const LOOK: Duration = Duration::from_millis(200);

/// The image store of one engine.
#[derive(Debug)]
pub struct Registry {
    connection: Arc<Connection>,
    naming: Naming,
    pulled: Arc<Pulled>,
    watermark: Watermark,
}

impl Registry {
    /// Over this connection. Pulls stop below the watermark of the engine's disk, if that is on this host.
    pub fn new(connection: Arc<Connection>, naming: Naming, pulled: Arc<Pulled>, watermark: Watermark) -> Self {
        Registry { connection, naming, pulled, watermark }
    }

    async fn floor(&self) -> Option<Floor> {
        let client = self.connection.client().await.ok().filter(|_| self.connection.is_local())?;
        let place = PathBuf::from(client.info().await.ok()?.docker_root_dir?);
        place.exists().then_some(Floor { place, watermark: self.watermark })
    }
}

#[async_trait]
impl EngineImages for Registry {
    async fn digest(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<String> {
        let client = self.connection.client().await?;
        let answer = client.inspect_registry_image(reference, credentials(reference, auth)).await;
        let answer = answer.map_err(|e| refused(&self.connection, &format!("resolve image {reference}"), &e))?;
        let digest = answer.descriptor.digest;
        digest.ok_or_else(|| Error::Failed(format!("the registry tells no digest of {reference}")))
    }

    async fn find(&self, reference: &str) -> Result<Option<EngineImage>> {
        Ok(self.pulled.inspect(reference).await?.map(|found| engine_image(reference, found)))
    }

    async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        progress: mpsc::Sender<String>,
    ) -> Result<EngineImage> {
        // A digest names one content for ever, so what is there need not be asked for.
        if reference.contains('@')
            && let Some(found) = self.pulled.inspect(reference).await?
        {
            return Ok(engine_image(reference, found));
        }
        let client = self.connection.long_client().await?;
        let options = CreateImageOptions { from_image: Some(reference.to_string()), ..Default::default() };
        let mut answers = Box::pin(client.create_image(Some(with_tag(options)), None, credentials(reference, auth)));
        let mut told = HashMap::new();
        let what = format!("pull image {reference}");
        let floor = self.floor().await;
        let before = floor.as_ref().and_then(Floor::free).unwrap_or_default();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                _ = looks.tick() => {
                    if let Some(floor) = &floor {
                        // Whoever no longer listens ends the pull, and the engine removes what it has of it.
                        let written = before.saturating_sub(floor.free().unwrap_or(before));
                        floor.admit(format_args!("pulling the image {reference}"), written)?;
                    }
                    continue;
                }
            };
            let Some(answer) = answer else { break };
            let info = answer.map_err(|e| refused(&self.connection, &what, &e))?;
            if let Some(line) = progress_line(&mut told, info) {
                // Nobody listens any more: the pull goes on for the sake of the store.
                let _ = progress.send(line).await;
            }
        }
        match self.pulled.inspect(reference).await? {
            Some(found) => {
                let image = engine_image(reference, found);
                self.pulled.mark(&image.id).await;
                Ok(image)
            }
            None => Err(Error::Failed(format!("image {reference} was pulled, and yet the Docker engine has it not"))),
        }
    }

    async fn holds(&self, id: &str) -> Result<bool> {
        self.pulled.holds(id).await
    }

    async fn size(&self, id: &str) -> Result<Option<u64>> {
        self.pulled.size(id).await
    }

    async fn collect(&self, used: &HashSet<String>, idle: Duration) -> Result<bool> {
        self.pulled.collect(used, idle).await
    }

    async fn export(&self, id: &str) -> Result<TarStream> {
        let client = self.connection.client().await?;
        let body = ContainerCreateBody {
            image: Some(id.to_string()),
            entrypoint: Some(vec!["never-started".to_string()]),
            labels: Some(self.naming.part_labels(archive::HELPER)),
            ..Default::default()
        };
        let made = client.create_container(None, body).await;
        let made = made.map_err(|e| self.connection.failure(&format!("export image {id}"), &e))?;
        let client = self.connection.long_client().await?;
        archive::export(self.connection.clone(), &client, made.id).await
    }
}

/// Registries' refusals come as all kinds of status; what they mean is that the step's configuration is wrong.
fn refused(connection: &Connection, what: &str, error: &bollard::errors::Error) -> Error {
    match connection.failure(what, error) {
        Error::Failed(text) | Error::Invalid(text) if is_refusal(&text) => Error::Invalid(text),
        Error::NotFound(text) => Error::Invalid(text),
        other => other,
    }
}

fn is_refusal(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["unauthorized", "denied", "not found", "manifest unknown", "invalid reference", "no basic auth"]
        .iter()
        .any(|sign| lower.contains(sign))
}

/// Without a tag the engine would pull every tag of the repository.
fn with_tag(mut options: CreateImageOptions) -> CreateImageOptions {
    if let Some(reference) = options.from_image.as_deref() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if !name.contains(':') && !name.contains('@') {
            options.tag = Some("latest".to_string());
        }
    }
    options
}

fn credentials(reference: &str, auth: Option<&RegistryAuth>) -> Option<DockerCredentials> {
    auth.map(|auth| DockerCredentials {
        username: Some(auth.username.clone()),
        password: Some(auth.password.clone()),
        serveraddress: Some(registry_of(reference).to_string()),
        ..Default::default()
    })
}

/// The registry a reference names, by Docker's rule for its first part.
fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

/// A line for the build's log when a layer reaches a new stage; the bars in between would only be noise there.
fn progress_line(told: &mut HashMap<String, String>, info: CreateImageInfo) -> Option<String> {
    let status = info.status?;
    let Some(id) = info.id else { return Some(status) };
    if told.insert(id.clone(), status.clone()).as_ref() == Some(&status) {
        return None;
    }
    Some(format!("{id}: {status}"))
}

fn engine_image(reference: &str, found: ImageInspect) -> EngineImage {
    let config = found.config.unwrap_or_default();
    let entrypoint = config.entrypoint.unwrap_or_default();
    let repository = reference.split('@').next().unwrap_or(reference);
    let digests = found.repo_digests.unwrap_or_default();
    let named = reference.split_once('@').map(|(_, digest)| digest.to_string());
    let of_repository = |full: &String| {
        let (name, digest) = full.split_once('@')?;
        (repository == name || repository.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
            .then(|| digest.to_string())
    };
    let any = || digests.first().and_then(|full| Some(full.split_once('@')?.1.to_string()));
    EngineImage {
        id: found.id.unwrap_or_default(),
        digest: named.or_else(|| digests.iter().find_map(of_repository)).or_else(any).unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.filter(|user| !user.is_empty()),
        files: Default::default(),
        command: entrypoint.into_iter().chain(config.cmd.unwrap_or_default()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ImageConfig;

    #[test]
    fn credentials_name_the_registry_of_the_reference() {
        let cases = [
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000"),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("library/busybox", "https://index.docker.io/v1/"),
            ("busybox", "https://index.docker.io/v1/"),
        ];
        for (reference, expected) in cases {
            assert_eq!(registry_of(reference), expected, "{reference}");
        }
    }

    #[test]
    fn only_one_tag_is_pulled() {
        let tag = |reference: &str| {
            with_tag(CreateImageOptions { from_image: Some(reference.to_string()), ..Default::default() }).tag
        };
        assert_eq!(tag("127.0.0.1:5000/a").as_deref(), Some("latest"));
        assert_eq!(tag("a:1"), None);
        assert_eq!(tag("a@sha256:00"), None);
    }

    #[test]
    fn progress_is_a_line_per_stage() {
        let mut told = HashMap::new();
        let mut line = |id: Option<&str>, status: &str| {
            let info =
                CreateImageInfo { id: id.map(str::to_string), status: Some(status.into()), ..Default::default() };
            progress_line(&mut told, info)
        };
        assert_eq!(line(Some("ab"), "Downloading").as_deref(), Some("ab: Downloading"));
        assert_eq!(line(Some("ab"), "Downloading"), None);
        assert_eq!(line(Some("ab"), "Pull complete").as_deref(), Some("ab: Pull complete"));
        assert_eq!(line(None, "Status: done").as_deref(), Some("Status: done"));
    }

    #[test]
    fn an_image_has_the_digest_of_the_repository_it_was_asked_by() {
        let found = ImageInspect {
            id: Some("sha256:id".into()),
            repo_digests: Some(vec!["other/a@sha256:1".into(), "host:5000/a@sha256:2".into()]),
            config: Some(ImageConfig {
                entrypoint: Some(vec!["/e".into()]),
                cmd: Some(vec!["c".into()]),
                user: Some(String::new()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let image = engine_image("host:5000/a:tag", found);
        assert_eq!((image.digest.as_str(), image.user), ("sha256:2", None));
        assert_eq!(image.command, ["/e", "c"]);
    }
}
