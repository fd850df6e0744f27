//! The pages: server-rendered, live through server-sent events, usable without script.
//!
//! One page a file. A page is loaded in one read, arranged into a view of plain values, and drawn by a template; its
//! live form draws the same part again. Only this module names askama; only `markup` lets HTML past its escaper; no
//! style or script is inline, so the policy that forbids them holds.

mod account;
mod act;
pub mod ansi;
mod assets;
pub mod build;
pub mod dashboard;
mod door;
pub mod graph;
mod job;
mod link;
mod live;
mod markup;
mod members;
mod page;
mod pipeline;
mod resource;
mod roles;
mod search;
mod secrets;
mod span;
mod status;
mod trail;

use crate::auth::Action;
use crate::auth::action::Method;
use crate::front::Routes;
pub use door::Drawn;

/// Adds every page, its live form, and the targets of its buttons.
pub fn routes(routes: Routes) -> Routes {
    let p = |rest: &str| format!("/teams/{{team_name}}/pipelines/{{pipeline_name}}{rest}");
    let routes = routes
        .open(Method::Get, "/static/{mark}/{name}", assets::serve)
        .open(Method::Get, "/download-fly", door::download)
        .page("/", Action::ListAllPipelines, dashboard::show)
        .page("/live/dashboard", Action::ListAllPipelines, dashboard::follow)
        .page(&p(""), Action::GetPipeline, pipeline::show)
        .page(&p("/live"), Action::GetPipeline, pipeline::follow)
        .page(&p("/jobs/{job_name}"), Action::GetJob, job::show)
        .page(&p("/jobs/{job_name}/live"), Action::GetJob, job::follow)
        .page(&p("/jobs/{job_name}/builds/{build_name}"), Action::GetJobBuild, build::show_of_job)
        .page(&p("/resources/{resource_name}"), Action::GetResource, resource::show)
        .page(&p("/resources/{resource_name}/live"), Action::GetResource, resource::follow)
        .page("/teams/{team_name}/secrets", Action::ListSecrets, secrets::show)
        .form("/teams/{team_name}/secrets", Action::SaveSecret, secrets::save)
        .form("/teams/{team_name}/secrets/remove", Action::DeleteSecret, secrets::remove)
        .page("/teams/{team_name}/secrets/explain", Action::ExplainSecret, secrets::explain)
        .page("/builds/{build_id}/leak", Action::ListBuildSecrets, secrets::leak)
        .form("/builds/{build_id}/log/redact", Action::RedactBuildLog, secrets::redact)
        .form("/builds/{build_id}/log/remove", Action::DeleteBuildLog, secrets::erase)
        .page("/builds/{build_id}", Action::GetBuild, build::show)
        .page("/builds/{build_id}/live", Action::BuildEvents, build::live::follow)
        .page("/builds/{build_id}/log.txt", Action::BuildEvents, build::log::raw)
        .page("/account", Action::ListSessions, account::show)
        .form("/account/sessions/{session_id}/end", Action::EndSession, account::end)
        .page("/roles", Action::GetInfo, roles::show)
        .page("/audit", Action::ListAudit, trail::of_all)
        .page("/teams/{team_name}/audit", Action::ListTeamAudit, trail::of_team)
        .page("/teams/{team_name}/members", Action::GetTeam, members::show)
        .form("/teams/{team_name}/service-accounts", Action::CreateServiceAccount, members::make)
        .form(
            "/teams/{team_name}/service-accounts/{account_name}/delete",
            Action::DeleteServiceAccount,
            members::remove,
        )
        .form("/teams/{team_name}/networks", Action::SetTeamNetworks, members::networks)
        .fallback(door::nowhere);
    act::routes(routes)
}
