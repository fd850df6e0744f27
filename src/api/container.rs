//! Containers and volumes of a team.

use axum::http::StatusCode;

use super::show::container::{ContainerJson, VolumeJson};
use crate::front::{Answer, Call, Failure, Permit, Query, instance_vars, json};
use crate::store::show::container::ContainerView;

/// `ListContainers`: each parameter of the query that is given must match.
pub async fn list(permit: Permit, call: Call) -> Answer {
    let team = permit.team()?;
    let vars = instance_vars(&call.query)?;
    understood(&call.query)?;
    let (all, now) = (call.app.store.read(move |tx| tx.container_views(team)).await?, call.app.clock.now());
    let worker = &call.app.settings.worker_name;
    let shown = all.iter().filter(|c| matches(c, &call.query, &vars)).map(|c| ContainerJson::new(c, worker, now));
    json(StatusCode::OK, &shown.collect::<Vec<_>>())
}

/// Refuses what could match nothing.
fn understood(query: &Query) -> Result<(), Failure> {
    let kind = query.get("type");
    if !matches!(kind, "" | "check" | "get" | "put" | "task" | "run") {
        return Err(Failure::bad_request(format!("unrecognized containerType: {kind}\n")));
    }
    for name in ["pipeline_id", "job_id", "build_id"] {
        let id = query.get(name);
        if kind != "check" && !id.is_empty() && id.parse::<i64>().is_err() {
            return Err(Failure::bad_request(format!(
                "non-numeric '{name}' param ({id}): it is the number of a row\n"
            )));
        }
    }
    Ok(())
}

fn matches(view: &ContainerView, query: &Query, vars: &str) -> bool {
    let (c, place) = (&view.container, &view.place);
    let text = |name: &str, value: Option<&str>| query.get(name).is_empty() || value == Some(query.get(name));
    let check = query.get("type") == "check";
    let id = place.build_id.map(|b| b.to_string());
    let (pipeline_id, job_id) = (place.pipeline_id.map(|p| p.to_string()), place.job_id.map(|j| j.to_string()));
    let build_name = if c.kind == "check" { Some("check") } else { place.build_name.as_deref() };
    let instance = place
        .pipeline_instance_vars
        .as_ref()
        .map(|v| crate::base::version::canonical_json(&serde_json::Value::Object(v.clone())));
    text("type", Some(&c.kind))
        && text("step_name", Some(&c.step_name))
        && text("attempt", Some(&c.attempt))
        && text("pipeline_name", place.pipeline_name.as_deref())
        && text("job_name", place.job_name.as_deref())
        && text("pipeline_id", pipeline_id.as_deref())
        && text("job_id", job_id.as_deref())
        && text("build_id", id.as_deref())
        && text("build_name", build_name)
        && (!check || text("resource_name", place.resource_name.as_deref()))
        && (vars.is_empty() || instance.as_deref() == Some(vars))
}

/// `GetContainer`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let (team, handle) = (permit.team()?, call.param("id").to_owned());
    let found = call.app.store.read(move |tx| tx.container_view(team, &handle)).await?;
    let view = found.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &ContainerJson::new(&view, &call.app.settings.worker_name, call.app.clock.now()))
}

/// `ListVolumes`
pub async fn volumes(permit: Permit, call: Call) -> Answer {
    let team = permit.team()?;
    let volumes = call.app.store.read(move |tx| tx.volume_views(team)).await?;
    json(StatusCode::OK, &volumes.iter().map(|v| VolumeJson::new(v, &call.app.settings)).collect::<Vec<_>>())
}
