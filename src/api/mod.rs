//! The API as the client of Concourse speaks it: one noun a file, shapes in `show`.

pub mod artifact;
pub mod audit;
pub mod badge;
pub mod build;
pub mod causality;
pub mod cc;
mod check;
pub mod client;
mod client_archive;
pub mod component;
pub mod config;
pub mod container;
pub mod events;
pub mod hijack;
pub mod info;
pub mod installation;
pub mod job;
pub mod leak;
mod name;
pub mod network;
pub mod one_off;
mod page;
pub mod pipeline;
pub mod resource;
pub mod secret;
pub mod show;
pub mod sky;
pub mod team;
pub mod token;
pub mod user;
pub mod version;
mod webhook;
pub mod worker;

use crate::auth::Action;
use crate::auth::action::Method;
use crate::front::{Answer, Call, Routes};

/// Adds every handler of the API and of signing in.
pub fn routes(routes: Routes) -> Routes {
    let routes = sky::routes(routes).open(Method::Get, "/robots.txt", robots);
    let routes = secrets(routes);
    builds(resources(jobs(pipelines(teams(workers(installation(routes)))))))
}

fn installation(routes: Routes) -> Routes {
    routes
        .on(Action::GetInfo, info::info)
        .on(Action::GetInfoCreds, info::creds)
        .on(Action::GetHealth, installation::health)
        .on(Action::GetUser, user::current)
        .on(Action::ListActiveUsersSince, installation::users)
        .on(Action::ListSessions, token::sessions)
        .on(Action::EndSession, token::end_session)
        .on(Action::EndSessionsOfUser, token::end_sessions_of_user)
        .on(Action::ListAudit, audit::of_all)
        .on(Action::GetLogLevel, installation::log_level)
        .on(Action::SetLogLevel, installation::set_log_level)
        .on(Action::GetWall, installation::wall)
        .on(Action::SetWall, installation::set_wall)
        .on(Action::ClearWall, installation::clear_wall)
        .on(Action::GetComponents, component::list)
        .on(Action::PauseAllComponents, component::pause_all)
        .on(Action::UnpauseAllComponents, component::unpause_all)
        .on(Action::PauseComponent, component::pause)
        .on(Action::UnpauseComponent, component::unpause)
        .on(Action::DownloadCLI, client::download)
}

fn workers(routes: Routes) -> Routes {
    routes
        .on(Action::ListWorkers, worker::list)
        .on(Action::RegisterWorker, worker::register)
        .on(Action::HeartbeatWorker, worker::heartbeat)
        .on(Action::DeleteWorker, worker::delete)
        .on(Action::ListDestroyingContainers, worker::destroying)
        .on(Action::ReportWorkerContainers, worker::report)
        .on(Action::ListDestroyingVolumes, worker::destroying)
        .on(Action::ReportWorkerVolumes, worker::report)
        .on(Action::LandWorker, worker::change)
        .on(Action::RetireWorker, worker::change)
        .on(Action::PruneWorker, worker::change)
}

fn teams(routes: Routes) -> Routes {
    routes
        .on(Action::ListTeams, team::list)
        .on(Action::GetTeam, team::get)
        .on(Action::SetTeam, team::set)
        .on(Action::RenameTeam, team::rename)
        .on(Action::DestroyTeam, team::destroy)
        .on(Action::ListTeamBuilds, build::list_of_team)
        .on(Action::ListServiceAccounts, token::accounts)
        .on(Action::CreateServiceAccount, token::create_account)
        .on(Action::DeleteServiceAccount, token::delete_account)
        .on(Action::GetTeamNetworks, network::get)
        .on(Action::SetTeamNetworks, network::set)
        .on(Action::ListTeamAudit, audit::of_team)
        .on(Action::GetCC, cc::get)
        .on(Action::ListContainers, container::list)
        .on(Action::GetContainer, container::get)
        .on(Action::HijackContainer, hijack::enter)
        .on(Action::ListVolumes, container::volumes)
        .on(Action::CreateBuild, one_off::create)
        .on(Action::CreateArtifact, artifact::upload)
        .on(Action::GetArtifact, artifact::download)
}

fn secrets(routes: Routes) -> Routes {
    routes
        .on(Action::ListSecrets, secret::list)
        .on(Action::SaveSecret, secret::save)
        .on(Action::DeleteSecret, secret::delete)
        .on(Action::GetSecret, secret::get)
        .on(Action::ExplainSecret, secret::explain)
        .on(Action::ListSecretUses, secret::uses)
        .on(Action::RotateTeamUser, secret::rotate_user)
        .on(Action::RotateSecretsKey, secret::rotate_key)
        .on(Action::ListBuildSecrets, leak::secrets)
        .on(Action::RedactBuildLog, leak::redact)
        .on(Action::DeleteBuildLog, leak::delete)
        .on(Action::GetOpenIDConfiguration, secret::discovery)
        .on(Action::GetSigningKeys, secret::key_set)
}

