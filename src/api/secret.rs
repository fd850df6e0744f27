//! Secrets of a team: written, listed and removed; read back only where the operator allows it.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::error::{Error, Kind};
use crate::base::secret::Secret;
use crate::front::secret::{asker, asker_of_pipeline, failed, unwritten};
use crate::front::{Answer, Call, Failure, Permit, Query, empty, json};
use crate::secrets::idtoken::Purpose;
use crate::secrets::{LookupError, Session};
use crate::vars::Reference;

fn name(query: &Query) -> Result<&str, Failure> {
    match query.get("name") {
        "" => Err(Failure::bad_request("the secret's name is missing: add ?name=…")),
        name => Ok(name),
    }
}

/// `ListSecrets`
pub async fn list(permit: Permit, call: Call) -> Answer {
    let asker = asker(&permit, &Query::default())?;
    let mut all = call.app.secrets.list(&asker).await.map_err(|e| failed(&e))?;
    let pipeline = call.query.get("pipeline");
    // A source that knows paths only lists a pipeline's as `PIPELINE/NAME` of the team.
    let below = format!("{pipeline}/");
    all.retain(|l| pipeline.is_empty() || l.pipeline == pipeline || l.name.starts_with(&below));
    json(StatusCode::OK, &all)
}

#[derive(Deserialize)]
struct Given {
    value: Secret<String>,
}

/// `SaveSecret`: the name stands in the query, so that it is audited; the value in the body, so that it is not.
pub async fn save(permit: Permit, call: Call) -> Answer {
    let (app, asker, who) = (call.app.clone(), asker(&permit, &call.query)?, permit.user().to_owned());
    let name = name(&call.query)?.to_owned();
    let Given { value } = call.json().await?;
    let path = app.secrets.put(&asker, &name, &value, &who).await.map_err(|e| unwritten(&e))?;
    json(StatusCode::OK, &json!({"path": path.text, "source": app.secrets.global.source().name()}))
}

/// `DeleteSecret`
pub async fn delete(permit: Permit, call: Call) -> Answer {
    let asker = asker(&permit, &call.query)?;
    match call.app.secrets.delete(&asker, name(&call.query)?).await.map_err(|e| unwritten(&e))? {
        true => empty(StatusCode::NO_CONTENT),
        false => Err(Failure::not_found()),
    }
}

/// `GetSecret`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let secrets = &call.app.secrets;
    let source = secrets.global.source().name();
    if secrets.global.source().about().get("local").is_some() {
        let error = Error::new(Kind::Forbidden, format!("{source} never gives a value back"));
        return Err(Failure::from(error.hint("write it again, or print it in a build of yours")));
    }
    if !secrets.readable {
        let error = Error::new(Kind::Forbidden, "secrets are not read back here");
        return Err(Failure::from(error.hint("the operator allows it with --allow-secrets-get")));
    }
    let found = secrets.get(&asker(&permit, &call.query)?, name(&call.query)?).await.map_err(|e| failed(&e))?;
    let found = found.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &json!({"value": found.value.expose()}))
}

/// `ExplainSecret`
pub async fn explain(permit: Permit, call: Call) -> Answer {
    let asker = asker_of_pipeline(&call.app, &permit, &call.query).await?;
    let reference = Reference::parse(name(&call.query)?).map_err(|e| Failure::bad_request(e.to_string()))?;
    json(StatusCode::OK, &call.app.secrets.explain(&Session::new(asker), &reference).await)
}

#[derive(Serialize)]
struct UseJson {
    build: i64,
    build_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pipeline: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    job: String,
    path: String,
    at: i64,
}

/// `ListSecretUses`: which builds were given a secret, by its name or its path.
pub async fn uses(permit: Permit, call: Call) -> Answer {
    const MOST: i64 = 1000;
    let (team, name) = (permit.team()?, name(&call.query)?.to_owned());
    let uses = call.app.store.read(move |tx| tx.secret_uses(team, &name, MOST)).await?;
    let uses: Vec<UseJson> = uses
        .into_iter()
        .map(|u| UseJson {
            build: u.build.0,
            build_name: u.build_name,
            pipeline: u.pipeline,
            job: u.job,
            path: u.path,
            at: u.at.unix(),
        })
        .collect();
    json(StatusCode::OK, &uses)
}

/// `RotateTeamUser`: the team's own user gets a new password, which only `((readonly_local_user_password))` tells.
pub async fn rotate_user(permit: Permit, call: Call) -> Answer {
    let rotated = call.app.secrets.platform.rotate_team_user(permit.team()?).await;
    rotated.map_err(|e| failed(&LookupError::Source(e)))?;
    empty(StatusCode::NO_CONTENT)
}

/// `RotateSecretsKey`: everything that is sealed is sealed with a new key.
pub async fn rotate_key(_: Permit, call: Call) -> Answer {
    let count = call.app.secrets.rotate_key().await.map_err(Failure::conflict)?;
    json(StatusCode::OK, &json!({"sealed": count, "key": call.app.secrets.keys.current()}))
}

/// `GetOpenIDConfiguration`
pub async fn discovery(_: Permit, call: Call) -> Answer {
    json(StatusCode::OK, &call.app.secrets.issuer.discovery())
}

/// `GetSigningKeys`
pub async fn key_set(_: Permit, call: Call) -> Answer {
    json(StatusCode::OK, &call.app.secrets.issuer.key_set(Purpose::Builds).await.map_err(Error::internal)?)
}
