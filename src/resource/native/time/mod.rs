//! `time`: versions on an interval, or once in a range of the day.

mod moment;
mod source;
mod window;

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::base::version::Version;
use crate::resource::{Env, Failure, Native, Request, Response};
use moment::Moment;
use source::Source;
use window::Window;

/// The type itself.
#[derive(Debug)]
pub struct TimeType;

impl Native for TimeType {
    fn name(&self) -> &'static str {
        "time"
    }

    /// Two clocks with equal hands are still two: each resource ticks by itself.
    fn unique_history(&self) -> bool {
        true
    }

    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure> {
        let source = read(&request.source)?;
        source.validate().map_err(|err| Failure::Config(format!("running command: {err}")))?;
        let previous = previous(request)?;
        let now = Moment::new(env.now, source.zone());
        let mut versions: Vec<Version> = previous.iter().map(version).collect();
        if previous.is_none() && source.initial_version {
            return Ok(vec![version(&now)]);
        }
        if Window::new(&source).due(previous.as_ref().map(|m| m.instant), now.instant) {
            versions.push(version(&now));
        }
        Ok(versions)
    }

    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let source = read(&request.source)?;
        let given = previous(request)?;
        let moment = given.clone().unwrap_or_else(|| Moment::new(env.now, source::utc()));
        let shown = given.as_ref().map_or_else(|| moment::ZERO.to_owned(), Moment::rfc3339);
        let input = json!({"source": source.to_json(), "version": {"time": shown}});
        for (name, text) in [
            ("input", format!("{input}\n")),
            ("timestamp", moment.long()),
            ("epoch", moment.instant.as_second().to_string()),
        ] {
            fs::write(directory.join(name), text)
                .map_err(|err| Failure::Failed(format!("running command: creating {name} file: {err}")))?;
        }
        Ok(Response { version: version(&moment), metadata: Vec::new() })
    }

    fn put(&self, request: &Request, _directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let source = read(&request.source)?;
        Ok(Response { version: version(&Moment::new(env.now, source.zone())), metadata: Vec::new() })
    }
}

fn version(moment: &Moment) -> Version {
    Version::from([("time", moment.rfc3339().as_str())])
}

fn read(source: &Map<String, Value>) -> Result<Source, Failure> {
    Source::read(source).map_err(|err| Failure::Config(format!("parse error: {err}")))
}

/// The time of the request's version; Go's zero time counts as none.
fn previous(request: &Request) -> Result<Option<Moment>, Failure> {
    let Some(text) = request.version.as_ref().and_then(|v| v.0.get("time")) else { return Ok(None) };
    if text == moment::ZERO {
        return Ok(None);
    }
    Moment::parse(text).map(Some).ok_or_else(|| {
        Failure::Config(format!(
            "parse error: parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": give the version's time like 2006-01-02T15:04:05Z"
        ))
    })
}

#[cfg(test)]
mod tests;
