//! Versions of a resource.

use axum::http::StatusCode;

use super::page;
use super::resource::{find, pinned};
use super::show::build::BuildJson;
use super::show::resource::VersionJson;
use crate::auth::Role;
use crate::base::id::{ResourceId, VersionId};
use crate::base::version::Version;
use crate::front::{Answer, Call, Failure, Permit, empty, json};
use crate::store::build::Build;
use crate::store::resource::Resource;
use crate::store::version::VersionRow;

/// Those without a role see metadata only where the resource is `public`.
fn shows_metadata(permit: &Permit, resource: &Resource) -> bool {
    resource.config.public || permit.role() >= Some(Role::Viewer)
}

/// `ListResourceVersions`: `filter=key:value`, repeated, picks versions that have every pair.
pub async fn list(permit: Permit, call: Call) -> Answer {
    let resource = find(&permit, &call).await?;
    let pairs = call.query.all("filter").filter_map(|f| f.split_once(':'));
    let filter = Version(pairs.map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).collect());
    let request = page::request(&call.query)?;
    let versions = call.app.store.read(move |tx| tx.versions(resource.id, &filter, request)).await?;
    let metadata = shows_metadata(&permit, &resource);
    page::answer(&call, request.limit, &versions, |v| VersionJson::new(v, metadata))
}

pub(super) async fn row(permit: &Permit, call: &Call) -> Result<(Resource, VersionRow), Failure> {
    let id: VersionId = call.id("resource_config_version_id")?;
    let resource = find(permit, call).await?;
    let of = resource.id;
    let row = call.app.store.read(move |tx| tx.version(of, id)).await?.ok_or_else(Failure::not_found)?;
    Ok((resource, row))
}

/// `GetResourceVersion`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let (resource, row) = row(&permit, &call).await?;
    json(StatusCode::OK, &VersionJson::new(&row, shows_metadata(&permit, &resource)))
}

/// `EnableResourceVersion`
pub async fn enable(permit: Permit, call: Call) -> Answer {
    set_enabled(permit, call, true).await
}

/// `DisableResourceVersion`
pub async fn disable(permit: Permit, call: Call) -> Answer {
    set_enabled(permit, call, false).await
}

async fn set_enabled(permit: Permit, call: Call, enabled: bool) -> Answer {
    let (resource, row) = row(&permit, &call).await?;
    let done = call.app.store.write(move |tx| tx.set_version_enabled(resource.id, row.id, enabled)).await?;
    call.app.wakes.schedule.ring();
    if done { empty(StatusCode::OK) } else { Err(Failure::not_found()) }
}

/// `PinResourceVersion`
pub async fn pin(permit: Permit, call: Call) -> Answer {
    let (resource, row) = row(&permit, &call).await?;
    let done = call.app.store.write(move |tx| tx.pin_version(resource.id, row.id)).await?;
    call.app.wakes.schedule.ring();
    pinned(done)
}

/// `ListBuildsWithVersionAsInput`
pub async fn input_to(permit: Permit, call: Call) -> Answer {
    let Some((resource, digest)) = named(&permit, &call).await? else { return builds(&[]) };
    builds(&call.app.store.read(move |tx| tx.builds_with_input(resource, &digest)).await?)
}

/// `ListBuildsWithVersionAsOutput`
pub async fn output_of(permit: Permit, call: Call) -> Answer {
    let Some((resource, digest)) = named(&permit, &call).await? else { return builds(&[]) };
    builds(&call.app.store.read(move |tx| tx.builds_with_output(resource, &digest)).await?)
}

fn builds(found: &[Build]) -> Answer {
    json(StatusCode::OK, &found.iter().map(|b| BuildJson::new(b, false)).collect::<Vec<_>>())
}

/// The version in the path; no build had to do with one that the resource does not have.
async fn named(permit: &Permit, call: &Call) -> Result<Option<(ResourceId, String)>, Failure> {
    let resource = find(permit, call).await?.id;
    let Ok(id) = call.id::<VersionId>("resource_config_version_id") else { return Ok(None) };
    let row = call.app.store.read(move |tx| tx.version(resource, id)).await?;
    Ok(row.map(|row| (resource, row.version.digest())))
}
