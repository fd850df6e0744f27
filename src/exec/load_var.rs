//! `load_var`: a file of an artifact becomes a variable of the build.

use serde_json::{Value, json};

use super::image::artifact_file;
use super::lines::Lines;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::source::filled_value;
use crate::plan::{LoadVarPlan, PlanId};

/// Runs the step.
pub async fn run(plan: &PlanId, load: &LoadVarPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let mut lines = Lines::of(plan, scope).await?;
    let (file, format) = place(load, scope).await?;
    lines.start().await?;
    let value = fetch(&file, &format, scope).await?;
    lines.out(&format!("var {} fetched.\n", load.name)).await?;
    set(load, value, scope);
    lines.out(&format!("added var {} to build.\n", load.name)).await?;
    lines.finish(true).await?;
    Ok(LeafResult::of(Outcome::Succeeded))
}

/// Takes the variable up again after a restart. Its value is never written down, it is read again from its file.
pub async fn again(load: &LoadVarPlan, scope: &Scope) -> Result<(), Stop> {
    let (file, format) = place(load, scope).await?;
    let value = fetch(&file, &format, scope).await?;
    set(load, value, scope);
    Ok(())
}

fn set(load: &LoadVarPlan, value: Value, scope: &Scope) {
    if !load.reveal {
        scope.hide(&value);
    }
    scope.locals.set(&load.name, value);
}

/// File and format with variables filled in.
async fn place(load: &LoadVarPlan, scope: &Scope) -> Result<(String, String), Stop> {
    let filled = filled_value(&json!([load.file, load.format]), scope).await?;
    let text = |i: usize| filled[i].as_str().map_or_else(|| filled[i].to_string(), str::to_owned);
    Ok((text(0), text(1)))
}

async fn fetch(file: &str, format: &str, scope: &Scope) -> Result<Value, Stop> {
    if !file.contains('/') {
        return Err(Stop::Error(format!("file '{file}' does not specify where the file lives: write artifact/path")));
    }
    let format = Format::of(file, format)?;
    let bytes = artifact_file(file, scope).await?;
    format.read(&bytes).map_err(|(name, why)| Stop::Error(format!("failed to parse {file} in format {name}: {why}")))
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
    Trim,
    Raw,
}

impl Format {
    fn named(name: &str) -> Option<Format> {
        Some(match name {
            "json" => Format::Json,
            "yml" | "yaml" => Format::Yaml,
            "trim" => Format::Trim,
            "raw" => Format::Raw,
            _ => return None,
        })
    }

    /// The one that is named, or that the file's ending names.
    fn of(file: &str, named: &str) -> Result<Format, Stop> {
        if !named.is_empty() {
            let unknown = || Stop::Error(format!("invalid format {named}: use raw, trim, yml, yaml or json"));
            return Format::named(named).ok_or_else(unknown);
        }
        let last = file.rsplit('/').next().unwrap_or_default();
        Ok(last.rsplit_once('.').and_then(|(_, ending)| Format::named(ending)).unwrap_or(Format::Trim))
    }

    /// The value; otherwise the format's name and what is wrong.
    fn read(self, bytes: &[u8]) -> Result<Value, (&'static str, String)> {
        let text = || String::from_utf8_lossy(bytes);
        match self {
            Format::Json => serde_json::from_slice(bytes).map_err(|e| ("json", e.to_string())),
            Format::Yaml => crate::pipeline::to_json(bytes).map_err(|e| ("yaml", e.message.clone())),
            Format::Trim => Ok(text().trim().into()),
            Format::Raw => Ok(text().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_named_or_follows_from_the_ending() {
        for (file, named, want) in [
            ("a/b.json", "", Ok(Format::Json)),
            ("a/b.yml", "", Ok(Format::Yaml)),
            ("a/b.yaml", "raw", Ok(Format::Raw)),
            ("a/b.txt", "", Ok(Format::Trim)),
            ("a.json/b", "", Ok(Format::Trim)),
            ("a/b.raw", "", Ok(Format::Raw)),
            ("a/b", "json", Ok(Format::Json)),
            ("a/b", "toml", Err("invalid format toml: use raw, trim, yml, yaml or json")),
        ] {
            assert_eq!(Format::of(file, named).map_err(|e| e.text()), want.map_err(str::to_owned), "{file} {named}");
        }
    }

    #[test]
    fn a_file_is_read_as_its_format_says() {
        let read = |format: Format, text: &str| format.read(text.as_bytes()).map_err(|(name, _)| name);
        assert_eq!(read(Format::Trim, " a b \n"), Ok(json!("a b")));
        assert_eq!(read(Format::Raw, " a b \n"), Ok(json!(" a b \n")));
        assert_eq!(read(Format::Json, "{\"n\": 3}"), Ok(json!({"n": 3})));
        assert_eq!(read(Format::Yaml, "k: [yes, 010]"), Ok(json!({"k": [true, 8]})));
        assert_eq!(read(Format::Json, "{} x"), Err("json"));
        assert_eq!(read(Format::Yaml, "a: b: c"), Err("yaml"));
    }
}
