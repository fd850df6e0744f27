//! Pipelines.

use axum::http::StatusCode;

use super::name;
use super::page;
use super::show::build::BuildJson;
use super::show::pipeline::PipelineJson;
use super::team::{NewName, renamed};
use crate::front::{Answer, Call, Failure, Permit, empty, json};
use crate::pipeline::Object;
use crate::pipeline::instance::text;
use crate::store::pipeline::{Pipeline, PipelineRef};

/// `ListAllPipelines`: those of the caller's own teams before what others expose
pub async fn list_all(permit: Permit, call: Call) -> Answer {
    let mut all = call.app.store.read(|tx| tx.pipelines()).await?;
    all.sort_by_key(|p| !permit.sees(p.team_id, false));
    show(&permit, &all)
}

/// `ListPipelines`: of a team that is not there there are none, as of one whose pipelines are not the caller's business.
pub async fn list(permit: Permit, call: Call) -> Answer {
    let team = match permit.team() {
        Ok(team) => team,
        Err(absent) if permit.is_admin() => return Err(absent),
        Err(_) => return show(&permit, &[]),
    };
    let all = call.app.store.read(move |tx| tx.pipelines_of_team(team)).await?;
    show(&permit, &all)
}

fn show(permit: &Permit, pipelines: &[Pipeline]) -> Answer {
    let seen = pipelines.iter().filter(|p| permit.sees(p.team_id, p.public)).map(PipelineJson::new);
    json(StatusCode::OK, &seen.collect::<Vec<_>>())
}

/// `GetPipeline`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let pipeline = call.app.store.read(move |tx| tx.pipeline(id)).await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &PipelineJson::new(&pipeline))
}

/// `DeletePipeline`: with its builds and their logs.
pub async fn delete(permit: Permit, call: Call) -> Answer {
    let (id, app) = (permit.pipeline()?.id, call.app);
    let builds = app.store.write(move |tx| tx.destroy_pipeline(id)).await?;
    app.store.forget_logs(builds).await?;
    // Its steps that still run have lost their build: the track pass ends them, the collector removes what they leave.
    app.wakes.track.ring();
    app.wakes.schedule.ring();
    app.wakes.gc.ring();
    app.wakes.retention.ring();
    empty(StatusCode::NO_CONTENT)
}

/// `PausePipeline`
pub async fn pause(permit: Permit, call: Call) -> Answer {
    let (id, by, now) = (permit.pipeline()?.id, permit.user().to_owned(), call.app.clock.now());
    call.app.store.write(move |tx| tx.pause_pipeline(id, &by, now)).await?;
    call.app.wakes.schedule.ring();
    empty(StatusCode::OK)
}

/// `UnpausePipeline`
pub async fn unpause(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    call.app.store.write(move |tx| tx.unpause_pipeline(id)).await?;
    call.app.wakes.check.ring();
    call.app.wakes.schedule.ring();
    empty(StatusCode::OK)
}

/// `ExposePipeline`
pub async fn expose(permit: Permit, call: Call) -> Answer {
    set_public(permit, call, true).await
}

/// `HidePipeline`
pub async fn hide(permit: Permit, call: Call) -> Answer {
    set_public(permit, call, false).await
}

async fn set_public(permit: Permit, call: Call, public: bool) -> Answer {
    let id = permit.pipeline()?.id;
    call.app.store.write(move |tx| tx.set_pipeline_public(id, public)).await?;
    empty(StatusCode::OK)
}

/// `ArchivePipeline`
pub async fn archive(permit: Permit, call: Call) -> Answer {
    let (id, now) = (permit.pipeline()?.id, call.app.clock.now());
    call.app.store.write(move |tx| tx.archive_pipeline(id, now)).await?;
    call.app.wakes.schedule.ring();
    call.app.wakes.track.ring();
    call.app.wakes.retention.ring();
    empty(StatusCode::OK)
}

/// `RenamePipeline`: with all its instances.
pub async fn rename(permit: Permit, call: Call) -> Answer {
    let (team, old, store) = (permit.team()?, call.param("pipeline_name").to_owned(), call.app.store.clone());
    let NewName { name } = call.lenient_json().await?;
    let warnings = match name::check(&name, "pipeline") {
        Ok(warnings) => warnings,
        Err(error) => {
            let body = super::team::RenamedJson { errors: vec![error], warnings: Vec::new() };
            return json(StatusCode::BAD_REQUEST, &body);
        }
    };
    let to = name.clone();
    renamed(store.write(move |tx| tx.rename_pipelines(team, &old, &to)).await?, &name, warnings)
}

/// `OrderPipelines`: all or nothing.
pub async fn order(permit: Permit, call: Call) -> Answer {
    let (team, store) = (permit.team()?, call.app.store.clone());
    let names: Vec<String> = call.lenient_list().await?;
    let done = store.write(move |tx| {
        let there = tx.pipelines_of_team(team)?;
        let missing = names.iter().find(|n| !there.iter().any(|p| p.name == **n));
        match missing {
            Some(name) => Ok(Some(name.clone())),
            None => tx.order_pipelines(team, &names),
        }
    });
    ordered(done.await?)
}

/// `OrderPipelinesWithinGroup`: all or nothing.
pub async fn order_instances(permit: Permit, call: Call) -> Answer {
    let (team, store, name) = (permit.team()?, call.app.store.clone(), call.param("pipeline_name").to_owned());
    let vars: Vec<Object> = call.lenient_list().await?;
    let instance = |v: Object| PipelineRef { name: name.clone(), instance_vars: Some(v) };
    let instances: Vec<PipelineRef> = vars.into_iter().map(instance).collect();
    let done = store.write(move |tx| {
        for instance in &instances {
            if tx.find_pipeline(team, instance)?.is_none() {
                let vars = instance.instance_vars.as_ref().map(text).unwrap_or_default();
                return Ok(Some(format!("{name}/{vars}")));
            }
        }
        tx.order_instances(team, &name, &instances)?;
        Ok(None)
    });
    ordered(done.await?)
}

fn ordered(missing: Option<String>) -> Answer {
    match missing {
        None => empty(StatusCode::OK),
        Some(name) => Err(Failure::bad_request(format!("pipeline '{name}' not found\n"))),
    }
}

/// `ListPipelineBuilds`
pub async fn builds(permit: Permit, call: Call) -> Answer {
    let (id, request) = (permit.pipeline()?.id, page::of_builds(&call.query)?);
    let builds = call.app.store.read(move |tx| tx.builds_of_pipeline(id, request)).await?;
    page::answer(&call, request.limit, &builds, |b| BuildJson::new(b, false))
}
