//! Jobs and their builds.

use axum::http::StatusCode;
use serde::Serialize;

use super::page;
use super::show::build::BuildJson;
use super::show::job::{JobJson, JobSummaryJson};
use crate::auth::Role;
use crate::base::id::BuildId;
use crate::base::version::Version;
use crate::front::{Answer, App, Call, Failure, Permit, empty, json};
use crate::pipeline::Object;
use crate::store::create::Rerun;
use crate::store::job::Job;

/// `ListAllJobs`
pub async fn list_all(permit: Permit, call: Call) -> Answer {
    let views = call.app.store.read(move |tx| {
        let mut views = Vec::new();
        for pipeline in tx.pipelines()? {
            if permit.sees(pipeline.team_id, pipeline.public) {
                views.extend(tx.job_views(&pipeline)?);
            }
        }
        // Those of all pipelines in the order they were made.
        views.sort_by_key(|v| v.job.id);
        Ok(views)
    });
    json(StatusCode::OK, &views.await?.iter().map(JobSummaryJson::new).collect::<Vec<_>>())
}

/// `ListJobs`
pub async fn list(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let views = call.app.store.read(move |tx| match tx.pipeline(id)? {
        Some(pipeline) => tx.job_views(&pipeline),
        None => Ok(Vec::new()),
    });
    json(StatusCode::OK, &views.await?.iter().map(JobSummaryJson::new).collect::<Vec<_>>())
}

/// `GetJob`: with `why`, the reasons why it has no build that runs.
pub async fn get(permit: Permit, call: Call) -> Answer {
    let (id, name) = (permit.pipeline()?.id, call.param("job_name").to_owned());
    let (intervals, asked) = (call.app.settings.intervals, call.query.has("why"));
    let found = call.app.store.read(move |tx| {
        let Some(view) = tx.job_view(id, &name)? else { return Ok(None) };
        let why = if asked { tx.why_job(&view.job, &intervals)? } else { Vec::new() };
        Ok(Some((view, why)))
    });
    let (view, why) = found.await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &JobJson::new(&view, permit.role() >= Some(Role::Viewer)).because(why))
}

/// The job in the path.
pub(super) async fn find(permit: &Permit, call: &Call) -> Result<Job, Failure> {
    let (id, name) = (permit.pipeline()?.id, call.param("job_name").to_owned());
    call.app.store.read(move |tx| tx.find_job(id, &name)).await?.ok_or_else(Failure::not_found)
}

/// The same for routes that say even of nothing that it is JSON.
async fn find_as_json(permit: &Permit, call: &Call) -> Result<Job, Failure> {
    permit.pipeline()?;
    find(permit, call).await.map_err(Failure::as_json)
}

/// `PauseJob`
pub async fn pause(permit: Permit, call: Call) -> Answer {
    let (job, by, now) = (find(&permit, &call).await?, permit.user().to_owned(), call.app.clock.now());
    call.app.store.write(move |tx| tx.pause_job(job.id, &by, now)).await?;
    call.app.wakes.schedule.ring();
    empty(StatusCode::OK)
}

/// `UnpauseJob`
pub async fn unpause(permit: Permit, call: Call) -> Answer {
    let job = find(&permit, &call).await?;
    call.app.store.write(move |tx| tx.unpause_job(job.id)).await?;
    call.app.wakes.schedule.ring();
    empty(StatusCode::OK)
}

/// `ScheduleJob`
pub async fn schedule(permit: Permit, call: Call) -> Answer {
    let job = find(&permit, &call).await?;
    call.app.store.write(move |tx| tx.request_schedule(job.id)).await?;
    call.app.wakes.schedule.ring();
    empty(StatusCode::OK)
}

/// `ListJobBuilds`: by id, or with `timestamps` by when they started.
pub async fn builds(permit: Permit, call: Call) -> Answer {
    let job = find(&permit, &call).await?;
    let request = page::of_builds(&call.query)?;
    let builds = call.app.store.read(move |tx| tx.builds_of_job(job.id, request)).await?;
    let commented = job.config.public || permit.role() >= Some(Role::Viewer);
    page::answer(&call, request.limit, &builds, |b| BuildJson::new(b, commented))
}

