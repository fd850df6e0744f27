//! Every action of the API: Concourse's name for it, its route, who may, and under which heading it is audited.
//!
//! The router is a fold over this table (`front`), so an action cannot be served without its check.

/// How access to an action is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody; lists show what the caller may see. A token that is given must be valid.
    Open,
    /// Any valid token.
    Authenticated,
    /// A role on at least one team.
    AnyTeam,
    /// The role on the team in the path.
    Team,
    /// As `Team`, or the pipeline is exposed.
    Pipeline,
    /// A build that belongs to an exposed pipeline, or the role on its team.
    Build,
    /// As `Build`, but of an exposed pipeline only builds of jobs that are `public`.
    BuildOfPublicJob,
    /// The role on the build's team.
    ChangeBuild,
    /// Only Concourse's own gateway for workers; no token of this server is one.
    SystemToken,
    /// An administrator: an owner of an admin team.
    Admin,
}

/// Under which heading an action is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Builds, their events and artifacts.
    Build,
    /// Containers and who enters them.
    Container,
    /// Jobs.
    Job,
    /// Pipelines.
    Pipeline,
    /// Resources and their versions.
    Resource,
    /// Configurations, users, the wall and the installation itself.
    System,
    /// Teams.
    Team,
    /// Workers.
    Worker,
    /// Volumes.
    Volume,
}

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes.
    Post,
    /// Sets.
    Put,
    /// Removes.
    Delete,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which action.
    pub action: Action,
    /// Concourse's name of the route.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path, with `{parameters}`.
    pub path: &'static str,
    /// How access is decided.
    pub access: Access,
    /// The weakest role that may, where a role is asked for.
    pub role: super::Role,
    /// Its audit heading.
    pub category: Category,
}

macro_rules! actions {
    ($($name:ident $method:ident $path:literal $access:ident $role:ident $category:ident)*) => {
        /// What can be asked of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the names are Concourse's and say it")]
        pub enum Action { $($name),* }

        /// Every action, in the order of the enum.
        pub const TABLE: &[Row] = &[$(Row {
            action: Action::$name,
            name: stringify!($name),
            method: Method::$method,
            path: $path,
            access: Access::$access,
            role: super::Role::$role,
            category: Category::$category,
        }),*];
    };
}

impl Action {
    /// The action's row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Action> {
        TABLE.iter().find(|r| r.name == name).map(|r| r.action)
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().name)
    }
}

