//! The root file system of a step: from a task's image, from a custom type's, from a bundle.

use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::artifact::Artifact;
use super::outcome::Stop;
use super::scope::Scope;
use super::script::Scripts;
use crate::event::{Event, Origin};
use crate::pipeline::ImageResource;
use crate::plan::{Action, Plan, PlanId, TaskPlan, TypeImage};
use crate::resource::base_type::BaseType;
use crate::resource::native;
use crate::runtime::{self, Image, VolumeHandle};

/// A root file system with what its image says about processes.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// The files.
    pub image: Image,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Its user.
    pub user: Option<String>,
    /// Its entry point and command.
    pub command: Vec<String>,
    /// What tells it from other versions of the image, for cache keys.
    pub identity: String,
}

/// `metadata.json` beside `rootfs/`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    env: Option<Vec<String>>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    host_rootfs: bool,
}

/// Where the scripts of a type come from; fetches its image where it has one.
pub async fn of_type(plan: &PlanId, image: &TypeImage, scope: &Scope) -> Result<(Scripts, String), Stop> {
    if let Some(get) = &image.get {
        let artifact = fetch(plan, image.check.as_deref(), get, scope).await?;
        let rootfs = of_artifact(&artifact, scope).await?;
        let kind = format!("{}:{}", image.base_type, rootfs.identity);
        return Ok((Scripts::Image { rootfs, privileged: image.privileged }, kind));
    }
    let kind = &image.base_type;
    if let Some(bundle) = scope.world.bundle(kind).await? {
        let identity = format!("{kind}:{}", bundle.version);
        let rootfs = Rootfs {
            image: Image::Directory(bundle.rootfs),
            env: Vec::new(),
            user: None,
            command: Vec::new(),
            identity: identity.clone(),
        };
        return Ok((Scripts::Image { rootfs, privileged: bundle.privileged }, identity));
    }
    if let Some(native) = scope.world.native(kind) {
        return Ok((Scripts::Native(native), kind.clone()));
    }
    let known = scope.world.base_type(kind).ok_or_else(|| {
        Stop::Error(format!(
            "create resource config: base resource type not found: {kind} (declare it under resource_types with its \
             image, or start the server with --base-resource-type {kind}=IMAGE, or with --resource-types DIR, the \
             folder of a worker's types)"
        ))
    })?;
    undeclared(plan, kind, &known, scope).await
}

/// A type that every Concourse worker brings along: as if the pipeline had declared it with its usual image.
async fn undeclared(plan: &PlanId, kind: &str, known: &BaseType, scope: &Scope) -> Result<(Scripts, String), Stop> {
    let image = ImageResource {
        name: kind.to_owned(),
        kind: "registry-image".to_owned(),
        source: Some(known.source()),
        ..ImageResource::default()
    };
    let (check, get, _) = crate::plan::fetch_image(plan, &image, &[], None, false);
    let artifact = match Box::pin(fetch(plan, check.as_deref(), &get, scope)).await {
        Err(Stop::Error(text)) => {
            let program = native::find(kind).and_then(|native| native.program()).map_or(String::new(), |program| {
                format!("the server does {kind} itself only where it finds {program} and may make containers; ")
            });
            return Err(Stop::Error(format!(
                "resource type {kind}: its image {} cannot be fetched: {text} ({program}nobody has declared {kind} \
                 under resource_types; another image can be named with --base-resource-type {kind}=IMAGE, and one from \
                 a file loaded with `whistlestop image preload`)",
                known.image
            )));
        }
        other => other?,
    };
    let rootfs = of_artifact(&artifact, scope).await?;
    let identity = format!("{kind}:{}", rootfs.identity);
    Ok((Scripts::Image { rootfs, privileged: known.privileged }, identity))
}

/// Runs the plans that find and fetch an image for `plan`, telling of them in its log.
pub async fn fetch(plan: &PlanId, check: Option<&Plan>, get: &Plan, scope: &Scope) -> Result<Artifact, Stop> {
    let origin = Origin::step(&plan.0);
    // Nested steps must not hand their artifacts to the build.
    let inner = scope.nested();
    if let Some(check) = check {
        scope.world.emit(&origin, Event::ImageCheck(crate::plan::shown(check))).await?;
    }
    scope.world.emit(&origin, Event::ImageGet(crate::plan::shown(get))).await?;
    if let Some(check) = check {
        run(check, "check", &inner).await?;
    }
    run(get, "fetching", &inner).await?;
    let name = match &get.action {
        Action::Get(get) => get.name.clone(),
        _ => "image".to_owned(),
    };
    inner.artifacts.get(&name).ok_or_else(|| Stop::Error(format!("image {name} was fetched without files")))
}

/// One of them. Where it fails that is an error of the step that needs the image, and says why.
async fn run(plan: &Plan, what: &str, scope: &Scope) -> Result<(), Stop> {
    match super::run(plan, scope).await {
        super::Outcome::Succeeded => Ok(()),
        super::Outcome::Aborted => Err(Stop::Aborted),
        super::Outcome::Errored(text) => Err(Stop::Error(text)),
        super::Outcome::TimedOut => Err(Stop::TimedOut),
        super::Outcome::Failed => {
            let why = scope.world.result(&plan.id).await?.and_then(|result| result.why);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Err(Stop::Error(format!("image {what} failed{why}")))
        }
    }
}

