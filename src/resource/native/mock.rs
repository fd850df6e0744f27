//! `mock`: a type without an outside world, for trying pipelines and for tests.
//!
//! Requests with members it does not know are refused, as the original refuses them. Log lines look like those
//! of the original, colours included, since people and tests compare build logs.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::mirror;
use crate::base::duration;
use crate::base::version::{MetadataField, Version};
use crate::resource::contained::directory as script_directory;
use crate::resource::{Env, Failure, Mirror, Native, Request, Response, Script};

/// How often a delay looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    mirror_self: bool,
    initial_version: String,
    no_initial_version: bool,
    force_version: String,
    create_files: Map<String, Value>,
    check_delay: String,
    check_failure: String,
    metadata: Option<Vec<MetadataField>>,
    log: String,
}

const SOURCE_KEYS: &[&str] = &[
    "mirror_self",
    "initial_version",
    "no_initial_version",
    "force_version",
    "create_files",
    "check_delay",
    "check_failure",
    "metadata",
    "log",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GetParams {
    mirror_self_via_params: bool,
    create_files_via_params: Map<String, Value>,
}

const GET_KEYS: &[&str] = &["mirror_self_via_params", "create_files_via_params"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PutParams {
    version: String,
    print_env: bool,
    file: String,
}

const PUT_KEYS: &[&str] = &["version", "print_env", "file"];

/// The type itself.
#[derive(Debug)]
pub struct Mock;

impl Native for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn mirrors_itself(&self, request: &Request) -> bool {
        let asks = |given: &Map<String, Value>, key: &str| given.get(key) == Some(&Value::Bool(true));
        asks(&request.source, "mirror_self")
            || request.params.as_ref().is_some_and(|p| asks(p, "mirror_self_via_params"))
    }

    fn check(&self, request: &Request, env: &mut Env<'_>) -> Result<Vec<Version>, Failure> {
        let mut log = Log::start();
        let source: Source = log.decode(Some(&request.source), SOURCE_KEYS)?;
        log.known_version(request.version.as_ref())?;
        log.greet(&source, env)?;
        if !source.check_delay.is_empty() {
            let delay = duration::parse(&source.check_delay)
                .map_err(|err| log.fatal(&format!("malformed check_delay duration ({}): {err}", source.check_delay)))?;
            wait(delay, env);
        }
        if !source.check_failure.is_empty() {
            return Err(log.fatal(&format!("intentionally failing to check: {}", source.check_failure)));
        }
        let version = if !source.force_version.is_empty() {
            Some(Version::from([("version", source.force_version.as_str())]))
        } else if let Some(given) = &request.version {
            Some(given.clone())
        } else if source.no_initial_version {
            None
        } else if !source.initial_version.is_empty() {
            Some(Version::from([("version", source.initial_version.as_str())]))
        } else {
            let mirrored = env.build.get("MIRRORED_VERSION").filter(|v| !v.is_empty());
            Some(Version::from([("version", mirrored.map_or("mock", String::as_str))]))
        };
        Ok(version.into_iter().map(|version| marked(version, env.privileged)).collect())
    }

    fn get(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let mut log = Log::start();
        let source: Source = log.decode(Some(&request.source), SOURCE_KEYS)?;
        let params: GetParams = log.decode(request.params.as_ref(), GET_KEYS)?;
        log.known_version(request.version.as_ref())?;
        let version = request.version.clone().unwrap_or_default();
        let text = version.0.get("version").map_or("", String::as_str);
        log.greet(&source, env)?;
        if env.privileged {
            log.info("fetching in a privileged container", env)?;
        }
        log.write(&directory.join("privileged"), format!("{}\n", env.privileged).as_bytes())?;
        log.info(&format!("fetching version: {text}"), env)?;
        log.write(&directory.join("version"), format!("{text}\n").as_bytes())?;
        if source.mirror_self || params.mirror_self_via_params {
            let field = ("via_params", params.mirror_self_via_params.to_string());
            log.line("36mINFO", "mirroring self image", Some(field), env)?;
            if env.mirror == Mirror::Nothing {
                log.info(
                    "the image has the scripts only: no --allow-host-rootfs and no bundle to take a shell from",
                    env,
                )?;
            }
            mirror::write(self.name(), text, directory, env.mirror)
                .map_err(|err| log.fatal(&format!("failed to mirror: {err}")))?;
        }
        let mut files = source.create_files.clone();
        files.extend(params.create_files_via_params);
        for (path, content) in &files {
            create(&log, directory, path, content)?;
        }
        Ok(Response { version, metadata: source.metadata.unwrap_or_default() })
    }

    fn put(&self, request: &Request, directory: &Path, env: &mut Env<'_>) -> Result<Response, Failure> {
        let mut log = Log::start();
        let source: Source = log.decode(Some(&request.source), SOURCE_KEYS)?;
        let params: PutParams = log.decode(request.params.as_ref(), PUT_KEYS)?;
        log.greet(&source, env)?;
        let text = match (params.version.as_str(), params.file.as_str()) {
            ("", "") => return Err(log.fatal("no version specified")),
            ("", file) => inside(directory, file).and_then(fs::read_to_string).map_err(|err| {
                let (path, why) = (Path::new(script_directory(Script::Out)).join(file), reason(&err));
                log.fatal(&format!("error reading version from file {file}: open {}: {why}", path.display()))
            })?,
            (version, _) => version.to_owned(),
        };
        if env.privileged {
            log.info("pushing in a privileged container", env)?;
        }
        log.info(&format!("pushing version: {text}"), env)?;
        if params.print_env {
            for (name, value) in env.build.clone() {
                log.info(&format!("env: {name}={value}"), env)?;
            }
        }
        let version = marked(Version::from([("version", text.as_str())]), env.privileged);
        Ok(Response { version, metadata: source.metadata.unwrap_or_default() })
    }
}

fn marked(mut version: Version, privileged: bool) -> Version {
    if privileged {
        version.0.insert("privileged".into(), "true".into());
    }
    version
}

fn wait(delay: Duration, env: &Env<'_>) {
    let start = Instant::now();
    while !(env.cancelled)() {
        let Some(left) = delay.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { return };
        std::thread::sleep(left.min(POLL));
    }
}

/// Writes one of `create_files`. The markers stand for the parentheses that a pipeline would interpolate.
fn create(log: &Log, directory: &Path, path: &str, content: &Value) -> Result<(), Failure> {
    let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
    let text = text.replace("START_VAR", "((").replace("END_VAR", "))");
    let target = below(directory, path)
        .ok_or_else(|| log.fatal(&format!("failed to write to file '{path}': it lies outside of the directory")))?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)
            .map_err(|err| log.fatal(&format!("failed to create directory for '{path}': {err}")))?;
    }
    log.write(&target, text.as_bytes())
}

