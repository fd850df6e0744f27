//! Workers: the one in this process.

use axum::http::StatusCode;
use serde::Serialize;

use super::show::container::WORKER;
use crate::base::WORKER_VERSION;
use crate::front::{Answer, Call, Failure, Permit, json};

#[derive(Serialize)]
struct WorkerJson {
    addr: &'static str,
    baggageclaim_url: &'static str,
    active_containers: i64,
    active_volumes: i64,
    active_tasks: i64,
    resource_types: Vec<TypeJson>,
    platform: &'static str,
    tags: (),
    team: &'static str,
    name: &'static str,
    version: &'static str,
    start_time: i64,
    ephemeral: bool,
    state: &'static str,
}

#[derive(Serialize)]
struct TypeJson {
    #[serde(rename = "type")]
    kind: String,
    image: String,
    version: String,
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
    let types = call.app.settings.resource_types.iter().map(|kind| TypeJson {
        kind: kind.clone(),
        image: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        privileged: false,
        unique_version_history: false,
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
        name: WORKER,
        version: WORKER_VERSION,
        start_time: call.app.settings.started.unix(),
        ephemeral: false,
        state: "running",
    };
    json(StatusCode::OK, &[worker])
}

/// What changes a worker: this process's own cannot be landed, retired or pruned, and there is no other.
pub async fn change(_: Permit, call: Call) -> Answer {
    if call.param("worker_name") == WORKER {
        let text = "the worker in the server's own process ends with the server; stop that instead";
        return Err(Failure::conflict(text));
    }
    Err(Failure::not_found())
}
