//! `validate-pipeline` and `format-pipeline`: what can be said of a file without a server.

use serde_json::Value;

use super::Fly;
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::template::{Template, decode, existing};
use crate::pipeline::decode::Reading;
use crate::pipeline::{self, Config, yaml::to_yaml};
use crate::vars::typed::untyped;

/// Arguments of `validate-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Validate {
    #[command(flatten)]
    template: Template,
    /// Fail on warnings
    #[arg(short, long)]
    strict: bool,
    /// Output templated pipeline to stdout
    #[arg(short, long)]
    output: bool,
    /// Accepted for the sake of old scripts; the across step is always there
    #[arg(long)]
    enable_across_step: bool,
}

impl Validate {
    /// Tells what is wrong with it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let value = self.template.evaluate(None)?;
        if self.strict {
            refuse_unknown(&untyped(value.clone()))?;
        }
        let config = decode(value.clone())?;
        let (problems, warnings) = pipeline::validate(&config);
        fly.show_warnings(&warnings)?;
        if !problems.is_empty() {
            let head = fly.console.paint(Style::Alarm, "WARNING:");
            fly.console.tell(format!("\n{head}\nError loading existing config:"))?;
            for text in pipeline::wire(&problems) {
                fly.console.tell(format!("  - {text}"))?;
            }
            fly.console.tell("")?;
        }
        if !problems.is_empty() || (self.strict && !warnings.is_empty()) {
            return Err(Failure::said("configuration invalid"));
        }
        if self.output { fly.say(to_yaml(&value)) } else { fly.say("looks good") }
    }
}

/// Refuses keys nobody knows, wherever they stand.
fn refuse_unknown(value: &Value) -> Result<(), Failure> {
    let wrong = |fault| Failure::said(format!("error unmarshaling JSON: while decoding JSON: {fault}"));
    pipeline::decode::config(value, Reading::Strict).map(drop).map_err(wrong)
}

/// Arguments of `format-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct Format {
    /// Pipeline configuration file
    #[arg(short, long, value_name = "PATH", value_parser = existing)]
    config: std::path::PathBuf,
    /// Do not print to stdout; overwrite the file in place
    #[arg(short, long)]
    write: bool,
}

impl Format {
    /// Prints it, or writes it back, as the server would give it back.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let bare = |what: &str, e: String| Failure::bare(format!("{what}: {e}"));
        let path = &self.config;
        let text = std::fs::read(path).map_err(|e| bare("could not read config file", e.to_string()))?;
        let value = pipeline::to_json(&text).map_err(|e| bare("could not unmarshal config", e.message))?;
        let config = decode(value).map_err(|e| bare("could not unmarshal config", e.to_string()))?;
        let formatted = to_yaml(&to_value(&config)?);
        if !self.write {
            fly.console.print(formatted)?;
            return Ok(0);
        }
        let shown = path.display();
        std::fs::write(path, formatted)
            .map_err(|e| bare(&format!("could not write formatted config to {shown}"), e.to_string()))?;
        Ok(0)
    }
}

/// A pipeline as the JSON the server gives.
pub fn to_value(config: &Config) -> Result<Value, Failure> {
    serde_json::to_value(config).map_err(|e| Failure::said(e.to_string()))
}
