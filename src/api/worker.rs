//! Workers: the one in this process.

use axum::http::StatusCode;
use serde::Serialize;

use crate::base::WORKER_VERSION;
use crate::front::{Answer, Call, Failure, Permit, json};

#[derive(Serialize)]
struct WorkerJson<'w> {
    addr: &'static str,
    baggageclaim_url: &'static str,
    active_containers: i64,
    active_volumes: i64,
    active_tasks: i64,
    resource_types: Vec<TypeJson<'w>>,
    platform: &'static str,
    tags: (),
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
    let worker = WorkerJson {
        addr: "",
        baggageclaim_url: "",
        active_containers,
        active_volumes,
        active_tasks,
        resource_types: types.collect(),
        platform: "linux",
        tags: (),
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
pub async fn change(_: Permit, call: Call) -> Answer {
    if call.param("worker_name") == call.app.settings.worker_name {
        let text = "the worker in the server's own process ends with the server; stop that instead";
        return Err(Failure::conflict(text));
    }
    Err(Failure::not_found())
}
