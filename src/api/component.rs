//! The parts of the server that work by themselves: listed, paused, and let go on.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;

use super::installation::rfc3339;
use crate::engine::component::named;
use crate::front::{Answer, App, Call, Failure, Permit, empty, json};
use crate::store::component::Component;

#[derive(Serialize)]
struct ComponentJson<'c> {
    name: &'c str,
    interval: i64,
    last_ran: String,
    paused: bool,
}

impl<'c> ComponentJson<'c> {
    fn new(c: &'c Component) -> ComponentJson<'c> {
        ComponentJson {
            name: &c.name,
            interval: i64::try_from(c.interval.as_nanos()).unwrap_or(i64::MAX),
            last_ran: rfc3339(c.last_ran),
            paused: c.paused,
        }
    }
}

/// `GetComponents`
pub async fn list(_: Permit, call: Call) -> Answer {
    let all = call.app.store.read(|tx| tx.components()).await?;
    json(StatusCode::OK, &all.iter().map(ComponentJson::new).collect::<Vec<_>>())
}

/// `PauseAllComponents`
pub async fn pause_all(_: Permit, call: Call) -> Answer {
    set(&call.app, None, true).await
}

/// `UnpauseAllComponents`
pub async fn unpause_all(_: Permit, call: Call) -> Answer {
    set(&call.app, None, false).await
}

/// `PauseComponent`
pub async fn pause(_: Permit, call: Call) -> Answer {
    set(&call.app, Some(call.param("component_name")), true).await
}

/// `UnpauseComponent`
pub async fn unpause(_: Permit, call: Call) -> Answer {
    set(&call.app, Some(call.param("component_name")), false).await
}

async fn set(app: &App, name: Option<&str>, paused: bool) -> Answer {
    let name = name.map(|n| named(n).to_owned());
    let one = name.is_some();
    let found = app.store.write(move |tx| tx.pause_components(name.as_deref(), paused)).await?;
    if one && found == 0 {
        return Err(Failure::not_found());
    }
    app.wakes.all();
    empty(StatusCode::OK)
}

/// How a component does: it should have looked within some of its intervals.
#[derive(Serialize)]
pub(super) struct Health {
    name: String,
    status: &'static str,
    paused: bool,
    last_ran: String,
}

impl Health {
    /// As of now. A busy pass may take its time; one that is paused is as it should be.
    pub fn of(c: &Component, now: crate::base::clock::Time) -> Health {
        let late = now.since(c.last_ran) > 2 * c.interval + Duration::from_secs(120);
        let status = if late && !c.paused { "unhealthy" } else { "ok" };
        Health { name: c.name.clone(), status, paused: c.paused, last_ran: rfc3339(c.last_ran) }
    }
}