#[rustfmt::skip]
actions! {
    SaveConfig                     Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/config" Team Member System
    GetConfig                      Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/config" Team Viewer System
    CreateBuild                    Post   "/api/v1/teams/{team_name}/builds" Team Member Build
    ListBuilds                     Get    "/api/v1/builds" Open Viewer Build
    GetBuild                       Get    "/api/v1/builds/{build_id}" Build Viewer Build
    BuildResources                 Get    "/api/v1/builds/{build_id}/resources" Build Viewer Build
    GetBuildPlan                   Get    "/api/v1/builds/{build_id}/plan" BuildOfPublicJob Viewer Build
    BuildEvents                    Get    "/api/v1/builds/{build_id}/events" BuildOfPublicJob Viewer Build
    GetBuildPreparation            Get    "/api/v1/builds/{build_id}/preparation" BuildOfPublicJob Viewer Build
    ListBuildArtifacts             Get    "/api/v1/builds/{build_id}/artifacts" BuildOfPublicJob Viewer Build
    AbortBuild                     Put    "/api/v1/builds/{build_id}/abort" ChangeBuild PipelineOperator Build
    SetBuildComment                Put    "/api/v1/builds/{build_id}/comment" ChangeBuild PipelineOperator Build
    ListAllJobs                    Get    "/api/v1/jobs" Open Viewer Job
    ListJobs                       Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs" Pipeline Viewer Job
    GetJob                         Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}" Pipeline Viewer Job
    ListJobBuilds                  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/builds" Pipeline Viewer Job
    CreateJobBuild                 Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/builds" Team PipelineOperator Job
    RerunJobBuild                  Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/builds/{build_name}" Team PipelineOperator Build
    GetJobBuild                    Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/builds/{build_name}" Pipeline Viewer Job
    ListJobInputs                  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/inputs" Team Viewer Job
    PauseJob                       Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/pause" Team PipelineOperator Job
    UnpauseJob                     Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/unpause" Team PipelineOperator Job
    ScheduleJob                    Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/schedule" Team PipelineOperator Job
    ClearTaskCache                 Delete "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/tasks/{step_name}/cache" Team PipelineOperator System
    JobBadge                       Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/jobs/{job_name}/badge" Pipeline Viewer Job
    MainJobBadge                   Get    "/api/v1/pipelines/{pipeline_name}/jobs/{job_name}/badge" Open Viewer Job
    ListAllPipelines               Get    "/api/v1/pipelines" Open Viewer Pipeline
    ListPipelines                  Get    "/api/v1/teams/{team_name}/pipelines" Open Viewer Pipeline
    GetPipeline                    Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}" Pipeline Viewer Pipeline
    DeletePipeline                 Delete "/api/v1/teams/{team_name}/pipelines/{pipeline_name}" Team Member Pipeline
    OrderPipelines                 Put    "/api/v1/teams/{team_name}/pipelines/ordering" Team Member Pipeline
    OrderPipelinesWithinGroup      Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/ordering" Team Member Pipeline
    PausePipeline                  Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/pause" Team PipelineOperator Pipeline
    UnpausePipeline                Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/unpause" Team PipelineOperator Pipeline
    ArchivePipeline                Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/archive" Team Member Pipeline
    ExposePipeline                 Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/expose" Team Member Pipeline
    HidePipeline                   Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/hide" Team Member Pipeline
    RenamePipeline                 Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/rename" Team Member Pipeline
    GetVersionsDB                  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/versions-db" Team Viewer System
    ListPipelineBuilds             Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/builds" Pipeline Viewer Pipeline
    CreatePipelineBuild            Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/builds" Team Member Pipeline
    PipelineBadge                  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/badge" Pipeline Viewer Pipeline
    ListAllResources               Get    "/api/v1/resources" Open Viewer Resource
    ListResources                  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources" Pipeline Viewer Resource
    ListResourceTypes              Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resource-types" Pipeline Viewer Resource
    GetResource                    Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}" Pipeline Viewer Resource
    ListSharedForResource          Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/shared" Admin Owner Resource
    ListSharedForResourceType      Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resource-types/{resource_type_name}/shared" Admin Owner Resource
    CheckResource                  Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/check" Team PipelineOperator Resource
    CheckResourceWebHook           Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/check/webhook" Open PipelineOperator Resource
    CheckResourceType              Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resource-types/{resource_type_name}/check" Team PipelineOperator Resource
    CheckPrototype                 Post   "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/prototypes/{prototype_name}/check" Team PipelineOperator Resource
    ClearResourceCache             Delete "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/cache" Team PipelineOperator Resource
    ListResourceVersions           Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions" Pipeline Viewer Resource
    GetResourceVersion             Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}" Pipeline Viewer Resource
    ClearResourceVersions          Delete "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions" Admin Owner Resource
    ClearResourceTypeVersions      Delete "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resource-types/{resource_type_name}/versions" Admin Owner Resource
    EnableResourceVersion          Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/enable" Team PipelineOperator Resource
    DisableResourceVersion         Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/disable" Team PipelineOperator Resource
    PinResourceVersion             Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/pin" Team PipelineOperator Resource
    UnpinResource                  Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/unpin" Team PipelineOperator Resource
    SetPinCommentOnResource        Put    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/pin_comment" Team PipelineOperator Resource
    ListBuildsWithVersionAsInput   Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/input_to" Pipeline Viewer Build
    ListBuildsWithVersionAsOutput  Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/output_of" Pipeline Viewer Build
    GetDownstreamResourceCausality Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/downstream" Pipeline Viewer Resource
    GetUpstreamResourceCausality   Get    "/api/v1/teams/{team_name}/pipelines/{pipeline_name}/resources/{resource_name}/versions/{resource_config_version_id}/upstream" Pipeline Viewer Resource
    GetCC                          Get    "/api/v1/teams/{team_name}/cc.xml" Open Viewer System
    ListWorkers                    Get    "/api/v1/workers" AnyTeam Viewer Worker
    RegisterWorker                 Post   "/api/v1/workers" SystemToken Member Worker
    HeartbeatWorker                Put    "/api/v1/workers/{worker_name}/heartbeat" Authenticated Member Worker
    DeleteWorker                   Delete "/api/v1/workers/{worker_name}" Authenticated Member Worker
    LandWorker                     Put    "/api/v1/workers/{worker_name}/land" Authenticated Member Worker
    RetireWorker                   Put    "/api/v1/workers/{worker_name}/retire" Authenticated Member Worker
    PruneWorker                    Put    "/api/v1/workers/{worker_name}/prune" Authenticated Member Worker
    GetLogLevel                    Get    "/api/v1/log-level" Admin Owner System
    SetLogLevel                    Put    "/api/v1/log-level" Admin Owner System
    DownloadCLI                    Get    "/api/v1/cli" Open Viewer System
    GetInfo                        Get    "/api/v1/info" Open Viewer System
    GetInfoCreds                   Get    "/api/v1/info/creds" Admin Owner System
    GetHealth                      Get    "/api/v1/health" Open Viewer System
    GetUser                        Get    "/api/v1/user" Authenticated Viewer System
    ListActiveUsersSince           Get    "/api/v1/users" Admin Owner System
    ListContainers                 Get    "/api/v1/teams/{team_name}/containers" Team Viewer Container
    GetContainer                   Get    "/api/v1/teams/{team_name}/containers/{id}" Team Viewer Container
    HijackContainer                Get    "/api/v1/teams/{team_name}/containers/{id}/hijack" Team Member Container
    ListDestroyingContainers       Get    "/api/v1/containers/destroying" Authenticated Viewer Container
    ReportWorkerContainers         Put    "/api/v1/containers/report" Authenticated Member Container
    ListVolumes                    Get    "/api/v1/teams/{team_name}/volumes" Team Viewer Volume
    ListDestroyingVolumes          Get    "/api/v1/volumes/destroying" Authenticated Viewer Volume
    ReportWorkerVolumes            Put    "/api/v1/volumes/report" Authenticated Member Volume
    ListTeams                      Get    "/api/v1/teams" Open Viewer Team
    GetTeam                        Get    "/api/v1/teams/{team_name}" Team Viewer Team
    ListSecrets                    Get    "/api/v1/teams/{team_name}/secrets" Team Member System
    SaveSecret                     Put    "/api/v1/teams/{team_name}/secrets" Team Member System
    DeleteSecret                   Delete "/api/v1/teams/{team_name}/secrets" Team Member System
    GetSecret                      Get    "/api/v1/teams/{team_name}/secrets/value" Team Member System
    ExplainSecret                  Get    "/api/v1/teams/{team_name}/secrets/explain" Team Member System
    ListSecretUses                 Get    "/api/v1/teams/{team_name}/secrets/uses" Team Member System
    RotateTeamUser                 Put    "/api/v1/teams/{team_name}/secrets/user" Team Owner Team
    RotateSecretsKey               Put    "/api/v1/secrets-key" Admin Owner System
    ListBuildSecrets               Get    "/api/v1/builds/{build_id}/secrets" ChangeBuild Member Build
    RedactBuildLog                 Put    "/api/v1/builds/{build_id}/log" ChangeBuild Member Build
    DeleteBuildLog                 Delete "/api/v1/builds/{build_id}/log" ChangeBuild Member Build
    SetTeam                        Put    "/api/v1/teams/{team_name}" Team Owner Team
    RenameTeam                     Put    "/api/v1/teams/{team_name}/rename" Team Owner Team
    DestroyTeam                    Delete "/api/v1/teams/{team_name}" Admin Owner Team
    ListTeamBuilds                 Get    "/api/v1/teams/{team_name}/builds" Authenticated Viewer Team
    CreateArtifact                 Post   "/api/v1/teams/{team_name}/artifacts" Team Member Build
    GetArtifact                    Get    "/api/v1/teams/{team_name}/artifacts/{artifact_id}" Team Member Build
    GetWall                        Get    "/api/v1/wall" Open Viewer System
    SetWall                        Put    "/api/v1/wall" Admin Owner System
    ClearWall                      Delete "/api/v1/wall" Admin Owner System
    GetOpenIDConfiguration         Get    "/.well-known/openid-configuration" Open Viewer Worker
    GetSigningKeys                 Get    "/.well-known/jwks.json" Open Viewer Worker
    GetComponents                  Get    "/api/v1/components" Admin Owner System
    PauseAllComponents             Put    "/api/v1/components/pause" Admin Owner System
    UnpauseAllComponents           Put    "/api/v1/components/unpause" Admin Owner System
    PauseComponent                 Put    "/api/v1/components/{component_name}/pause" Admin Owner System
    UnpauseComponent               Put    "/api/v1/components/{component_name}/unpause" Admin Owner System
    ListSessions                   Get    "/api/v1/user/sessions" Authenticated Viewer System
    EndSession                     Delete "/api/v1/user/sessions/{session_id}" Authenticated Viewer System
    EndSessionsOfUser              Delete "/api/v1/users/{user_id}/sessions" Admin Owner System
    ListServiceAccounts            Get    "/api/v1/teams/{team_name}/service-accounts" Team Owner Team
    CreateServiceAccount           Post   "/api/v1/teams/{team_name}/service-accounts" Team Owner Team
    DeleteServiceAccount           Delete "/api/v1/teams/{team_name}/service-accounts/{account_name}" Team Owner Team
    GetTeamNetworks                Get    "/api/v1/teams/{team_name}/networks" Team Owner Team
    SetTeamNetworks                Put    "/api/v1/teams/{team_name}/networks" Team Owner Team
    ListTeamAudit                  Get    "/api/v1/teams/{team_name}/audit" Team Owner Team
    ListAudit                      Get    "/api/v1/audit" Admin Owner System
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_action_and_routes_are_unique() {
        let mut routes = std::collections::BTreeSet::new();
        for row in TABLE {
            assert_eq!(row.action.row().name, row.name);
            assert_eq!(Action::from_name(row.name), Some(row.action));
            assert!(routes.insert((row.path, format!("{:?}", row.method))), "{} {}", row.name, row.path);
        }
    }

    #[test]
    fn a_path_names_what_its_access_is_decided_by() {
        for row in TABLE {
            let needed = match row.access {
                Access::Team => "{team_name}",
                Access::Pipeline => "{pipeline_name}",
                Access::Build | Access::BuildOfPublicJob | Access::ChangeBuild => "{build_id}",
                _ => "",
            };
            assert!(row.path.contains(needed), "{}", row.name);
        }
    }
}
