//! `sync`: says where a client of the target's version is. We are one binary with the server and replace no files.

use super::Fly;
use super::failure::{Failure, Outcome};
use super::target::Target;
use crate::base::CONCOURSE_VERSION;

/// Arguments of `sync`.
#[derive(Debug, Clone, clap::Args)]
pub struct Sync {
    /// Say it even if versions already match
    #[arg(short, long)]
    force: bool,
    /// Concourse URL to sync with
    #[arg(short, long, value_name = "URL")]
    concourse_url: Option<String>,
    /// Skip verification of the endpoint's SSL certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Path to Concourse PEM-encoded CA certificate file
    #[arg(long, value_name = "PATH")]
    ca_cert: Option<std::path::PathBuf>,
}

impl Sync {
    /// Compares versions.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = match (&fly.target, self.concourse_url) {
            (Some(_), _) => fly.saved()?,
            (None, Some(api)) => {
                let ca_cert = self.ca_cert.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
                fly.connect("dummy", Target { api, insecure: self.insecure, ca_cert, ..Target::default() })?
            }
            (None, None) => return Err(fly.target_name().err().unwrap_or_else(|| Failure::said("no target"))),
        };
        let server = &session.info().await?.version;
        if server == CONCOURSE_VERSION && !self.force {
            return fly.say(format!("version {server} already matches; skipping"));
        }
        fly.say(format!(
            "this client is of version {CONCOURSE_VERSION} and cannot replace itself; get version {server} from {}",
            session.client.outside("/api/v1/cli")
        ))
    }
}
