//! When a secret leaked: which a build was given, who could have seen its log, and taking it out of the log.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::auth::Role;
use crate::base::secret::Secret;
use crate::front::secret::{Reader, delete_log, exposure, redact_log};
use crate::front::{Answer, Call, Failure, Permit, empty, json};
use crate::store::show::access::TeamAccess;

/// `ListBuildSecrets`: names and paths, never values; and who may read the build's log now. Who belongs to another team
/// is that team's business: members are told that there are administrators, not by which rule.
pub async fn secrets(permit: Permit, call: Call) -> Answer {
    let (team, exposure) = (permit.team()?, exposure(&call.app, &permit).await?);
    let known = |t: &TeamAccess| permit.is_admin() || permit.has(&t.name, Role::Viewer);
    let shown = |t: &TeamAccess| match known(t) {
        true => json!({"team": t.name, "auth": t.auth}),
        false => json!({"team": t.name}),
    };
    let teams = |wanted: &dyn Fn(&TeamAccess) -> bool| -> Vec<_> {
        exposure.teams.iter().filter(|t| wanted(t)).map(shown).collect()
    };
    let secrets: Vec<_> = exposure.secrets.iter().map(|(name, path)| json!({"name": name, "path": path})).collect();
    let person =
        |p: &Reader| json!({"name": p.name, "connector": p.connector, "role": p.role, "last_seen": p.seen.unix()});
    json(
        StatusCode::OK,
        &json!({
            "secrets": secrets,
            "readers": {
                "everybody": exposure.everybody,
                "members": teams(&|t| t.id == team),
                "administrators": teams(&|t| t.admin),
                "people": exposure.people.iter().map(person).collect::<Vec<_>>(),
            },
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