/// `path` joined to `directory` without ever leaving it; a leading slash counts for nothing, as in the original.
fn below(directory: &Path, path: &str) -> Option<PathBuf> {
    let mut target = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => target.push(part),
            Component::ParentDir => target.pop().then_some(())?,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    (!target.as_os_str().is_empty()).then(|| directory.join(target))
}

/// An existing file below `directory`, symbolic links followed but not out of it.
fn inside(directory: &Path, file: &str) -> std::io::Result<PathBuf> {
    let outside = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
    let path = below(directory, file).ok_or_else(outside)?.canonicalize()?;
    if path.starts_with(directory.canonicalize()?) { Ok(path) } else { Err(outside()) }
}

/// Go's words for what the system has answered.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The log as logrus colours it, and the decoding errors of Go.
struct Log {
    start: Instant,
}

impl Log {
    fn start() -> Self {
        Log { start: Instant::now() }
    }

    fn format(&self, level: &str, message: &str, field: Option<(&str, String)>) -> String {
        let message = message.strip_suffix('\n').unwrap_or(message);
        let colour = level.split_once('m').map_or("", |(colour, _)| colour);
        let level = level.split_once('m').map_or(level, |(_, name)| name);
        let seconds = self.start.elapsed().as_secs();
        let field = field.map(|(name, value)| format!(" \x1b[{colour}m{name}\x1b[0m={value}")).unwrap_or_default();
        format!("\x1b[{colour}m{level}\x1b[0m[{seconds:04}] {message:<44} {field}\n")
    }

    fn line(
        &mut self,
        level: &str,
        message: &str,
        field: Option<(&str, String)>,
        env: &mut Env<'_>,
    ) -> Result<(), Failure> {
        let text = self.format(level, message, field);
        env.log.write_all(text.as_bytes()).map_err(|err| Failure::Failed(format!("cannot write the log: {err}")))
    }

    fn info(&mut self, message: &str, env: &mut Env<'_>) -> Result<(), Failure> {
        self.line("36mINFO", message, None, env)
    }

    fn greet(&mut self, source: &Source, env: &mut Env<'_>) -> Result<(), Failure> {
        if source.log.is_empty() { Ok(()) } else { self.info(&source.log.clone(), env) }
    }

    fn fatal(&self, message: &str) -> Failure {
        Failure::Failed(self.format("31mFATA", message, None).trim_end_matches('\n').to_owned())
    }

    fn decode<T: Default + serde::de::DeserializeOwned>(
        &self,
        object: Option<&Map<String, Value>>,
        known: &[&str],
    ) -> Result<T, Failure> {
        let Some(object) = object else { return Ok(T::default()) };
        self.refuse_unknown(object.keys(), known)?;
        // A null stands for the default, as in Go.
        let object = object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        serde_json::from_value(Value::Object(object))
            .map_err(|err| self.fatal(&format!("invalid payload: json: {err}")))
    }

    fn known_version(&self, version: Option<&Version>) -> Result<(), Failure> {
        version.map_or(Ok(()), |version| self.refuse_unknown(version.0.keys(), &["version", "privileged"]))
    }

    fn refuse_unknown<'k>(&self, keys: impl Iterator<Item = &'k String>, known: &[&str]) -> Result<(), Failure> {
        let unknown = keys.into_iter().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| Err(self.fatal(&format!("invalid payload: json: unknown field {key:?}"))))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let name = path.file_name().unwrap_or_default().display();
        fs::write(path, bytes).map_err(|err| self.fatal(&format!("failed to write to file '{name}': {err}")))
    }
}

#[cfg(test)]
#[path = "mock_tests.rs"]
mod tests;
