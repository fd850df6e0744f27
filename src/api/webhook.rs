//! Checks that whoever knows a resource's token may ask for.

use axum::http::StatusCode;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::resource::{find, planner, start_check};
use crate::base::error::{Error, Kind};
use crate::base::secret::Secret;
use crate::front::{Answer, App, Call, Failure, Permit, archived};
use crate::pipeline::Config;
use crate::secrets::{Asker, LookupError, Session};
use crate::store::resource::Resource;
use crate::vars::{Missing, interpolate, references};

/// `CheckResourceWebHook`
pub async fn webhook(permit: Permit, call: Call) -> Answer {
    let given = call.query.get("webhook_token");
    if given.is_empty() {
        return Err(Failure::bare(StatusCode::BAD_REQUEST));
    }
    // Without the token nobody learns whether there is such a resource.
    let resource = find(&permit, &call).await.map_err(|f| match f.status {
        StatusCode::NOT_FOUND => Failure::unauthenticated(),
        _ => f,
    })?;
    let expected = token(&call.app, &permit, &resource).await?;
    let known =
        expected.is_some_and(|t| !t.expose().is_empty() && t.expose().as_bytes().ct_eq(given.as_bytes()).into());
    if !known {
        return Err(Failure::unauthenticated());
    }
    if permit.pipeline()?.archived {
        return Err(archived());
    }
    let id = resource.id;
    let plan = move |config: &Config| Some(planner(config).check(&resource.config, None, true, true));
    start_check(&call.app, permit.pipeline()?.id, Some(id), None, plan).await
}

/// The resource's token, with its variables filled in as they are now. A caller is not told that they cannot be: the log is.
async fn token(app: &App, permit: &Permit, resource: &Resource) -> Result<Option<Secret<String>>, Failure> {
    let written = Value::String(resource.config.webhook_token.clone());
    let wanted: Vec<_> = references(&written).map_err(Error::internal)?.into_iter().collect();
    if wanted.is_empty() {
        return Ok(Some(Secret::new(resource.config.webhook_token.clone())));
    }
    let pipeline = permit.pipeline()?;
    let session = Session::new(Asker {
        team: permit.team()?,
        team_name: permit.team_name()?.to_owned(),
        pipeline: Some((pipeline.id, pipeline.name.clone())),
        instance_vars: pipeline.instance_vars.clone(),
        job: String::new(),
        build: None,
    });
    let unknown = |error: String| {
        tracing::warn!(error, pipeline = pipeline.name, resource = resource.name, "a webhook's token is not known");
        Ok(None)
    };
    match app.secrets.values(&session, &wanted).await {
        Ok(values) => match interpolate(&written, &values, Missing::Error) {
            Ok(Value::String(token)) => Ok(Some(Secret::new(token))),
            Ok(_) => unknown("its variable is no text".to_owned()),
            Err(error) => unknown(error.to_string()),
        },
        // Who sent it should try again, and is a stranger: what is wrong is for the log.
        Err(error @ LookupError::Source(_)) => {
            tracing::warn!(%error, pipeline = pipeline.name, resource = resource.name, "a webhook's token is not known");
            let error = Error::new(Kind::Unavailable, "the webhook's token cannot be looked up at this moment");
            Err(error.hint("try again in a minute").into())
        }
        Err(error) => unknown(error.to_string()),
    }
}
