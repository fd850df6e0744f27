//! Workers: the one in this process.

use axum::http::StatusCode;
use serde::Serialize;

use crate::auth::Action;
use crate::base::WORKER_VERSION;
use crate::front::{Answer, Call, Failure, Permit, json};

#[derive(Serialize)]
struct WorkerJson<'w> {
    /// Concourse has the address of its container server here, which clients show as such.
    addr: &'w str,
    baggageclaim_url: &'static str,
    active_containers: i64,
    active_volumes: i64,
    active_tasks: i64,
    resource_types: Vec<TypeJson<'w>>,
    platform: &'static str,
    tags: Option<&'w [String]>,
    team: &'static str,
    name: &'w str,
    version: &'static str,
    start_time: i64,
    ephemeral: bool,
    state: &'static str,
}

#[derive(Serialize)]
struct TypeJson<'w> {
    #[serde(rename = "type")]
    kind: &'w str,
    image: &'static str,
    version: &'w str,
    privileged: bool,
    unique_version_history: bool,
}

/// `ListWorkers`
pub async fn list(_: Permit, call: Call) -> Answer {
    let counts = call.app.store.read(|tx| {
        let tasks = "select count(*) from containers c join builds b on b.id = c.build_id
             where c.type = 'task' and b.status in ('pending', 'started') and b.status = 'started'";
        let tasks: i64 = tx.prepare_cached(tasks)?.query_row([], |r| r.get(0))?;
        Ok((tx.count_containers_and_volumes()?, tasks))
    });
    let ((active_containers, active_volumes), active_tasks) = counts.await?;
    let types = call.app.settings.resource_types.iter().map(|built_in| TypeJson {
        kind: &built_in.name,
        image: "",
        version: &built_in.version,
        privileged: built_in.privileged,
        unique_version_history: built_in.unique_version_history,
    });
    let isolation = call.app.isolation.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let worker = WorkerJson {
        addr: &isolation,
        baggageclaim_url: "",
        active_containers,
        active_volumes,
        active_tasks,
        resource_types: types.collect(),
        platform: "linux",
        tags: Some(call.app.settings.worker_tags.as_slice()).filter(|tags| !tags.is_empty()),
        team: "",
        name: &call.app.settings.worker_name,
        version: WORKER_VERSION,
        start_time: call.app.settings.started.unix(),
        ephemeral: false,
        state: "running",
    };
    json(StatusCode::OK, &[worker])
}

/// What changes a worker: this process's own cannot be landed, retired or pruned, and there is no other.
pub async fn change(permit: Permit, call: Call) -> Answer {
    if call.param("worker_name") != call.app.settings.worker_name {
        return Err(Failure::not_found());
    }
    if !permit.is_admin() {
        return Err(Failure::forbidden());
    }
    let text = "the worker in the server's own process ends with the server; stop that instead";
    match permit.action() {
        // The client shows this field of the answer, and nothing else of it.
        Action::PruneWorker => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "stderr": text })),
        _ => Err(Failure::conflict(text)),
    }
}

/// What Concourse's own workers and their gateway ask for, and this server never answers.
const OTHER_PROTOCOL: &str =
    "workers of Concourse do not fit this server: it runs steps itself, in Docker or in containers of its own making";

/// `RegisterWorker`
pub async fn register(_: Permit, _: Call) -> Answer {
    Err(Failure::text(StatusCode::FORBIDDEN, OTHER_PROTOCOL))
}

/// `HeartbeatWorker`
pub async fn heartbeat(_: Permit, _: Call) -> Answer {
    Err(Failure::bad_request(OTHER_PROTOCOL))
}

/// `DeleteWorker`
pub async fn delete(_: Permit, _: Call) -> Answer {
    Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, OTHER_PROTOCOL))
}

/// `ListDestroyingContainers`, `ListDestroyingVolumes`: a worker asks what it should remove.
pub async fn destroying(permit: Permit, call: Call) -> Answer {
    let unnamed = permit.is_admin() && call.query.get("worker_name").is_empty();
    let status = if unnamed { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
    Err(Failure::text(status, OTHER_PROTOCOL))
}

/// `ReportWorkerContainers`, `ReportWorkerVolumes`: a worker tells what it has.
pub async fn report(_: Permit, _: Call) -> Answer {
    Err(Failure::text(StatusCode::NOT_FOUND, OTHER_PROTOCOL))
}
