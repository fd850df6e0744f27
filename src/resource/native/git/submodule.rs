//! Submodules of a fetched repository.

use std::ffi::OsString;
use std::path::Path;

use regex::Regex;

use super::fetch::{Params, Submodules};
use super::session::{Call, Session};
use super::source::{Source, SubmoduleLogin};
use crate::resource::Failure;

struct Submodule {
    path: String,
    url: String,
}

/// Submodules within submodules, at most.
const DEEPEST: usize = 64;

/// Fetches the submodules that are asked for.
pub fn update(session: &mut Session<'_, '_>, source: &Source, params: &Params, dir: &Path) -> Result<(), Failure> {
    level(session, (source, params), &params.submodules, dir, 0)
}

/// Those of one repository, then theirs. Not left to git, which would look at no address before it goes there.
fn level(
    session: &mut Session<'_, '_>,
    (source, params): (&Source, &Params),
    which: &Submodules,
    dir: &Path,
    depth: usize,
) -> Result<(), Failure> {
    if depth > DEEPEST {
        return Err(Failure::Failed(format!("submodules nest deeper than {DEEPEST} levels")));
    }
    let mut all = Vec::new();
    for submodule in list(session, dir)? {
        if wanted(which, &submodule.path)? {
            session.may_reach(&submodule.url)?;
            all.push(submodule);
        }
    }
    for submodule in all {
        let below = dir.join(&submodule.path);
        if below.symlink_metadata().is_err() {
            session.say(&format!("\x1b[31mwarning: skipping missing submodule: {}\x1b[0m", submodule.path))?;
            continue;
        }
        let vars = vars(session, source, &submodule.url)?;
        fetch(session, params, dir, &submodule.path, vars)?;
        if params.submodule_recursive && below.join(".git").exists() {
            level(session, (source, params), &Submodules::All, &below, depth + 1)?;
        }
    }
    Ok(())
}

fn list(session: &mut Session<'_, '_>, dir: &Path) -> Result<Vec<Submodule>, Failure> {
    let read = |key: &str| ["config", "--file", ".gitmodules", "-z", "--get-regexp", key].map(str::to_owned);
    let paths = session.run(&Call::new(dir, &read(r"^submodule\..*\.path$")))?.stdout;
    let urls = session.run(&Call::new(dir, &read(r"^submodule\..*\.url$")))?.stdout;
    let pairs = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split('\0').filter_map(|entry| entry.split_once('\n'));
        pairs.map(|(k, v)| (k.rsplit_once('.').map_or(k, |(name, _)| name).to_owned(), v.to_owned())).collect()
    };
    let urls = pairs(&urls);
    let url = |name: &str| urls.iter().find(|(n, _)| n == name).map(|(_, url)| url.clone()).unwrap_or_default();
    Ok(pairs(&paths).into_iter().map(|(name, path)| Submodule { url: url(&name), path }).collect())
}

fn wanted(submodules: &Submodules, path: &str) -> Result<bool, Failure> {
    let Submodules::Paths(patterns) = submodules else { return Ok(true) };
    for pattern in patterns {
        let regex = Regex::new(&format!("{pattern}$"))
            .map_err(|err| Failure::Config(format!("invalid params.submodules: {err}")))?;
        if regex.is_match(path) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The key that the source names for just this address.
fn vars(session: &Session<'_, '_>, source: &Source, url: &str) -> Result<Vec<(OsString, OsString)>, Failure> {
    let key = source.submodules.iter().find_map(|login| match login {
        SubmoduleLogin::Url { url: of, key } if of == url => Some(key),
        _ => None,
    });
    match key {
        None => Ok(Vec::new()),
        Some(key) => session
            .ssh("submodule", Some(key), None)
            .map_err(|err| Failure::Failed(format!("cannot prepare git: {err}"))),
    }
}

fn fetch(
    session: &mut Session<'_, '_>,
    params: &Params,
    dir: &Path,
    path: &str,
    vars: Vec<(OsString, OsString)>,
) -> Result<(), Failure> {
    let args = |depth: usize| {
        let mut args = vec!["submodule".to_owned(), "update".into(), "--init".into()];
        // A shallow submodule may have to ask for a commit that is not the newest of its branch.
        args.push(if depth > 0 { format!("--depth={depth}") } else { "--no-fetch".into() });
        args.extend(params.submodule_remote.then(|| "--remote".into()));
        args.extend(["--".into(), path.to_owned()]);
        args
    };
    let call = |depth| Call { vars: vars.clone(), ..Call::new(dir, &args(depth)).network().shown() };
    if params.depth == 0 || params.submodule_remote {
        return session.must(&call(0)).map(drop);
    }
    if session.run(&call(params.depth))?.ok {
        return Ok(());
    }
    session.say("Could not fetch a shallow submodule, falling back to a deep one...")?;
    let below = dir.join(path);
    let unshallow =
        Call { vars: vars.clone(), ..Call::new(&below, &["fetch", "--unshallow", "origin"]).network().shown() };
    // Without a repository of its own this would be about the one above.
    if below.join(".git").exists() {
        session.run(&unshallow)?;
    }
    session.must(&call(0)).map(drop)
}
