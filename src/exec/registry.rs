//! Images through the engine's own store, where the runtime has one: `registry-image` and `docker-image` need no
//! container then.

use tokio::sync::mpsc;

use super::get::text;
use super::outcome::Stop;
use super::scope::Scope;
use super::script::{LogPump, make_volume};
use super::world::CachedFetch;
use crate::base::stream::Stream;
use crate::base::version::{MetadataField, Version};
use crate::plan::{GetPlan, Plan, TypeImage};
use crate::resource::{Request, Response};
use crate::runtime::{EngineImages, RegistryAuth};

/// Whether the engine serves this get.
pub fn serves(get: &GetPlan, scope: &Scope) -> bool {
    serves_type(&get.kind, &get.image, scope)
}

/// Whether the engine serves this type.
pub fn serves_type(kind: &str, image: &TypeImage, scope: &Scope) -> bool {
    image.get.is_none()
        && matches!(kind, "registry-image" | "docker-image")
        && scope.world.runtime().engine_images().is_some()
}

/// The digest that the tag has now, or nothing new.
pub async fn check(request: &Request, scope: &Scope) -> Result<Vec<Version>, Stop> {
    let runtime = scope.world.runtime();
    let digest = engine(&*runtime)?.digest(&reference(request, None)?, auth(request).as_ref()).await?;
    Ok(vec![Version::from([("digest", digest.as_str())])])
}

/// Pulls the version; its files go to a volume as well, for steps that want them as files.
pub async fn pull(plan: &Plan, request: &Request, scope: &Scope) -> Result<CachedFetch, Stop> {
    let runtime = scope.world.runtime();
    let images = engine(&*runtime)?;
    let version = request.version.clone().unwrap_or_default();
    let reference = reference(request, version.0.get("digest").map(String::as_str))?;
    let (sender, mut lines) = mpsc::channel(64);
    let auth = auth(request);
    let pulling = images.pull(&reference, auth.as_ref(), sender);
    tokio::pin!(pulling);
    let mut pump = LogPump::new(&plan.id, Some(Stream::Stderr), scope);
    let mut offset = 0;
    let image = loop {
        tokio::select! {
            Some(line) = lines.recv() => {
                let line = format!("{line}\n");
                pump.push(offset, line.as_bytes()).await?;
                offset += line.len() as u64;
            }
            image = &mut pulling => break image?,
            () = scope.stop.cancelled() => return Err(Stop::Aborted),
        }
    };
    pump.finish().await?;
    let note = super::get::resource_volume(&plan.id, "image", scope);
    let volume = make_volume(scope, &*runtime, note).await?;
    let field = |name: &str, value: &str| MetadataField { name: name.to_owned(), value: value.to_owned() };
    let metadata = vec![
        field("repository", text(&request.source, "repository").unwrap_or_default()),
        field("tag", text(&request.source, "tag").unwrap_or("latest")),
        field("digest", &image.digest),
    ];
    Ok(CachedFetch { volume, response: Response { version, metadata }, image: Some(image) })
}

fn engine(runtime: &dyn crate::runtime::Runtime) -> Result<&dyn EngineImages, Stop> {
    runtime.engine_images().ok_or_else(|| Stop::Error("this runtime has no image store".to_owned()))
}

/// `repository:tag`, or `repository@digest`.
fn reference(request: &Request, digest: Option<&str>) -> Result<String, Stop> {
    let repository = text(&request.source, "repository")
        .ok_or_else(|| Stop::Error("the image's source has no repository: add source.repository".to_owned()))?;
    let tag = match request.source.get("tag") {
        None | Some(serde_json::Value::Null) => "latest".to_owned(),
        Some(serde_json::Value::String(tag)) => tag.clone(),
        Some(other) => other.to_string(),
    };
    Ok(match digest {
        Some(digest) => format!("{repository}@{digest}"),
        None => format!("{repository}:{tag}"),
    })
}

fn auth(request: &Request) -> Option<RegistryAuth> {
    let username = text(&request.source, "username")?.to_owned();
    Some(RegistryAuth { username, password: text(&request.source, "password").unwrap_or_default().to_owned() })
}
