//! Checks that whoever knows a resource's token may ask for.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, sleep_until};

use super::resource::{find, planner, start_check};
use crate::base::error::Error;
use crate::base::secret::Secret;
use crate::front::{Answer, App, Call, Failure, Permit, archived};
use crate::pipeline::Config;
use crate::secrets::{Asker, Session};
use crate::store::resource::Resource;
use crate::vars::{Missing, interpolate, references};

/// How long a refusal takes at least. To look a token up takes longer than to find no resource, and a stranger must not
/// learn from that which there are; a source that is slower than this still tells, as long as it is.
const REFUSAL: Duration = Duration::from_millis(250);

/// `CheckResourceWebHook`: without the token nobody learns whether there is such a resource, nor what is wrong with it.
pub async fn webhook(permit: Permit, call: Call) -> Answer {
    if call.query.get("webhook_token").is_empty() {
        return Err(Failure::bare(StatusCode::BAD_REQUEST));
    }
    let began = Instant::now();
    let Some(resource) = known(&permit, &call).await? else {
        sleep_until(began + REFUSAL).await;
        return Err(Failure::unauthenticated());
    };
    if permit.pipeline()?.archived {
        return Err(archived());
    }
    let id = resource.id;
    let plan = move |config: &Config| Some(planner(config).check(&resource.config, None, true, true));
    start_check(&call.app, permit.pipeline()?.id, Some(id), None, plan).await
}

/// The resource, if there is one and the caller knows its token.
async fn known(permit: &Permit, call: &Call) -> Result<Option<Resource>, Failure> {
    let resource = match find(permit, call).await {
        Ok(resource) => resource,
        Err(failure) if failure.status == StatusCode::NOT_FOUND => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let (expected, given) = (token(&call.app, permit, &resource).await?, call.query.get("webhook_token"));
    let fits = |t: Secret<String>| !t.expose().is_empty() && t.expose().as_bytes().ct_eq(given.as_bytes()).into();
    Ok(expected.is_some_and(fits).then_some(resource))
}

/// The resource's token, with its variables filled in as they are now. A caller is not told that they cannot be, or that
/// their source is down: the log is.
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
        Err(error) => unknown(error.to_string()),
    }
}
