//! The installation: health, log level, the wall, people.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component;
use crate::base::clock::Time;
use crate::base::error::Error;
use crate::front::{Answer, Call, Failure, Permit, empty, json, text};

/// The time as Go writes it.
pub(super) fn rfc3339(time: Time) -> String {
    Timestamp::from_millisecond(time.0).map_or_else(|_| String::new(), |t| t.to_string())
}

#[derive(Serialize)]
struct HealthJson {
    status: &'static str,
    timestamp: String,
    database: DatabaseJson,
    workers: WorkersJson,
    components: Vec<component::Health>,
}

#[derive(Serialize)]
struct DatabaseJson {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct WorkersJson {
    status: &'static str,
    total: u32,
    running: u32,
}

/// `GetHealth`: 503 if the database does not answer.
pub async fn health(_: Permit, call: Call) -> Answer {
    let (now, database) = (call.app.clock.now(), call.app.store.read(|tx| tx.components()).await);
    let (status, code) = match &database {
        Ok(_) => ("ok", StatusCode::OK),
        Err(_) => ("failing", StatusCode::SERVICE_UNAVAILABLE),
    };
    let (components, error) = match database {
        Ok(components) => (components, None),
        Err(e) => (Vec::new(), Some(e.to_string())),
    };
    let health = HealthJson {
        status,
        timestamp: rfc3339(now),
        database: DatabaseJson { status, error },
        workers: WorkersJson { status: "ok", total: 1, running: 1 },
        components: components.iter().map(|c| component::Health::of(c, now)).collect(),
    };
    json(code, &health)
}

/// `GetLogLevel`
pub async fn log_level(_: Permit, call: Call) -> Answer {
    text(StatusCode::OK, call.app.log_level.get())
}

/// Concourse's levels, and `warn`.
const LEVELS: [&str; 5] = ["debug", "info", "warn", "error", "fatal"];

/// `SetLogLevel`: the level is the body.
pub async fn set_log_level(_: Permit, call: Call) -> Answer {
    let app = call.app.clone();
    let level = String::from_utf8_lossy(&call.bytes().await?).into_owned();
    if !LEVELS.contains(&level.as_str()) {
        let text = format!("{level:?} is no level of a log; use debug, info, warn, error or fatal");
        return Err(Failure::bad_request(text));
    }
    app.log_level.set(&level).map_err(Failure::bad_request)?;
    empty(StatusCode::OK)
}

/// What the wall says: kept as one setting.
#[derive(Serialize, Deserialize)]
struct Wall {
    message: String,
    /// When it ends; never if there is none.
    expires: Option<Time>,
}

#[derive(Default, Serialize, Deserialize)]
struct WallJson {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    /// Nanoseconds.
    #[serde(default, rename = "TTL", skip_serializing_if = "is_zero")]
    ttl: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// `GetWall`
pub async fn wall(_: Permit, call: Call) -> Answer {
    let stored = call.app.store.read(|tx| tx.setting("wall")).await?;
    let wall: Option<Wall> = stored.map(|t| serde_json::from_str(&t)).transpose().map_err(Error::internal)?;
    let now = call.app.clock.now();
    let shown = match wall {
        Some(Wall { message, expires: None }) => WallJson { message, ttl: 0 },
        Some(Wall { message, expires: Some(end) }) if end > now => {
            WallJson { message, ttl: i64::try_from(end.since(now).as_nanos()).unwrap_or(i64::MAX) }
        }
        _ => WallJson::default(),
    };
    json(StatusCode::OK, &shown)
}

/// `SetWall`
pub async fn set_wall(_: Permit, call: Call) -> Answer {
    let app = call.app.clone();
    let WallJson { message, ttl } = call.lenient_json().await?;
    if message.is_empty() {
        return Err(Failure::bad_request("Wall message cannot be empty"));
    }
    let expires = (ttl > 0).then(|| app.clock.now().plus(std::time::Duration::from_nanos(ttl.unsigned_abs())));
    let wall = serde_json::to_string(&Wall { message, expires }).map_err(Error::internal)?;
    app.store.write(move |tx| tx.set_setting("wall", &wall)).await?;
    empty(StatusCode::OK)
}

/// `ClearWall`
pub async fn clear_wall(_: Permit, call: Call) -> Answer {
    call.app.store.write(|tx| tx.clear_setting("wall")).await?;
    empty(StatusCode::OK)
}

#[derive(Serialize)]
struct UserJson<'u> {
    id: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'u str,
    #[serde(skip_serializing_if = "str::is_empty")]
    connector: &'u str,
    last_login: i64,
}

/// `ListActiveUsersSince`
pub async fn users(_: Permit, call: Call) -> Answer {
    let since = match call.query.get("since") {
        "" => Time(0),
        date => {
            let start = date.parse().and_then(|d: jiff::civil::Date| d.to_zoned(jiff::tz::TimeZone::UTC));
            let Ok(start) = start else {
                let told = serde_json::json!({ "error": "wrong date format (yyyy-mm-dd)" });
                return json(StatusCode::BAD_REQUEST, &told);
            };
            Time(start.timestamp().as_millisecond())
        }
    };
    let users = call.app.store.read(move |tx| tx.users_since(since)).await?;
    let shown = users.iter().map(|u| UserJson {
        id: u.id,
        username: &u.username,
        connector: &u.connector,
        last_login: u.last_login.unix(),
    });
    json(StatusCode::OK, &shown.collect::<Vec<_>>())
}
