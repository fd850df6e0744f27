//! What a task step runs: its configuration, inline or from a file of an artifact, with what the step lays over it.

use super::image::read_file;
use super::outcome::Stop;
use super::scope::Scope;
use super::source::{filled, filled_value};
use crate::pipeline::{Limits, TaskConfig};
use crate::plan::TaskPlan;
use crate::runtime;
use crate::vars::{self, Missing};

/// The configuration in force and warnings for the log.
pub async fn of(task: &TaskPlan, scope: &Scope) -> Result<(TaskConfig, Vec<String>), Stop> {
    let mut warnings = Vec::new();
    let mut config = match (&task.config, &task.config_path) {
        (_, Some(path)) => from_file(task, path, scope).await?,
        (Some(config), None) => {
            let value = serde_json::to_value(config).map_err(|e| Stop::Error(e.to_string()))?;
            serde_json::from_value(filled_value(&value, scope)?).map_err(|e| Stop::Error(e.to_string()))?
        }
        (None, None) => return Err(Stop::Error(format!("task {} has neither config nor file", task.name))),
    };
    let params = task.params.iter().map(|(k, v)| (k.clone(), serde_json::Value::String(v.clone()))).collect();
    for (name, value) in filled(&params, scope)? {
        if task.config_path.is_some() && !config.params.contains_key(&name) {
            warnings.push(format!(
                "[WARNING] {name} was defined in pipeline but missing from task file ({})",
                task.config_path.as_deref().unwrap_or_default()
            ));
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        config.params.insert(name, text);
    }
    config.container_limits = merged(config.container_limits, task.container_limits);
    Ok((config, warnings))
}

async fn from_file(task: &TaskPlan, path: &str, scope: &Scope) -> Result<TaskConfig, Stop> {
    let path = filled_value(&serde_json::json!(path), scope)?;
    let path = path.as_str().unwrap_or_default();
    let Some((name, file)) = path.split_once('/') else {
        return Err(Stop::Error(format!(
            "task config path '{path}' does not specify where the file lives: write artifact/path"
        )));
    };
    let artifact = scope
        .artifacts
        .get(name)
        .ok_or_else(|| Stop::Error(format!("unknown artifact source: '{name}' in task config file path '{path}'")))?;
    let text = match read_file(scope, &artifact.volume, file).await {
        Ok(text) => text,
        Err(runtime::Error::NotFound(_)) => return Err(Stop::Error(format!("task config '{path}' not found"))),
        Err(error) => return Err(error.into()),
    };
    let vars = task.vars.clone().unwrap_or_default();
    let vars = filled(&vars, scope)?;
    let value =
        crate::pipeline::to_json(&text).map_err(|problem| Stop::Error(format!("failed to load {path}: {problem}")))?;
    // The step's own variables first, what they leave from the build's.
    let value = vars::interpolate(&value, &vars::Static::from_map(vars), Missing::Leave)?;
    let value = filled_value(&value, scope)?;
    TaskConfig::load(value.to_string().as_bytes()).map_err(|problem| Stop::Error(format!("{path}: {problem}")))
}

/// The step's limits over the task's, field by field.
fn merged(task: Option<Limits>, step: Option<Limits>) -> Option<Limits> {
    match (task, step) {
        (Some(task), Some(step)) => Some(Limits { cpu: step.cpu.or(task.cpu), memory: step.memory.or(task.memory) }),
        (task, step) => step.or(task),
    }
}
