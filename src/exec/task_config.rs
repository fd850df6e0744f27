//! What a task step runs: its configuration, inline or from a file of an artifact, with what the step lays over it.

use super::image::read_file;
use super::outcome::Stop;
use super::scope::Scope;
use super::source::filled_value;
use crate::pipeline::{Limits, TaskConfig};
use crate::plan::TaskPlan;
use crate::runtime;
use crate::vars::{self, Missing};

/// The configuration in force and warnings for the log. Of a file, the step's own variables are filled in first and may
/// themselves name variables of the build.
pub async fn of(task: &TaskPlan, scope: &Scope) -> Result<(TaskConfig, Vec<String>), Stop> {
    let mut warnings = Vec::new();
    let mut config = match (&task.config, &task.config_path) {
        (_, Some(path)) => from_file(task, path, scope).await?,
        (Some(config), None) => config.clone(),
        (None, None) => return Err(Stop::Error(format!("task {} has neither config nor file", task.name))),
    };
    for (name, value) in &task.params {
        if task.config_path.is_some() && !config.params.contains_key(name) {
            warnings.push(format!(
                "[WARNING] {name} was defined in pipeline but missing from task file ({})",
                task.config_path.as_deref().unwrap_or_default()
            ));
        }
        config.params.insert(name.clone(), value.clone());
    }
    config.container_limits = merged(config.container_limits, task.container_limits);
    let value = serde_json::to_value(config).map_err(|error| unreadable(&error))?;
    let filled = filled_value(&value, scope).await.map_err(unfilled)?;
    Ok((TaskConfig::filled(filled).map_err(|problem| unreadable(&problem.message))?, warnings))
}

async fn from_file(task: &TaskPlan, path: &str, scope: &Scope) -> Result<TaskConfig, Stop> {
    let Some((name, file)) = path.split_once('/') else {
        return Err(Stop::Error(format!(
            "config path '{path}' does not specify where the file lives: write artifact/path"
        )));
    };
    let artifact = scope
        .artifacts
        .get(name)
        .ok_or_else(|| Stop::Error(format!("unknown artifact source: '{name}' in file path '{path}'")))?;
    let volume = super::registry::volume(&artifact, scope).await?;
    let text = match read_file(scope, &volume, file).await {
        Ok(text) => text,
        Err(runtime::Error::NotFound(_)) => return Err(Stop::Error(format!("task config '{path}' not found"))),
        Err(error) => return Err(error.into()),
    };
    let unread = |problem| Stop::Error(format!("failed to create task config from bytes {path}: {problem}"));
    let config = TaskConfig::load(&text).map_err(unread)?;
    let Some(vars) = task.vars.clone().filter(|vars| !vars.is_empty()) else { return Ok(config) };
    let value = serde_json::to_value(config).map_err(|error| unreadable(&error))?;
    let value = vars::interpolate(&value, &vars::Static::from_map(vars), Missing::Leave);
    TaskConfig::filled(value.map_err(|e| unfilled(e.into()))?).map_err(|problem| unreadable(&problem.message))
}

fn unfilled(stop: Stop) -> Stop {
    match stop {
        Stop::Error(text) => Stop::Error(format!("failed to interpolate task config: {text}")),
        other => other,
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Stop {
    Stop::Error(format!("failed to create task config from bytes: {error}"))
}

/// The step's limits over the task's, field by field.
fn merged(task: Option<Limits>, step: Option<Limits>) -> Option<Limits> {
    match (task, step) {
        (Some(task), Some(step)) => Some(Limits { cpu: step.cpu.or(task.cpu), memory: step.memory.or(task.memory) }),
        (task, step) => step.or(task),
    }
}
