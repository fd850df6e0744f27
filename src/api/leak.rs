//! When a secret leaked: which a build was given, who could have seen its log, and taking it out of the log.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::base::secret::Secret;
use crate::front::secret::{delete_log, redact_log};
use crate::front::{Answer, Call, Failure, Permit, empty, json};

/// `ListBuildSecrets`: names and paths, never values; and who may read the build's log now.
pub async fn secrets(permit: Permit, call: Call) -> Answer {
    let (id, team) = (permit.build()?, permit.team()?);
    let read = call.app.store.read(move |tx| {
        let teams = tx.teams_with_auth()?;
        Ok((tx.secrets_of_build(id)?, tx.build_access(id)?, teams))
    });
    let (secrets, access, teams) = read.await?;
    let access = access.ok_or_else(Failure::not_found)?;
    let own: Vec<_> = teams.iter().filter(|t| t.id == team).map(|t| json!({"team": t.name, "auth": t.auth})).collect();
    let admins: Vec<_> = teams.iter().filter(|t| t.admin).map(|t| json!({"team": t.name, "auth": t.auth})).collect();
    let secrets: Vec<_> = secrets.into_iter().map(|(name, path)| json!({"name": name, "path": path})).collect();
    let everybody = access.exposed && access.public_job;
    json(
        StatusCode::OK,
        &json!({
            "secrets": secrets,
            "readers": {"everybody": everybody, "members": own, "administrators": admins},
        }),
    )
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// Texts to take out, in all their encodings.
    texts: Vec<Secret<String>>,
}

/// `RedactBuildLog`
pub async fn redact(permit: Permit, call: Call) -> Answer {
    let app = call.app.clone();
    let body = call.bytes().await?;
    let wanted: Wanted = match body.is_empty() {
        true => Wanted::default(),
        false => {
            serde_json::from_slice(&body).map_err(|_| Failure::bad_request("the body must be {\"texts\": [\"…\"]}"))?
        }
    };
    let events = redact_log(&app, &permit, &wanted.texts).await?;
    json(StatusCode::OK, &json!({"events": events}))
}

/// `DeleteBuildLog`
pub async fn delete(permit: Permit, call: Call) -> Answer {
    delete_log(&call.app, &permit).await?;
    empty(StatusCode::NO_CONTENT)
}