/// The root file system that an artifact is.
pub async fn of_artifact(artifact: &Artifact, scope: &Scope) -> Result<Rootfs, Stop> {
    if let Some(image) = &artifact.image {
        return Ok(Rootfs {
            image: Image::Engine(image.id.clone()),
            env: image.env.clone(),
            user: image.user.clone(),
            command: image.command.clone(),
            identity: image.id.clone(),
        });
    }
    let text = match read_file(scope, &artifact.volume, "metadata.json").await {
        Ok(text) => text,
        Err(runtime::Error::NotFound(_)) => {
            return Err(Stop::Error("the image has no metadata.json: is it in rootfs format?".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let metadata: Metadata = serde_json::from_slice(&text)
        .map_err(|e| Stop::Error(format!("the image's metadata.json cannot be read: {e}")))?;
    let volume = artifact.volume.clone();
    let image = if metadata.host_rootfs && scope.world.allow_host_rootfs() {
        Image::HostWithScripts(volume)
    } else {
        Image::Volume { volume, path: String::new() }
    };
    let command = metadata.entrypoint.into_iter().chain(metadata.cmd).flatten().collect();
    let (env, user) = (metadata.env.unwrap_or_default(), metadata.user.filter(|user| !user.is_empty()));
    Ok(Rootfs { image, env, user, command, identity: artifact.volume.0.clone() })
}

/// The root file system of a task: the step's `image` wins over the configuration.
pub async fn of_task(
    plan: &PlanId,
    task: &TaskPlan,
    image_resource: Option<&ImageResource>,
    rootfs_uri: &str,
    scope: &Scope,
) -> Result<Rootfs, Stop> {
    if let Some(name) = &task.image {
        let artifact = scope.artifacts.get(name).ok_or_else(|| {
            Stop::Error(format!(
                "missing image artifact source: {name}\n\nmake sure there's a corresponding 'get' step, or a task that \
                 produces it as an output"
            ))
        })?;
        return of_artifact(&artifact, scope).await;
    }
    if let Some(image) = image_resource {
        // Its variables are filled in by the check and the get themselves.
        let (check, get, _) =
            crate::plan::fetch_image(plan, image, &task.resource_types, None, task.check_skip_interval);
        let artifact = fetch(plan, check.as_deref(), &get, scope).await?;
        return of_artifact(&artifact, scope).await;
    }
    let host =
        Rootfs { image: Image::Host, env: Vec::new(), user: None, command: Vec::new(), identity: "host".to_owned() };
    match rootfs_uri {
        "" => {
            // As in Concourse, which finds out on the worker.
            scope.world.emit(&Origin::step(&plan.0), Event::SelectedWorker(scope.world.worker())).await?;
            Err(Stop::Error(
                "no image specified for task: set \"image\" on the task step or \"image_resource\" in the task config; \
                 the image must be in rootfs format"
                    .to_owned(),
            ))
        }
        "host:///" if scope.world.allow_host_rootfs() => Ok(host),
        "host:///" => Err(Stop::Error(
            "rootfs_uri host:/// is not allowed here: the operator must start the server with --allow-host-rootfs"
                .to_owned(),
        )),
        other => Err(Stop::Error(format!(
            "rootfs_uri {other:?} is not known here: use image_resource, or host:/// where the operator allows it"
        ))),
    }
}

/// The bytes of `artifact/path`, with Concourse's words where it is not there.
pub async fn artifact_file(path: &str, scope: &Scope) -> Result<Vec<u8>, Stop> {
    let Some((name, file)) = path.split_once('/') else {
        let text = format!("config path '{path}' does not specify where the file lives: write artifact/path");
        return Err(Stop::Error(text));
    };
    let artifact = scope
        .artifacts
        .get(name)
        .ok_or_else(|| Stop::Error(format!("unknown artifact source: '{name}' in file path '{file}'")))?;
    // What describes an image that the engine pulled is known before its files are.
    if let Some(text) = artifact.image.as_ref().and_then(|image| image.files.get(file)) {
        return Ok(text.clone().into_bytes());
    }
    let volume = super::registry::volume(&artifact, scope).await?;
    match read_file(scope, &volume, file).await {
        Err(runtime::Error::NotFound(_)) => {
            Err(Stop::Error(format!("file '{file}' not found within artifact '{name}'")))
        }
        read => Ok(read?),
    }
}

/// The bytes of one file of a volume, at most 16 MiB.
pub async fn read_file(scope: &Scope, volume: &VolumeHandle, path: &str) -> Result<Vec<u8>, runtime::Error> {
    const MOST: u64 = 16 << 20;
    let failed = |e: std::io::Error| runtime::Error::Failed(format!("reading {path}: {e}"));
    let stream = scope.world.runtime().stream_out(volume, path).await?;
    let mut tar = Vec::new();
    stream.take(MOST + 1).read_to_end(&mut tar).await.map_err(failed)?;
    if tar.len() as u64 > MOST {
        return Err(runtime::Error::Failed(format!(
            "{path} is larger than 16 MiB, too large to be read by the server"
        )));
    }
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entries = archive.entries().map_err(failed)?;
    let missing = || runtime::Error::NotFound(format!("no file {path}"));
    let mut entry = entries.next().ok_or_else(missing)?.map_err(failed)?;
    if !entry.header().entry_type().is_file() {
        return Err(missing());
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut bytes).map_err(failed)?;
    Ok(bytes)
}