/// `GetJobBuild`: by its name, or `latest`.
pub async fn build(permit: Permit, call: Call) -> Answer {
    let job = find(&permit, &call).await?;
    let name = call.param("build_name").to_owned();
    let build = call.app.store.read(move |tx| match name.as_str() {
        "latest" => tx.latest_build(job.id),
        name => tx.find_build(job.id, name),
    });
    let build = build.await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &BuildJson::new(&build, job.config.public || permit.role() >= Some(Role::Viewer)))
}

/// `CreateJobBuild`: its pending build is there when this answers; everything it needs is asked for.
pub async fn trigger(permit: Permit, call: Call) -> Answer {
    let job = find_as_json(&permit, &call).await?;
    if job.config.disable_manual_trigger {
        return Err(Failure::bare(StatusCode::CONFLICT).as_json());
    }
    let (by, now) = (permit.user().to_owned(), call.app.clock.now());
    let id = call.app.store.write(move |tx| {
        let id = tx.create_manual_build(job.id, &by, now)?;
        tx.request_checks_of_job(job.id, now)?;
        Ok(id)
    });
    let id = id.await?;
    call.app.wakes.check.ring();
    created(&call.app, id).await
}

/// `RerunJobBuild`
pub async fn rerun(permit: Permit, call: Call) -> Answer {
    let job = find_as_json(&permit, &call).await?;
    if job.config.disable_reruns {
        return Err(Failure::bare(StatusCode::CONFLICT).as_json());
    }
    let (by, now, name) = (permit.user().to_owned(), call.app.clock.now(), call.param("build_name").to_owned());
    let done = call.app.store.write(move |tx| match tx.find_build(job.id, &name)? {
        Some(build) => tx.create_rerun(build.id, &by, now),
        None => Ok(Rerun::NotFound),
    });
    match done.await? {
        Rerun::Created(id) => created(&call.app, id).await,
        Rerun::NotFound => Err(Failure::not_found().as_json()),
        Rerun::WithoutInputs => {
            Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, "the build never got its inputs; trigger a new one"))
        }
    }
}

async fn created(app: &App, id: BuildId) -> Answer {
    app.wakes.schedule.ring();
    let build = app.store.read(move |tx| tx.build(id)).await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &BuildJson::new(&build, false))
}

#[derive(Serialize)]
struct NextInputJson {
    name: String,
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    source: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Object>,
    version: Version,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// `ListJobInputs`: what the next build would get; not found as long as that is not decided.
pub async fn inputs(permit: Permit, call: Call) -> Answer {
    let job = find_as_json(&permit, &call).await?;
    let shown = call.app.store.read(move |tx| {
        let next = tx.next_inputs(job.id)?;
        let mut shown = Vec::new();
        for input in job.config.inputs() {
            let Some(chosen) = next.iter().find(|n| n.name == input.name) else { return Ok(None) };
            let (Ok(version), Some(resource)) = (&chosen.version, tx.resource(chosen.resource_id)?) else {
                return Ok(None);
            };
            shown.push(NextInputJson {
                name: input.name,
                resource: input.resource,
                kind: resource.kind,
                source: resource.config.source,
                params: input.params,
                version: version.clone(),
                tags: input.tags,
            });
        }
        Ok(Some(shown))
    });
    json(StatusCode::OK, &shown.await?.ok_or_else(|| Failure::not_found().as_json())?)
}

/// `ClearTaskCache`
pub async fn clear_task_cache(permit: Permit, call: Call) -> Answer {
    let job = match find(&permit, &call).await {
        Ok(job) => job,
        Err(f) if permit.pipeline().is_ok() => return Err(f.of_absent("Job", call.param("job_name"))),
        Err(f) => return Err(f),
    };
    let step = call.param("step_name").to_owned();
    let path = Some(call.query.get("cache_path").to_owned()).filter(|p| !p.is_empty());
    let removed = call.app.store.write(move |tx| tx.clear_task_cache(job.id, &step, path.as_deref())).await?;
    call.app.wakes.gc.ring();
    json(StatusCode::OK, &serde_json::json!({ "caches_removed": removed }))
}
