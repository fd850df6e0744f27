//! `put`: makes a version from artifacts. Its script is never run twice: a recorded result answers, a running or
//! finished container is attached to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::artifact::Artifact;
use super::composite::left_of;
use super::image;
use super::outcome::{LeafResult, Outcome, Stop};
use super::placement;
use super::scope::Scope;
use super::script::{Call, Scripts, make_volume};
use super::source::{filled, filled_params, with_base};
use super::world::VolumeNote;
use crate::event::{Event, Origin};
use crate::pipeline::Object;
use crate::plan::{Inputs, Plan, PutPlan};
use crate::resource::contained::{directory, parse_response};
use crate::resource::{Request, Script};
use crate::runtime::Mount;

/// Runs the step.
pub async fn run(plan: &Plan, put: &PutPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.id.0));
    world.emit(&origin, Event::InitializePut).await?;
    placement::allowed("linux", &put.tags, &world.worker_tags())?;
    let source = filled(&with_base(&put.source, &put.kind, &put.image, scope), scope).await?;
    let params = filled_params(put.params.as_ref(), scope).await?;
    let inputs = chosen(&put.inputs, put.params.as_ref(), &scope.artifacts.all())?;
    let (scripts, _) = image::of_type(&plan.id, &put.image, scope).await?;
    let mounts = mounts(plan, &inputs, &scripts, scope).await?;
    let dir = directory(Script::Out);
    let left = left_of("put", &plan.id, put.timeout.as_deref(), scope).await?;
    let answer = scripts
        .run(
            Call {
                plan: &plan.id,
                step: &put.name,
                kind: "put",
                script: Script::Out,
                request: Request { source, params, version: None },
                mounts,
                env: world.build().for_resource(scope.status, put.expose_build_created_by),
                left,
                started: Some(Event::StartPut),
            },
            scope,
        )
        .await?;
    if answer.status != 0 {
        let event = Event::FinishPut { exit_status: answer.status, version: None, metadata: Vec::new() };
        world.emit(&origin, event).await?;
        return Ok(LeafResult::of(Outcome::Failed));
    }
    let response = parse_response(Script::Out, dir, &answer.stdout).map_err(|e| Stop::Error(e.to_string()))?;
    world.save_put(&put.name, &put.resource, &response.version, &response.metadata).await?;
    let event = Event::FinishPut {
        exit_status: 0,
        version: Some(response.version.clone()),
        metadata: response.metadata.clone(),
    };
    world.emit(&origin, event).await?;
    Ok(LeafResult {
        outcome: Outcome::Succeeded,
        version: Some(response.version),
        metadata: response.metadata,
        artifacts: Vec::new(),
        why: None,
    })
}

/// The artifacts the script sees. What is detected is what stands in the params before variables are filled in.
fn chosen(
    inputs: &Inputs,
    params: Option<&Object>,
    all: &BTreeMap<String, Artifact>,
) -> Result<BTreeMap<String, Artifact>, Stop> {
    match inputs {
        Inputs::All => Ok(all.clone()),
        Inputs::Listed(names) => names
            .iter()
            .map(|name| match all.get(name) {
                Some(artifact) => Ok((name.clone(), artifact.clone())),
                None => Err(Stop::Error(format!("input not found: {name}"))),
            })
            .collect(),
        Inputs::Detect => {
            let mut found = BTreeMap::new();
            if let Some(params) = params {
                params.values().for_each(|value| detect(value, all, &mut found));
            }
            Ok(found)
        }
    }
}

/// Every text within is taken as a path whose first segment may name an artifact (`atc/exec/put_inputs.go`).
fn detect(value: &Value, all: &BTreeMap<String, Artifact>, found: &mut BTreeMap<String, Artifact>) {
    match value {
        Value::String(text) => {
            let first = text.split('/').find(|segment| !matches!(*segment, "." | ".."));
            if let Some((name, artifact)) = first.and_then(|name| all.get_key_value(name)) {
                found.insert(name.clone(), artifact.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| detect(item, all, found)),
        Value::Object(map) => map.values().for_each(|item| detect(item, all, found)),
        _ => {}
    }
}

async fn mounts(
    plan: &Plan,
    inputs: &BTreeMap<String, Artifact>,
    scripts: &Scripts,
    scope: &Scope,
) -> Result<Vec<Mount>, Stop> {
    let runtime = scripts.place(scope).runtime();
    let from = scope.world.runtime();
    let shared = std::sync::Arc::ptr_eq(&runtime, &from);
    let container = scope.container(&plan.id);
    let dir = directory(Script::Out);
    let mut mounts = Vec::new();
    for (n, (name, artifact)) in inputs.iter().enumerate() {
        let files = super::registry::volume(artifact, scope).await?;
        let note = VolumeNote {
            handle: scope.volume(&plan.id, n + 1),
            kind: "input",
            parent: shared.then(|| files.clone()),
            container: Some(container.clone()),
            path: format!("{dir}/{name}"),
        };
        let volume = make_volume(scope, &*runtime, note).await?;
        if !shared {
            runtime.stream_in(&volume, "", from.stream_out(&files, "").await?).await?;
        }
        mounts.push(Mount { volume, path: format!("{dir}/{name}"), read_only: false });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::VolumeHandle;

    fn all() -> BTreeMap<String, Artifact> {
        ["code", "out", "extra"]
            .into_iter()
            .map(|n| (n.to_owned(), Artifact { volume: VolumeHandle(n.to_owned()), image: None }))
            .collect()
    }

    fn names(inputs: &Inputs, params: &str) -> Vec<String> {
        let params: Object = serde_json::from_str(params).unwrap();
        chosen(inputs, Some(&params), &all()).unwrap().into_keys().collect()
    }

    #[test]
    fn detect_looks_into_every_string() {
        assert_eq!(
            names(&Inputs::Detect, r#"{"a":"./code/x","b":[{"c":"out"}],"d":"nothing/extra"}"#),
            ["code", "out"]
        );
        assert_eq!(names(&Inputs::Detect, r#"{"a":"../extra/y"}"#), ["extra"]);
        assert!(names(&Inputs::Detect, r#"{"a":"/extra/y","b":".","c":5,"extra":null,"d":"(extra)"}"#).is_empty());
        assert_eq!(names(&Inputs::All, "{}"), ["code", "extra", "out"]);
        assert_eq!(names(&Inputs::Listed(vec!["out".into()]), "{}"), ["out"]);
    }

    #[test]
    fn a_listed_input_must_be_there() {
        assert!(chosen(&Inputs::Listed(vec!["zz".into()]), None, &all()).is_err());
    }
}
