//! The plans that find and fetch the image of a custom resource type, and of a task.

use super::{Action, CheckPlan, GetPlan, Plan, PlanId, TypeImage};
use crate::base::version::Version;
use crate::pipeline::{CheckEvery, ImageResource, Object, ResourceType};

/// Where the scripts of type `kind` come from, as seen from node `id`.
///
/// A type may bear the name of the base type it builds on, so each step down looks only among the *other* types
/// (`atc/resource_types.go`, `ImageForType`).
pub fn of_type(id: &PlanId, kind: &str, types: &[ResourceType], tags: &[String], skip_interval: bool) -> TypeImage {
    let Some(custom) = types.iter().find(|t| t.name == kind) else {
        return TypeImage { base_type: kind.to_owned(), ..TypeImage::default() };
    };
    let others: Vec<ResourceType> = types.iter().filter(|t| t.name != kind).cloned().collect();
    let tags = if custom.tags.is_empty() { tags } else { &custom.tags };
    let image = ImageResource {
        name: custom.name.clone(),
        kind: custom.kind.clone(),
        source: custom.source.clone(),
        version: None,
        params: custom.params.clone(),
        tags: tags.to_vec(),
    };
    let interval = custom.check_every;
    let (mut check, get, base_type) = fetch(id, &image, &others, interval, skip_interval);
    if let Some(Action::Check(check)) = check.as_mut().map(|c| &mut c.action) {
        check.resource_type = Some(custom.name.clone());
    }
    TypeImage { base_type, check, get: Some(Box::new(get)), privileged: custom.privileged }
}

/// The nodes that find and fetch an image for node `id`: the check (unless the version is given), the get, and the
/// base type at the end of the chain.
pub fn fetch(
    id: &PlanId,
    image: &ImageResource,
    types: &[ResourceType],
    interval: Option<CheckEvery>,
    skip_interval: bool,
) -> (Option<Box<Plan>>, Plan, String) {
    let name = if image.name.is_empty() { "image".to_owned() } else { image.name.clone() };
    let (check_id, get_id) = (PlanId(format!("{id}/image-check")), PlanId(format!("{id}/image-get")));
    let source = with_defaults(image.source.clone().unwrap_or_default(), &image.kind, types);
    let version: Option<Version> = image.version.clone().filter(|v| !v.0.is_empty());
    let of = |id: &PlanId| of_type(id, &image.kind, types, &image.tags, skip_interval);
    let check = version.is_none().then(|| {
        Box::new(Plan {
            id: check_id.clone(),
            action: Action::Check(Box::new(CheckPlan {
                name: name.clone(),
                kind: image.kind.clone(),
                source: source.clone(),
                interval: interval.map(|i| i.to_string()).filter(|i| !i.is_empty()),
                skip_interval,
                tags: image.tags.clone(),
                image: of(&check_id),
                ..CheckPlan::default()
            })),
        })
    });
    let in_get = of(&get_id);
    let base_type = in_get.base_type.clone();
    let get = Plan {
        id: get_id,
        action: Action::Get(Box::new(GetPlan {
            name,
            kind: image.kind.clone(),
            source,
            params: image.params.clone(),
            version_from: version.is_none().then_some(check_id),
            version,
            tags: image.tags.clone(),
            image: in_get,
            ..GetPlan::default()
        })),
    };
    (check, get, base_type)
}

/// `source` over the defaults of its type; members of `source` win.
pub fn with_defaults(source: Object, kind: &str, types: &[ResourceType]) -> Object {
    let mut merged = types.iter().find(|t| t.name == kind).and_then(|t| t.defaults.clone()).unwrap_or_default();
    merged.extend(source);
    merged
}
