//! What the buttons do: the same writes as the API's handlers, behind the same checks, then back to a page.

use axum::http::StatusCode;

use super::job::place;
use super::page::back;
use crate::auth::Action;
use crate::base::clock::Time;
use crate::base::error::{Error, Kind};
use crate::base::id::VersionId;
use crate::front::{Answer, Call, Failure, Permit, Routes, redirect};
use crate::store::build::Abort;
use crate::store::create::Rerun;
use crate::store::resource::{Pinned, Resource};
use crate::store::{Result, WriteTx};

const PIPELINE: &str = "/teams/{team_name}/pipelines/{pipeline_name}";

/// Adds the targets of all forms.
pub fn routes(routes: Routes) -> Routes {
    let p = |rest: &str| format!("{PIPELINE}{rest}");
    routes
        .form(&p("/pause"), Action::PausePipeline, pause_pipeline)
        .form(&p("/unpause"), Action::UnpausePipeline, unpause_pipeline)
        .form(&p("/expose"), Action::ExposePipeline, expose)
        .form(&p("/hide"), Action::HidePipeline, hide)
        .form(&p("/jobs/{job_name}/pause"), Action::PauseJob, pause_job)
        .form(&p("/jobs/{job_name}/unpause"), Action::UnpauseJob, unpause_job)
        .form(&p("/jobs/{job_name}/trigger"), Action::CreateJobBuild, trigger)
        .form(&p("/jobs/{job_name}/builds/{build_name}/rerun"), Action::RerunJobBuild, rerun)
        .form(&p("/resources/{resource_name}/check"), Action::CheckResource, check)
        .form(&p("/resources/{resource_name}/unpin"), Action::UnpinResource, unpin)
        .form(&p("/resources/{resource_name}/pin_comment"), Action::SetPinCommentOnResource, pin_comment)
        .form(&p("/resources/{resource_name}/versions/{version_id}/pin"), Action::PinResourceVersion, pin)
        .form(&p("/resources/{resource_name}/versions/{version_id}/enable"), Action::EnableResourceVersion, enable)
        .form(&p("/resources/{resource_name}/versions/{version_id}/disable"), Action::DisableResourceVersion, disable)
        .form("/builds/{build_id}/abort", Action::AbortBuild, abort)
        .form("/builds/{build_id}/comment", Action::SetBuildComment, comment)
}

fn see(location: &str) -> Answer {
    redirect(StatusCode::SEE_OTHER, location)
}

/// Back to where the button was, by default the pipeline's page.
fn done(permit: &Permit, call: &Call) -> Answer {
    call.app.wakes.schedule.ring();
    let otherwise = place(permit).map_or_else(|_| "/".to_owned(), |p| p.page());
    see(&back(call, &otherwise))
}

async fn pause_pipeline(permit: Permit, call: Call) -> Answer {
    let (id, by, now) = (permit.pipeline()?.id, permit.user().to_owned(), call.app.clock.now());
    call.app.store.write(move |tx| tx.pause_pipeline(id, &by, now)).await?;
    done(&permit, &call)
}

async fn unpause_pipeline(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    call.app.store.write(move |tx| tx.unpause_pipeline(id)).await?;
    call.app.wakes.check.ring();
    done(&permit, &call)
}

async fn expose(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    call.app.store.write(move |tx| tx.set_pipeline_public(id, true)).await?;
    done(&permit, &call)
}

async fn hide(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    call.app.store.write(move |tx| tx.set_pipeline_public(id, false)).await?;
    done(&permit, &call)
}

async fn pause_job(permit: Permit, call: Call) -> Answer {
    let (pipeline, name) = (permit.pipeline()?.id, call.param("job_name").to_owned());
    let (by, now) = (permit.user().to_owned(), call.app.clock.now());
    let found = call.app.store.write(move |tx| match tx.find_job(pipeline, &name)? {
        Some(job) => tx.pause_job(job.id, &by, now).map(|_| true),
        None => Ok(false),
    });
    found.await?.then_some(()).ok_or_else(Failure::not_found)?;
    done(&permit, &call)
}

async fn unpause_job(permit: Permit, call: Call) -> Answer {
    let (pipeline, name) = (permit.pipeline()?.id, call.param("job_name").to_owned());
    let found = call.app.store.write(move |tx| match tx.find_job(pipeline, &name)? {
        Some(job) => tx.unpause_job(job.id).map(|_| true),
        None => Ok(false),
    });
    found.await?.then_some(()).ok_or_else(Failure::not_found)?;
    done(&permit, &call)
}

fn conflict(message: &str, hint: &str) -> Failure {
    Failure::from(Error::new(Kind::Conflict, message).hint(hint))
}

