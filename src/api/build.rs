//! Builds.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::artifact::ArtifactJson;
use super::show::build::BuildJson;
use super::show::why::{self, WhyJson};
use super::{check, page};
use crate::auth::Role;
use crate::base::error::Error;
use crate::base::id::{PipelineId, TeamId};
use crate::base::version::Version;
use crate::front::{Answer, Call, Failure, Permit, as_json, empty, json};
use crate::store::build::{Abort, Audience, BuildState};

/// `ListBuilds`
pub async fn list(permit: Permit, call: Call) -> Answer {
    list_for(permit.audience(), call).await
}

/// `ListTeamBuilds`: for those who do not belong to the team, those of its exposed pipelines.
pub async fn list_of_team(permit: Permit, call: Call) -> Answer {
    /// Of no team: numbers begin with 1.
    const NOBODY: TeamId = TeamId(0);
    let team = match permit.team() {
        Ok(team) => team,
        Err(absent) if permit.is_admin() => return Err(absent),
        // As for a team whose builds are not the caller's business: the same query, with the same mistakes refused.
        Err(_) => NOBODY,
    };
    let member = permit.sees(team, false);
    list_for(if member { Audience::Team(team) } else { Audience::PublicOf(team) }, call).await
}

async fn list_for(audience: Audience, call: Call) -> Answer {
    let request = page::of_builds(&call.query)?;
    let builds = call.app.store.read(move |tx| tx.builds(&audience, request)).await?;
    page::answer(&call, request.limit, &builds, |b| BuildJson::new(b, false))
}

/// `GetBuild`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let found = call.app.store.read(move |tx| Ok((tx.build(id)?, tx.build_access(id)?))).await?;
    let (Some(build), Some(access)) = found else {
        let check = check::find(&call.app, id).await?.ok_or_else(Failure::not_found)?;
        return json(StatusCode::OK, &BuildJson::new(&check.build, false));
    };
    json(StatusCode::OK, &BuildJson::new(&build, access.public_job || permit.role() >= Some(Role::Viewer)))
}

#[derive(Serialize)]
struct PlanJson {
    schema: &'static str,
    plan: Box<RawValue>,
}

/// `GetBuildPlan`
pub async fn plan(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let plan = match call.app.store.read(move |tx| tx.build_public_plan(id)).await? {
        Some(plan) => RawValue::from_string(plan).map_err(Error::internal)?,
        None => check::find(&call.app, id).await?.and_then(|c| c.plan).ok_or_else(Failure::not_found)?,
    };
    json(StatusCode::OK, &PlanJson { schema: "exec.v2", plan })
}

#[derive(Serialize)]
struct InputJson {
    name: String,
    version: Version,
    pipeline_id: PipelineId,
    first_occurrence: bool,
}

#[derive(Serialize)]
struct OutputJson {
    name: String,
    version: Version,
}

#[derive(Serialize)]
struct ResourcesJson {
    inputs: Vec<InputJson>,
    outputs: Vec<OutputJson>,
}

/// `BuildResources`
pub async fn resources(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let shown = call.app.store.read(move |tx| {
        let mut inputs = Vec::new();
        for input in tx.build_inputs(id)? {
            let Some(resource) = tx.resource(input.resource_id)? else { continue };
            inputs.push(InputJson {
                name: input.name,
                version: input.version,
                pipeline_id: resource.pipeline_id,
                first_occurrence: input.first_occurrence,
            });
        }
        let outputs = tx.build_outputs(id)?.into_iter().map(|o| OutputJson { name: o.name, version: o.version });
        Ok(ResourcesJson { inputs, outputs: outputs.collect() })
    });
    json(StatusCode::OK, &shown.await?)
}

/// `ListBuildArtifacts`: what it has left for download.
pub async fn artifacts(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let found = call.app.store.read(move |tx| tx.artifacts_of_build(id)).await?;
    json(StatusCode::OK, &found.iter().map(ArtifactJson::new).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct PreparationJson {
    build_id: crate::base::id::BuildId,
    paused_pipeline: &'static str,
    paused_job: &'static str,
    max_running_builds: &'static str,
    inputs: std::collections::BTreeMap<String, &'static str>,
    inputs_satisfied: &'static str,
    missing_input_reasons: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<WhyJson>,
}

fn blocking(is: bool) -> &'static str {
    if is { "blocking" } else { "not_blocking" }
}

/// `GetBuildPreparation`: with `why`, the reasons beside what Concourse says.
pub async fn preparation(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let intervals = call.app.settings.intervals;
    let found = call.app.store.read(move |tx| tx.preparation(id, &intervals)).await?.ok_or_else(Failure::not_found)?;
    let missing = found.inputs.iter().filter_map(|(n, r)| r.clone().map(|r| (n.clone(), r))).collect::<Vec<_>>();
    let shown = PreparationJson {
        build_id: id,
        paused_pipeline: blocking(found.paused_pipeline),
        paused_job: blocking(found.paused_job),
        max_running_builds: blocking(found.max_running_builds),
        inputs_satisfied: blocking(!missing.is_empty()),
        inputs: found.inputs.into_iter().map(|(n, r)| (n, blocking(r.is_some()))).collect(),
        missing_input_reasons: missing.into_iter().collect(),
        why: if call.query.has("why") { why::all(found.why) } else { Vec::new() },
    };
    json(StatusCode::OK, &shown)
}

/// `AbortBuild`: with `force`, without waiting for its steps.
pub async fn abort(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let how = if call.query.has("force") { Abort::Forced } else { Abort::Graceful };
    let state = call.app.store.write(move |tx| tx.abort_build(id, how)).await?.ok_or_else(Failure::not_found)?;
    match state {
        BuildState::Pending => {
            call.app.wakes.schedule.ring();
            call.app.wakes.check.ring();
        }
        BuildState::Started { .. } => call.app.wakes.track.ring(),
        BuildState::Finished { .. } => {}
    }
    empty(StatusCode::NO_CONTENT)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Comment {
    comment: String,
}

/// `SetBuildComment`
pub async fn comment(permit: Permit, call: Call) -> Answer {
    let (id, store) = (permit.build()?, call.app.store.clone());
    let Comment { comment } = call.lenient_json().await?;
    let known = store.write(move |tx| {
        tx.set_build_comment(id, &comment)?;
        tx.build(id)
    });
    known.await?.ok_or_else(Failure::not_found)?;
    as_json(empty(StatusCode::OK)?)
}
