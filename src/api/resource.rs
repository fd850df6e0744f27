//! Resources: lists, checks and pins.

use axum::http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::show::build::BuildJson;
use super::show::resource::{LastCheck, ResourceJson};
use crate::base::id::{PipelineId, ResourceId};
use crate::base::version::Version;
use crate::front::{Answer, App, Call, Failure, Permit, empty, json, json_of};
use crate::pipeline::{Config, ResourceType};
use crate::plan::{Plan, Planner, shown};
use crate::store::create::CheckBuild;
use crate::store::resource::{Pinned, Resource};
use crate::store::show::resource::ResourceView;

/// `ListAllResources`, in the order they were made.
pub async fn list_all(permit: Permit, call: Call) -> Answer {
    let views = call.app.store.read(move |tx| {
        let mut views = Vec::new();
        for pipeline in tx.pipelines()? {
            if permit.sees(pipeline.team_id, pipeline.public) {
                views.extend(tx.resource_views(&pipeline)?);
            }
        }
        views.sort_by_key(|v| v.resource.id);
        Ok(views)
    });
    show(&views.await?)
}

/// `ListResources`, by name.
pub async fn list(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let views = call.app.store.read(move |tx| match tx.pipeline(id)? {
        Some(pipeline) => tx.resource_views(&pipeline),
        None => Ok(Vec::new()),
    });
    show(&views.await?)
}

fn show(views: &[ResourceView]) -> Answer {
    let checks: Vec<_> = views.iter().map(LastCheck::of).collect();
    let shown = views.iter().zip(&checks).map(|(v, c)| ResourceJson::new(v, c.as_ref()));
    json(StatusCode::OK, &shown.collect::<Vec<_>>())
}

/// `GetResource`: with `why`, the reason why it is not checked now.
pub async fn get(permit: Permit, call: Call) -> Answer {
    let (id, name) = (permit.pipeline()?.id, call.param("resource_name").to_owned());
    let (intervals, now, asked) = (call.app.settings.intervals, call.app.clock.now(), call.query.has("why"));
    let found = call.app.store.read(move |tx| {
        let Some(view) = tx.resource_view(id, &name)? else { return Ok(None) };
        let why = if asked { tx.why_resource(&view.resource, &intervals, now)? } else { None };
        Ok(Some((view, why)))
    });
    let (view, why) = found.await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &ResourceJson::new(&view, LastCheck::of(&view).as_ref()).because(why))
}

/// `ListResourceTypes`
pub async fn types(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let config = call.app.store.read(move |tx| tx.pipeline_config(id)).await?;
    let types: Vec<ResourceType> = config.map(|c| c.resource_types).unwrap_or_default();
    json(StatusCode::OK, &types)
}

/// The resource in the path.
pub(super) async fn find(permit: &Permit, call: &Call) -> Result<Resource, Failure> {
    let (id, name) = (permit.pipeline()?.id, call.param("resource_name").to_owned());
    call.app.store.read(move |tx| tx.find_resource(id, &name)).await?.ok_or_else(Failure::not_found)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Check {
    /// The version to go on from, instead of the newest known.
    from: Option<Version>,
    /// Whether the types it builds on are left alone unless they are due.
    shallow: bool,
}

/// `CheckResource`: a check that is a build of its own, to be watched.
pub async fn check(permit: Permit, call: Call) -> Answer {
    let resource = find(&permit, &call).await?;
    let (app, by) = (call.app.clone(), permit.user().to_owned());
    let Check { from, shallow } = call.lenient_json().await?;
    let from = from.filter(|v| !v.0.is_empty());
    let id = resource.id;
    let plan = move |config: &Config| Some(planner(config).check(&resource.config, from, true, shallow));
    start_check(&app, permit.pipeline()?.id, Some(id), Some(by), plan).await
}

/// `CheckResourceType`: the same for the image of a type.
pub async fn check_type(permit: Permit, call: Call) -> Answer {
    let name = call.param("resource_type_name").to_owned();
    check_image(permit, call, move |config| config.resource_type(&name).cloned()).await
}

/// `CheckPrototype`: and for the image of a prototype.
pub async fn check_prototype(permit: Permit, call: Call) -> Answer {
    let name = call.param("prototype_name").to_owned();
    check_image(permit, call, move |config| config.prototype(&name).cloned()).await
}

async fn check_image(
    permit: Permit,
    call: Call,
    find: impl FnOnce(&Config) -> Option<ResourceType> + Send + 'static,
) -> Answer {
    let (app, by) = (call.app.clone(), permit.user().to_owned());
    let Check { from, shallow } = call.lenient_json().await?;
    let from = from.filter(|v| !v.0.is_empty());
    let plan = move |config: &Config| Some(planner(config).check_type(&find(config)?, from, shallow));
    start_check(&app, permit.pipeline()?.id, None, Some(by), plan).await
}

/// Plans what a pipeline is asked to check by hand.
pub(super) fn planner(config: &Config) -> Planner<'_> {
    Planner::new(config, std::collections::BTreeMap::new(), true)
}

