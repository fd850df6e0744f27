//! `check-resource` and `check-resource-type`: looks for new versions now.

use reqwest::StatusCode;
use serde_json::Value;

use super::client::{ApiError, Status};
use super::failure::{Failure, Outcome};
use super::reference::{ResourceRef, VersionField, version};
use super::{Fly, render};

/// How to check.
#[derive(Debug, Clone, clap::Args)]
struct How {
    /// Version of the resource to check from, e.g. ref:abcd or path:thing-1.2.3.tgz
    #[arg(short, long, value_name = "VERSION")]
    from: Vec<VersionField>,
    /// Return the check without waiting for its result
    #[arg(short = 'a', long = "async")]
    background: bool,
    /// Check the resource itself only, not its types
    #[arg(long)]
    shallow: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `check-resource`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckResource {
    /// Name of a resource to check version for
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
    #[command(flatten)]
    how: How,
}

/// Arguments of `check-resource-type`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckResourceType {
    /// Name of a resource-type to check
    #[arg(short, long, value_name = "PIPELINE/RESOURCE-TYPE")]
    resource_type: ResourceRef,
    #[command(flatten)]
    how: How,
}

impl CheckResource {
    /// Checks it and shows the check.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.how.check(fly, "resource", &self.resource).await
    }
}

impl CheckResourceType {
    /// Checks it and shows the check.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.how.check(fly, "resource-type", &self.resource_type).await
    }
}

impl How {
    async fn check(self, fly: &Fly, kind: &str, of: &ResourceRef) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let from = (!self.from.is_empty()).then(|| Value::Object(version(&self.from)));
        let build = match team.check(&format!("{kind}s"), of, from, self.shallow).await {
            // A failing credential lookup and the like: the body is the whole story.
            Err(ApiError::Unexpected { status: Status(StatusCode::INTERNAL_SERVER_ERROR), body }) => {
                return Err(Failure::said(body));
            }
            other => other?,
        };
        let missing = || {
            let place = format!("pipeline '{}' or {kind} '{}' not found\n", of.pipeline, of.name);
            Failure::said(place).see(format!("get-pipeline -p {}", of.pipeline))
        };
        let build = build.ok_or_else(missing)?;
        fly.console.say(format!("checking {} in build {}", fly.console.bold(&of.to_string()), build.id))?;
        if self.background {
            return Ok(0);
        }
        render::follow(&session.client, fly.console, build.id, render::Options::default()).await
    }
}
