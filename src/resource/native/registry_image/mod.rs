//! `registry-image`, and `docker-image` as far as it checks and fetches: images from registries, without a container.
//!
//! Checks and gets of a root file system run in the server (see `exec::registry`), which shares layers. What is left for
//! a child of our own are the other formats, and putting.

pub mod check;
pub mod ecr;
pub mod get;
pub mod image;
pub mod put;
pub mod saved;
pub mod semver;
pub mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::version::Version;
use crate::resource::registry::client::Notice;
use crate::resource::registry::{Error, Result as Answer};
use crate::resource::{Env, Failure, Native, Request, Response};

pub use source::{GetParams, Kind, Source};

/// How long a check waits for a registry that is overloaded.
pub const CHECK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a get or put does.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// `registry-image`.
pub struct RegistryImage;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Invalid(text) => Failure::Config(text),
            other => Failure::Failed(other.to_string()),
        }
    }
}

/// Where waits are told while nobody else listens.
pub fn silent() -> Notice {
    Arc::new(|_| {})
}

/// Waits on a thread of its own kind until the future ends or the answer is no longer wanted.
fn wait<T>(env: &Env<'_>, future: impl Future<Output = Answer<T>>) -> Result<T, Failure> {
    let failed = |e: std::io::Error| Failure::Failed(format!("cannot start: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        tokio::pin!(future);
        loop {
            tokio::select! {
                answer = &mut future => return answer.map_err(Failure::from),
                _ = ticks.tick() => if (env.cancelled)() {
                    return Err(Failure::Failed("interrupted".to_owned()));
                },
            }
        }
    })
}

impl Native for RegistryImage {
    fn name(&self) -> &'static str {
        "registry-image"
    }

    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure> {
        let source = Source::read(Kind::Registry, &request.source)?;
        wait(env, check::check(Kind::Registry, &source, request.version.as_ref(), &env.registries, &silent()))
    }

    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        get::get(Kind::Registry, request, directory, env)
    }

    fn put(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        put::put(request, directory, env)
    }
}