/// A check as a build of its own; its answer is that build.
pub(super) async fn start_check(
    app: &App,
    pipeline: PipelineId,
    resource: Option<ResourceId>,
    by: Option<String>,
    plan: impl FnOnce(&Config) -> Option<Plan> + Send + 'static,
) -> Answer {
    let (now, waits) = (app.clock.now(), app.hold.why().is_some());
    let build = app.store.write(move |tx| {
        let Some(plan) = tx.pipeline_config(pipeline)?.as_ref().and_then(plan) else { return Ok(None) };
        let (plan, public_plan) = (serde_json::to_string(&plan)?, shown(&plan).to_string());
        let check =
            CheckBuild { pipeline, resource, by: by.as_deref(), plan: &plan, public_plan: &public_plan, now, waits };
        let id = tx.create_check_build(&check)?;
        tx.build(id)
    });
    let build = build.await?.ok_or_else(Failure::not_found)?;
    app.wakes.check.ring();
    app.wakes.track.ring();
    let mut response = json(StatusCode::CREATED, &BuildJson::new(&build, false))?;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// `UnpinResource`
pub async fn unpin(permit: Permit, call: Call) -> Answer {
    let resource = find(&permit, &call).await?;
    let done = call.app.store.write(move |tx| tx.unpin(resource.id)).await?;
    call.app.wakes.schedule.ring();
    pinned(done)
}

/// What pinning or unpinning answers.
pub(super) fn pinned(done: Pinned) -> Answer {
    match done {
        Pinned::Done => empty(StatusCode::OK),
        Pinned::NotFound => Err(Failure::not_found()),
        Pinned::Not => {
            let text = "the resource is not pinned: there is nothing to undo";
            Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
        Pinned::InConfig => {
            let text = "the configuration pins this resource; change its version there";
            Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Comment {
    pin_comment: String,
}

/// `SetPinCommentOnResource`
pub async fn comment(permit: Permit, call: Call) -> Answer {
    let (resource, store) = (find(&permit, &call).await?, call.app.store.clone());
    let Comment { pin_comment } = call.lenient_json().await?;
    store.write(move |tx| tx.set_pin_comment(resource.id, &pin_comment)).await?;
    empty(StatusCode::OK)
}

#[derive(Serialize)]
struct Removed {
    versions_removed: usize,
}

/// `ClearResourceVersions`
pub async fn clear_versions(permit: Permit, call: Call) -> Answer {
    let resource = find(&permit, &call).await?;
    let Some(scope) = resource.scope_id else { return json(StatusCode::OK, &Removed { versions_removed: 0 }) };
    let versions_removed = call.app.store.write(move |tx| tx.clear_versions(scope)).await?;
    call.app.wakes.check.ring();
    call.app.wakes.schedule.ring();
    json(StatusCode::OK, &Removed { versions_removed })
}

#[derive(Serialize)]
struct Shared {
    resources: Option<Vec<Place>>,
    resource_types: Option<Vec<Place>>,
}

#[derive(Serialize)]
struct Place {
    name: String,
    pipeline_name: String,
    team_name: String,
}

impl Place {
    fn here(permit: &Permit, name: String) -> Result<Place, Failure> {
        let (pipeline_name, team_name) = (permit.pipeline()?.name.clone(), permit.team_name()?.to_owned());
        Ok(Place { name, pipeline_name, team_name })
    }
}

/// `ListSharedForResource`: which resources have the same history; without global resources, only itself.
pub async fn shared(permit: Permit, call: Call) -> Answer {
    let resource = find(&permit, &call).await?;
    let place = Place::here(&permit, resource.name)?;
    json(StatusCode::OK, &Shared { resources: Some(vec![place]), resource_types: None })
}

/// The name of the resource type in the path, which the pipeline must have.
async fn find_type(permit: &Permit, call: &Call) -> Result<String, Failure> {
    let (id, name) = (permit.pipeline()?.id, call.param("resource_type_name").to_owned());
    let config = call.app.store.read(move |tx| tx.pipeline_config(id)).await?;
    let found = config.is_some_and(|c| c.resource_type(&name).is_some());
    if found { Ok(call.param("resource_type_name").to_owned()) } else { Err(Failure::not_found()) }
}

/// `ListSharedForResourceType`: which resource types have the same history: those of the team with the same source.
pub async fn shared_type(permit: Permit, call: Call) -> Answer {
    let name = find_type(&permit, &call).await?;
    let (id, of) = (permit.pipeline()?.id, name.clone());
    let others = call.app.store.read(move |tx| match tx.type_scope(id, &of)? {
        Some(scope) => tx.types_of_scope(scope),
        None => Ok(Vec::new()),
    });
    let others = others.await?;
    let team_name = permit.team_name()?;
    let mut places: Vec<Place> = others
        .into_iter()
        .map(|(pipeline_name, name)| Place { name, pipeline_name, team_name: team_name.to_owned() })
        .collect();
    if places.is_empty() {
        places.push(Place::here(&permit, name)?);
    }
    json(StatusCode::OK, &Shared { resources: None, resource_types: Some(places) })
}

/// `ClearResourceTypeVersions`
pub async fn clear_type_versions(permit: Permit, call: Call) -> Answer {
    let (id, name) = (permit.pipeline()?.id, find_type(&permit, &call).await?);
    let removed = call.app.store.write(move |tx| match tx.type_scope(id, &name)? {
        Some(scope) => tx.clear_versions(scope),
        None => Ok(0),
    });
    let versions_removed = removed.await?;
    call.app.wakes.check.ring();
    json(StatusCode::OK, &Removed { versions_removed })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cleared {
    version: Option<Version>,
}

/// `ClearResourceCache`: what was fetched, of one version or of all.
pub async fn clear_cache(permit: Permit, call: Call) -> Answer {
    let found = find(&permit, &call).await.map_err(|f| f.of_absent("Resource", call.param("resource_name")));
    let (resource, app) = (found?, call.app.clone());
    let body = call.bytes().await?;
    let Cleared { version } = match body.iter().all(u8::is_ascii_whitespace) {
        true => Cleared::default(),
        false => json_of(&body)?,
    };
    let version = version.filter(|v| !v.0.is_empty());
    let removed = app.store.write(move |tx| tx.clear_resource_cache(resource.id, version.as_ref())).await?;
    app.wakes.gc.ring();
    json(StatusCode::OK, &serde_json::json!({ "caches_removed": removed }))
}
