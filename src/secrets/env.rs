//! Values from this process's environment and from files of a directory: for containers that are given their secrets.
//!
//! A file `TEAM/PIPELINE/NAME` or `TEAM/NAME` holds a value; a directory of that name holds a map. In the environment,
//! names are written with letters and digits as they are, `_` as `__` and anything else as `_` and its code in two
//! hexadecimal digits: `main/deploy_key` with the prefix `CI_` is `CI_main_2Fdeploy__key`. So no two names are one.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Answer, Found, Path, Source, SourceError};

/// Longer files are no secrets.
const LONGEST: u64 = 1024 * 1024;

/// Where values of such sources may stand.
pub const TEMPLATES: [&str; 2] = ["{{.Team}}/{{.Pipeline}}/{{.Secret}}", "{{.Team}}/{{.Secret}}"];

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Values from the environment.
pub struct Environment {
    prefix: String,
    read: Box<Read>,
}

impl Environment {
    /// Variables of this process whose names begin with `prefix`.
    pub fn new(prefix: &str) -> Environment {
        Environment { prefix: prefix.to_owned(), read: Box::new(|name| std::env::var(name).ok()) }
    }
}

/// The name of the environment's variable for a path.
pub fn variable(prefix: &str, path: &str) -> String {
    let mut name = prefix.to_owned();
    for byte in path.bytes() {
        match byte {
            b'_' => name.push_str("__"),
            b if b.is_ascii_alphanumeric() => name.push(char::from(b)),
            b => name.push_str(&format!("_{b:02X}")),
        }
    }
    name
}

#[async_trait]
impl Source for Environment {
    fn name(&self) -> &str {
        "the environment"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let value = |path: &Path| (self.read)(&variable(&self.prefix, &path.text)).map(|v| Found::lasting(v.into()));
        Ok(Answer { values: paths.iter().map(value).collect(), calls: 0 })
    }

    fn about(&self) -> Value {
        json!({"environment": {"prefix": self.prefix}})
    }

    async fn health(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Values from files.
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Below `directory`.
    pub fn new(directory: PathBuf) -> Files {
        Files { directory }
    }
}

#[async_trait]
impl Source for Files {
    fn name(&self) -> &str {
        "the directory of secrets"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let places: Vec<PathBuf> = paths.iter().map(|p| self.directory.join(p.text.trim_start_matches('/'))).collect();
        let read = tokio::task::spawn_blocking(move || places.iter().map(|p| read(p)).collect::<Result<_, String>>());
        let values = read.await.map_err(|e| e.to_string()).and_then(|r| r);
        let values = values.map_err(|why| SourceError::Down { source_name: self.name().to_owned(), why })?;
        Ok(Answer { values, calls: 0 })
    }

    fn about(&self) -> Value {
        json!({"files": {"directory": self.directory}})
    }

    async fn health(&self) -> Result<(), SourceError> {
        match std::fs::read_dir(&self.directory) {
            Ok(_) => Ok(()),
            Err(e) => {
                let why = format!("cannot read {}: {e}", self.directory.display());
                Err(SourceError::Down { source_name: self.name().to_owned(), why })
            }
        }
    }
}

/// A file's text without the newline at its end, or the files of a directory by name.
fn read(place: &std::path::Path) -> Result<Option<Found>, String> {
    let told = |e: std::io::Error| format!("cannot read {}: {e}", place.display());
    let about = match std::fs::metadata(place) {
        Ok(about) => about,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(told(e)),
    };
    if about.is_file() {
        return text(place).map(|t| Some(Found::lasting(t.into())));
    }
    let mut map = Map::new();
    for entry in std::fs::read_dir(place).map_err(told)? {
        let entry = entry.map_err(told)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
            map.insert(name, text(&entry.path())?.into());
        }
    }
    Ok((!map.is_empty()).then(|| Found::lasting(Value::Object(map))))
}

fn text(place: &std::path::Path) -> Result<String, String> {
    let told = |e: std::io::Error| format!("cannot read {}: {e}", place.display());
    if std::fs::metadata(place).map_err(told)?.len() > LONGEST {
        return Err(format!("{} is longer than 1 MiB, which is no secret", place.display()));
    }
    let text = std::fs::read_to_string(place).map_err(told)?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::TeamId;

    fn path(text: &str) -> Path {
        Path { text: text.into(), team: TeamId(1), team_name: "t".into(), pipeline: None, name: String::new() }
    }

    #[tokio::test]
    async fn files_hold_values_and_directories_maps() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("main/p/login")).unwrap();
        for (name, text) in [("main/key", "k\n"), ("main/p/login/user", "u"), ("main/p/login/password", "a\nb\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let files = Files::new(dir.path().to_owned());
        let answer =
            files.get_many(&[path("main/key"), path("main/p/login"), path("main/none"), path("main/key/x")]).await;
        let values: Vec<_> = answer.unwrap().values.into_iter().map(|f| f.map(|f| f.value.expose().clone())).collect();
        assert_eq!(values, [Some(json!("k")), Some(json!({"user": "u", "password": "a\nb"})), None, None]);
    }

    #[tokio::test]
    async fn names_of_the_environment_are_never_two_names_at_once() {
        assert_eq!(variable("CI_", "main/deploy_key"), "CI_main_2Fdeploy__key");
        assert_ne!(variable("", "a_/b"), variable("", "a/_b"));
        let read = |name: &str| (name == "X_t_2Fa").then(|| "v".to_owned());
        let env = Environment { prefix: "X_".into(), read: Box::new(read) };
        let values = env.get_many(&[path("t/a"), path("t/b")]).await.unwrap().values;
        assert_eq!(values, [Some(Found::lasting(json!("v"))), None]);
    }
}
