//! `pin-resource` and `unpin-resource`.

use reqwest::Method;
use serde_json::json;

use super::Fly;
use super::client::Found;
use super::enable_version::newest;
use super::failure::{Failure, Outcome};
use super::reference::{ResourceRef, VersionField};

/// Arguments of `pin-resource`.
#[derive(Debug, Clone, clap::Args)]
pub struct Pin {
    /// Name of the resource
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
    /// Fields of the version to pin; of several that have them, the newest
    #[arg(short, long, value_name = "KEY:VALUE")]
    version: Vec<VersionField>,
    /// Message to be saved to the pinned resource
    #[arg(short, long)]
    comment: Option<String>,
}

/// Arguments of `unpin-resource`.
#[derive(Debug, Clone, clap::Args)]
pub struct Unpin {
    /// Name of the resource
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
}

impl Pin {
    /// Holds the resource at a version, and notes why.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let (team, resource) = (session.own_team(), &self.resource);
        let comment = self.comment.as_deref().filter(|c| !c.is_empty());
        if self.version.is_empty() && comment.is_none() {
            return Err(Failure::said("the required flag `-v, --version' was not specified"));
        }
        if !self.version.is_empty() {
            let chosen = newest(&team, resource, &self.version).await?;
            let call = team.on_resource(Method::PUT, resource, &["versions", &chosen.id.to_string(), "pin"]);
            if call.done().await.found()?.is_none() {
                return Err(Failure::bare(format!("could not pin '{resource}', make sure the resource exists\n")));
            }
            fly.console.say(format!("pinned '{resource}' with version {}", json!(chosen.version)))?;
        }
        if let Some(comment) = comment {
            let call = team.on_resource(Method::PUT, resource, &["pin_comment"]).json(&json!({"pin_comment": comment}));
            if call.done().await.found()?.is_none() {
                return Err(Failure::bare(format!("could not save comment, make sure '{resource}' is pinned\n")));
            }
            fly.console.say(format!("pin comment '{comment}' is saved"))?;
        }
        Ok(0)
    }
}

impl Unpin {
    /// Lets it go on.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let resource = &self.resource;
        let call = session.own_team();
        match call.on_resource(Method::PUT, resource, &["unpin"]).done().await.found()? {
            Some(()) => fly.say(format!("unpinned '{resource}'")),
            None => Err(Failure::bare(format!("could not find resource '{resource}'\n"))),
        }
    }
}
