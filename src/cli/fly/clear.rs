//! `clear-task-cache`, `clear-resource-cache` and `clear-versions`: throws away what was kept, after asking.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Found;
use super::failure::{Failure, Outcome};
use super::reference::{JobRef, ResourceRef, VersionField, version};
use super::{Fly, prompt};

/// Arguments of `clear-task-cache`.
#[derive(Debug, Clone, clap::Args)]
pub struct TaskCache {
    /// Job to clear cache from
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: JobRef,
    /// Step name to clear cache from
    #[arg(short, long)]
    step: String,
    /// Cache directory to clear out
    #[arg(short, long, value_name = "PATH")]
    cache_path: Option<String>,
    /// Destroy the task cache(s) without confirmation
    #[arg(short, long)]
    non_interactive: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `clear-resource-cache`.
#[derive(Debug, Clone, clap::Args)]
pub struct ResourceCache {
    /// Name of a resource to clear cache
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
    /// Version of the resource to clear, e.g. digest:sha256@...; without it, all of its versions
    #[arg(short, long, value_name = "VERSION")]
    version: Vec<VersionField>,
    /// Name of the team to which the pipeline/resource belong, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `clear-versions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Versions {
    /// Name of a resource to clear versions
    #[arg(long, value_name = "PIPELINE/RESOURCE")]
    resource: Option<ResourceRef>,
    /// Name of a resource type to clear versions
    #[arg(long, value_name = "PIPELINE/RESOURCE-TYPE")]
    resource_type: Option<ResourceRef>,
    /// Clear versions without confirmation
    #[arg(short, long)]
    non_interactive: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Asks; a no is told.
fn sure(fly: &Fly) -> Result<bool, Failure> {
    let yes = prompt::confirm("are you sure?");
    if !matches!(yes, Ok(true)) {
        fly.console.say("bailing out")?;
    }
    Ok(yes?)
}

impl TaskCache {
    /// Clears it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let (job, step) = (&self.job, &self.step);
        let path = self.cache_path.filter(|p| !p.is_empty());
        let at = path.as_ref().map(|p| format!(", at `{p}`")).unwrap_or_default();
        fly.say(format!("!!! this will remove the task cache(s) for `{job}`, task step `{step}`{at}\n"))?;
        if !self.non_interactive && !sure(fly)? {
            return Ok(0);
        }
        let mut call = team.on_job(Method::DELETE, job, &["tasks", step, "cache"]);
        if let Some(path) = &path {
            call = call.query("cache_path", path);
        }
        match call.fetch::<Value>().await {
            Ok(answer) => removed(fly, &answer, "caches"),
            Err(error) => {
                fly.console.say(error.to_string())?;
                Err(error.into())
            }
        }
    }
}

impl ResourceCache {
    /// Clears it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let chosen = (!self.version.is_empty()).then(|| Value::Object(version(&self.version)));
        let of = chosen.as_ref().map(|v| format!(" with version: `{v}`")).unwrap_or_default();
        fly.say(format!("!!! this will remove the resource cache(s) for `{}`{of}\n", self.resource))?;
        if !sure(fly)? {
            return Ok(0);
        }
        let call = team.on_resource(Method::DELETE, &self.resource, &["cache"]);
        let answer: Value = call.json(&json!({ "version": chosen })).fetch().await?;
        removed(fly, &answer, "caches")
    }
}

impl Versions {
    /// Clears them, after telling whose they are too.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let (of, path, what) = match (&self.resource, &self.resource_type) {
            (Some(of), None) => (of, "resources", "resource"),
            (None, Some(of)) => (of, "resource-types", "resource type"),
            (None, None) => {
                return Err(Failure::said("please specify one of the required flags --resource or --resource-type"));
            }
            (Some(_), Some(_)) => return Err(Failure::said("can specify only one of --resource or --resource-type")),
        };
        let team = session.team(self.team.as_deref()).await?;
        let call = |method, last| team.on_pipeline(method, &of.pipeline, &[path, &of.name, last]);
        let shared: Option<Value> = call(Method::GET, "shared").fetch().await.found()?;
        let shared = shared.ok_or_else(|| {
            Failure::said(format!("{what} '{}' is not found", of.name)).see(format!("get-pipeline -p {}", of.pipeline))
        })?;
        if !self.non_interactive {
            fly.say("!!! this will clear the version histories for the following resources:")?;
            places(fly, &shared["resources"])?;
            fly.say("\nand the following resource types:")?;
            places(fly, &shared["resource_types"])?;
            fly.say("")?;
            if !sure(fly)? {
                return Ok(0);
            }
        }
        removed(fly, &call(Method::DELETE, "versions").fetch().await?, "versions")
    }
}

fn places(fly: &Fly, list: &Value) -> Result<(), Failure> {
    let text = |place: &Value, name: &str| place[name].as_str().unwrap_or_default().to_owned();
    for place in list.as_array().into_iter().flatten() {
        let [team, pipeline, name] = ["team_name", "pipeline_name", "name"].map(|n| text(place, n));
        fly.console.say(format!("- {team}/{pipeline}/{name}"))?;
    }
    Ok(())
}

fn removed(fly: &Fly, answer: &Value, what: &str) -> Outcome {
    fly.say(format!("{} {what} removed", answer[format!("{what}_removed")].as_i64().unwrap_or(0)))
}