fn pipelines(routes: Routes) -> Routes {
    routes
        .on(Action::SaveConfig, config::save)
        .on(Action::GetConfig, config::get)
        .on(Action::ListAllPipelines, pipeline::list_all)
        .on(Action::ListPipelines, pipeline::list)
        .on(Action::GetPipeline, pipeline::get)
        .on(Action::DeletePipeline, pipeline::delete)
        .on(Action::PausePipeline, pipeline::pause)
        .on(Action::UnpausePipeline, pipeline::unpause)
        .on(Action::ExposePipeline, pipeline::expose)
        .on(Action::HidePipeline, pipeline::hide)
        .on(Action::ArchivePipeline, pipeline::archive)
        .on(Action::RenamePipeline, pipeline::rename)
        .on(Action::OrderPipelines, pipeline::order)
        .on(Action::OrderPipelinesWithinGroup, pipeline::order_instances)
        .on(Action::ListPipelineBuilds, pipeline::builds)
        .on(Action::CreatePipelineBuild, one_off::create_in_pipeline)
        .on(Action::GetVersionsDB, causality::versions_db)
        .on(Action::PipelineBadge, badge::pipeline)
}

fn jobs(routes: Routes) -> Routes {
    routes
        .on(Action::ListAllJobs, job::list_all)
        .on(Action::ListJobs, job::list)
        .on(Action::GetJob, job::get)
        .on(Action::PauseJob, job::pause)
        .on(Action::UnpauseJob, job::unpause)
        .on(Action::ScheduleJob, job::schedule)
        .on(Action::ListJobBuilds, job::builds)
        .on(Action::GetJobBuild, job::build)
        .on(Action::CreateJobBuild, job::trigger)
        .on(Action::RerunJobBuild, job::rerun)
        .on(Action::ListJobInputs, job::inputs)
        .on(Action::ClearTaskCache, job::clear_task_cache)
        .on(Action::JobBadge, badge::job)
        .on(Action::MainJobBadge, badge::of_main)
}

fn resources(routes: Routes) -> Routes {
    routes
        .on(Action::ListAllResources, resource::list_all)
        .on(Action::ListResources, resource::list)
        .on(Action::GetResource, resource::get)
        .on(Action::ListResourceTypes, resource::types)
        .on(Action::ListSharedForResource, resource::shared)
        .on(Action::ListSharedForResourceType, resource::shared_type)
        .on(Action::CheckResource, resource::check)
        .on(Action::CheckResourceType, resource::check_type)
        .on(Action::CheckPrototype, resource::check_prototype)
        .on(Action::CheckResourceWebHook, webhook::webhook)
        .on(Action::UnpinResource, resource::unpin)
        .on(Action::SetPinCommentOnResource, resource::comment)
        .on(Action::ClearResourceVersions, resource::clear_versions)
        .on(Action::ClearResourceTypeVersions, resource::clear_type_versions)
        .on(Action::ClearResourceCache, resource::clear_cache)
        .on(Action::ListResourceVersions, version::list)
        .on(Action::GetResourceVersion, version::get)
        .on(Action::EnableResourceVersion, version::enable)
        .on(Action::DisableResourceVersion, version::disable)
        .on(Action::PinResourceVersion, version::pin)
        .on(Action::ListBuildsWithVersionAsInput, version::input_to)
        .on(Action::ListBuildsWithVersionAsOutput, version::output_of)
        .on(Action::GetDownstreamResourceCausality, causality::downstream)
        .on(Action::GetUpstreamResourceCausality, causality::upstream)
}

fn builds(routes: Routes) -> Routes {
    routes
        .on(Action::ListBuilds, build::list)
        .on(Action::GetBuild, build::get)
        .on(Action::GetBuildPlan, build::plan)
        .on(Action::BuildEvents, events::stream)
        .on(Action::BuildResources, build::resources)
        .on(Action::GetBuildPreparation, build::preparation)
        .on(Action::ListBuildArtifacts, build::artifacts)
        .on(Action::AbortBuild, build::abort)
        .on(Action::SetBuildComment, build::comment)
}

/// Logs and pipelines are not for search engines.
async fn robots(_: Call) -> Answer {
    crate::front::text(axum::http::StatusCode::OK, "User-agent: *\nDisallow: /\n")
}
