//! What this server is.

use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::base::{CONCOURSE_VERSION, REAL_VERSION, WORKER_VERSION};
use crate::front::{Answer, Call, Permit, json};

#[derive(Serialize)]
struct Info<'a> {
    version: &'a str,
    worker_version: &'static str,
    feature_flags: Features,
    #[serde(skip_serializing_if = "str::is_empty")]
    external_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster_name: &'a str,
}

#[derive(Serialize)]
struct Features {
    build_rerun: bool,
    cache_streamed_volumes: bool,
    global_resources: bool,
    resource_causality: bool,
}

/// `GetInfo`: the client compares versions with it before anything else.
pub async fn info(_: Permit, call: Call) -> Answer {
    let settings = &call.app.settings;
    let mut answer = json(
        StatusCode::OK,
        &Info {
            version: &settings.concourse_version,
            worker_version: WORKER_VERSION,
            feature_flags: Features {
                build_rerun: false,
                cache_streamed_volumes: true,
                global_resources: settings.global_resources,
                resource_causality: true,
            },
            external_url: &settings.external_url,
            cluster_name: &settings.cluster_name,
        },
    )?;
    // Our own client goes by what the server is, and not by whom it speaks as.
    answer.headers_mut().insert(REAL_VERSION, HeaderValue::from_static(CONCOURSE_VERSION));
    Ok(answer)
}

/// `GetInfoCreds`: which credential manager is configured, how, and whether it answers. No secrets.
pub async fn creds(_: Permit, call: Call) -> Answer {
    let source = call.app.secrets.global.source();
    let mut about = source.about();
    let health = match source.health().await {
        Ok(()) => serde_json::json!({"response": {"status": "UP"}}),
        Err(error) => serde_json::json!({"error": error.to_string()}),
    };
    if let Some(manager) = about.as_object_mut().and_then(|a| a.values_mut().next()).and_then(|m| m.as_object_mut()) {
        manager.insert("health".to_owned(), health);
    }
    json(StatusCode::OK, &about)
}