async fn trigger(permit: Permit, call: Call) -> Answer {
    let (pipeline, name) = (permit.pipeline()?.id, call.param("job_name").to_owned());
    let (by, now) = (permit.user().to_owned(), call.app.clock.now());
    let job = name.clone();
    let made = call.app.store.write(move |tx| {
        let Some(job) = tx.find_job(pipeline, &name)?.filter(|j| j.active) else { return Ok(None) };
        if job.config.disable_manual_trigger {
            return Ok(Some(None));
        }
        let id = tx.create_manual_build(job.id, &by, now)?;
        tx.request_checks_of_job(job.id, now)?;
        tx.build(id).map(Some)
    });
    let build = made.await?.ok_or_else(Failure::not_found)?.ok_or_else(|| {
        conflict("this job cannot be triggered by hand", "its configuration says disable_manual_trigger")
    })?;
    call.app.wakes.check.ring();
    call.app.wakes.schedule.ring();
    see(&place(&permit)?.build(&job, &build.name))
}

async fn rerun(permit: Permit, call: Call) -> Answer {
    let pipeline = permit.pipeline()?.id;
    let (job, name) = (call.param("job_name").to_owned(), call.param("build_name").to_owned());
    let (by, now) = (permit.user().to_owned(), call.app.clock.now());
    let job_name = job.clone();
    let made = call.app.store.write(move |tx| {
        let Some(job) = tx.find_job(pipeline, &job_name)? else { return Ok(Err(Failure::not_found())) };
        if job.config.disable_reruns {
            return Ok(Err(conflict("builds of this job cannot be rerun", "its configuration says disable_reruns")));
        }
        let Some(build) = tx.find_build(job.id, &name)? else { return Ok(Err(Failure::not_found())) };
        match tx.create_rerun(build.id, &by, now)? {
            Rerun::Created(id) => Ok(tx.build(id)?.ok_or_else(Failure::not_found)),
            Rerun::NotFound => Ok(Err(Failure::not_found())),
            Rerun::WithoutInputs => {
                Ok(Err(conflict("this build never got its inputs, so there is nothing to repeat", "trigger a new one")))
            }
        }
    });
    let build = made.await??;
    call.app.wakes.schedule.ring();
    see(&place(&permit)?.build(&job, &build.name))
}

async fn abort(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    call.app.store.write(move |tx| tx.abort_build(id, Abort::Graceful)).await?.ok_or_else(Failure::not_found)?;
    call.app.wakes.track.ring();
    call.app.wakes.schedule.ring();
    call.app.feed.changed(id);
    see(&back(&call, &format!("/builds/{id}")))
}

async fn comment(permit: Permit, call: Call) -> Answer {
    let (id, text) = (permit.build()?, call.form.get("comment").to_owned());
    call.app.store.write(move |tx| tx.set_build_comment(id, &text)).await?;
    see(&back(&call, &format!("/builds/{id}")))
}

/// Does something to the resource in the path, in one transaction.
async fn on_resource<F>(permit: &Permit, call: &Call, change: F) -> std::result::Result<(), Failure>
where
    F: FnOnce(&WriteTx<'_>, &Resource, Time) -> Result<Pinned> + Send + 'static,
{
    let (pipeline, name) = (permit.pipeline()?.id, call.param("resource_name").to_owned());
    let now = call.app.clock.now();
    let changed = call.app.store.write(move |tx| match tx.find_resource(pipeline, &name)?.filter(|r| r.active) {
        Some(resource) => change(tx, &resource, now),
        None => Ok(Pinned::NotFound),
    });
    match changed.await? {
        // Somebody else was faster.
        Pinned::Done | Pinned::Not => Ok(()),
        Pinned::NotFound => Err(Failure::not_found()),
        Pinned::InConfig => Err(conflict(
            "the version is pinned in the pipeline's configuration",
            "change it there and set the pipeline",
        )),
    }
}

fn found(yes: bool) -> Pinned {
    if yes { Pinned::Done } else { Pinned::NotFound }
}

async fn check(permit: Permit, call: Call) -> Answer {
    on_resource(&permit, &call, |tx, r, now| tx.request_check(r.id, true, now).map(|()| Pinned::Done)).await?;
    call.app.wakes.check.ring();
    done(&permit, &call)
}

async fn unpin(permit: Permit, call: Call) -> Answer {
    on_resource(&permit, &call, |tx, r, _| tx.unpin(r.id)).await?;
    done(&permit, &call)
}

async fn pin_comment(permit: Permit, call: Call) -> Answer {
    let text = call.form.get("pin_comment").to_owned();
    on_resource(&permit, &call, move |tx, r, _| tx.set_pin_comment(r.id, &text).map(found)).await?;
    done(&permit, &call)
}

async fn pin(permit: Permit, call: Call) -> Answer {
    let version: VersionId = call.id("version_id")?;
    on_resource(&permit, &call, move |tx, r, _| tx.pin_version(r.id, version)).await?;
    done(&permit, &call)
}

async fn enable(permit: Permit, call: Call) -> Answer {
    let version: VersionId = call.id("version_id")?;
    on_resource(&permit, &call, move |tx, r, _| tx.set_version_enabled(r.id, version, true).map(found)).await?;
    done(&permit, &call)
}

async fn disable(permit: Permit, call: Call) -> Answer {
    let version: VersionId = call.id("version_id")?;
    on_resource(&permit, &call, move |tx, r, _| tx.set_version_enabled(r.id, version, false).map(found)).await?;
    done(&permit, &call)
}
