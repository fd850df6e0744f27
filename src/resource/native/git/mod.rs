//! `git`: commits of a branch, or tags, over the machine's own `git`.
//!
//! Options, versions, files and metadata are those of Concourse's type. Two things differ, since git runs on the
//! server here: settings and repositories that could make it run programs are not used (see [`settings`] and
//! [`push`]), and passwords go neither into addresses nor onto command lines.

mod address;
mod artifact;
mod check;
mod describe;
mod fetch;
mod local;
mod process;
mod push;
mod reach;
mod relay;
mod session;
mod settings;
mod signature;
mod source;
mod submodule;

use std::path::{Path, PathBuf};

use crate::base::version::Version;
use crate::resource::{Env, Failure, Native, Request, Response};
use session::Session;
use source::{Members, Source};

/// The type itself.
#[derive(Debug)]
pub struct Git;

impl Native for Git {
    fn name(&self) -> &'static str {
        "git"
    }

    fn program(&self) -> Option<&'static str> {
        Some("git")
    }

    fn changes(&self, request: &Request) -> Vec<PathBuf> {
        let uri = request.source.get("uri").and_then(|uri| uri.as_str()).unwrap_or_default();
        local::path(uri).map(|path| local::places(&path)).unwrap_or_default()
    }

    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure> {
        source::refuse_unknown(&request.source, source::KEYS, "source")?;
        let source = source(request, env)?;
        let from = request.version.as_ref().and_then(|v| v.0.get("ref")).filter(|r| !r.is_empty()).cloned();
        let from = from.map(|r| source::word("version.ref", r)).transpose()?;
        check::check(&mut Session::open(&source, env)?, &source, from.as_deref())
    }

    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let source = source(request, env)?;
        let params = fetch::Params::read(request)?;
        fetch::get(&mut Session::open(&source, env)?, &source, &params, directory)
    }

    fn put(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let source = source(request, env)?;
        let params = push::Params::read(&source, Members(request.params.as_ref()))?;
        push::put(&mut Session::open(&source, env)?, &source, &params, directory)
    }
}

/// The configuration, if it leads nowhere that is denied.
fn source(request: &Request, env: &Env<'_>) -> Result<Source, Failure> {
    let source = Source::read(&request.source, env.allow_local)?;
    if source.address.transport == address::Transport::Local && local::path(&source.address.url).is_none() {
        return Err(Failure::Config("source.uri is a path from nowhere: write it whole, as /srv/project.git".into()));
    }
    reach::checked(source, &env.registries.outgoing)
}

#[cfg(test)]
mod tests;
