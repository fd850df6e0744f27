//! `enable-resource-version` and `disable-resource-version`.

use reqwest::Method;
use serde_json::{Value, json};

use super::Fly;
use super::client::Found;
use super::failure::{Failure, Outcome};
use super::reference::{ResourceRef, VersionField, version};
use super::shapes::ResourceVersion;
use super::team::Team;

/// Which version of which resource.
#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// Name of the resource
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
    /// Fields of the version; of several that have them, the newest
    #[arg(short, long, value_name = "KEY:VALUE", required = true)]
    version: Vec<VersionField>,
}

/// Arguments of `enable-resource-version`.
#[derive(Debug, Clone, clap::Args)]
pub struct Enable {
    #[command(flatten)]
    of: Which,
}

/// Arguments of `disable-resource-version`.
#[derive(Debug, Clone, clap::Args)]
pub struct Disable {
    #[command(flatten)]
    of: Which,
}

impl Enable {
    /// Lets jobs use it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "enable", true).await
    }
}

impl Disable {
    /// Keeps jobs from using it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.of.change(fly, "disable", false).await
    }
}

impl Which {
    async fn change(self, fly: &Fly, verb: &str, on: bool) -> Outcome {
        let session = fly.session().await?;
        let (team, resource) = (session.own_team(), &self.resource);
        let chosen = newest(&team, resource, &self.version).await?;
        if chosen.enabled != on {
            let call = team.on_resource(Method::PUT, resource, &["versions", &chosen.id.to_string(), verb]);
            if call.done().await.found()?.is_none() {
                let text = format!("could not {verb} '{resource}', make sure the resource version exists\n");
                return Err(Failure::bare(text));
            }
        }
        fly.say(format!("{verb}d '{resource}' with version {}", json!(chosen.version)))
    }
}

/// The newest version with all these fields.
pub async fn newest(
    team: &Team<'_>,
    resource: &ResourceRef,
    fields: &[VersionField],
) -> Result<ResourceVersion, Failure> {
    let wanted = version(fields);
    let versions = team.versions(resource, &wanted).await?.unwrap_or_default();
    let missing = || {
        Failure::said(format!("could not find version matching {}", Value::Object(wanted)))
            .see(format!("resource-versions -r {resource}"))
    };
    versions.into_iter().next().ok_or_else(missing)
}
