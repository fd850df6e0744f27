//! Builds that belong to no job, as `fly execute` makes them.

use axum::http::StatusCode;

use super::show::build::BuildJson;
use crate::base::error::Error;
use crate::base::id::{PipelineId, TeamId};
use crate::front::{Answer, Call, Failure, Permit, json};
use crate::plan::{one_off, shown};
use crate::store::create::PlainBuild;

/// `CreateBuild`
pub async fn create(permit: Permit, call: Call) -> Answer {
    start(permit.team()?, None, call).await
}

/// `CreatePipelineBuild`: the same, shown among the builds of a pipeline.
pub async fn create_in_pipeline(permit: Permit, call: Call) -> Answer {
    start(permit.team()?, Some(permit.pipeline()?.id), call).await
}

async fn start(team: TeamId, pipeline: Option<PipelineId>, call: Call) -> Answer {
    let app = call.app.clone();
    let plan = one_off::read(call.json().await?).map_err(|e| Failure::bad_request(e.to_string()))?;
    let uploads = one_off::uploads(&plan);
    let public_plan = shown(&plan).to_string();
    let plan = serde_json::to_string(&plan).map_err(Error::internal)?;
    let (now, waits) = (app.clock.now(), app.hold.why().is_some());
    let made = app.store.write(move |tx| {
        for (id, name) in uploads {
            if tx.artifact(team, id)?.is_none() {
                return Ok(Err((id, name)));
            }
        }
        let new = PlainBuild { team, pipeline, plan: &plan, public_plan: &public_plan, now, waits };
        let build = tx.create_plain_build(&new)?;
        Ok(Ok(tx.build(build)?))
    });
    match made.await? {
        Err((id, name)) => {
            let text = format!("there is no upload {id} for input {name}; upload it first, or run the command again");
            Err(Failure::bad_request(text))
        }
        Ok(build) => {
            app.wakes.track.ring();
            json(StatusCode::CREATED, &BuildJson::new(&build.ok_or_else(Failure::not_found)?, false))
        }
    }
}
