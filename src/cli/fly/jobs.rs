//! `jobs`, `paused-jobs` and `checklist`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::reference::PipelineRef;
use super::shapes::{Build, Job};
use super::table::{Cell, Table};
use super::{Fly, go_time};

/// Which pipeline's jobs.
#[derive(Debug, Clone, clap::Args)]
struct Of {
    /// Get jobs in this pipeline
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

/// Arguments of `jobs`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    #[command(flatten)]
    of: Of,
}

/// Arguments of `paused-jobs`.
#[derive(Debug, Clone, clap::Args)]
pub struct Paused {
    #[command(flatten)]
    of: Of,
}

impl List {
    /// Lists the jobs with how they stand.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let jobs = self.of.fetch(fly).await?;
        if self.of.json {
            return print_json(fly, &jobs);
        }
        let mut table = Table::new(["name", "paused", "status", "next"]);
        for job in jobs {
            table.push(vec![
                Cell::from(job.name),
                Cell::yes_no(job.paused),
                status(job.finished_build.as_ref()),
                status(job.next_build.as_ref()),
            ]);
        }
        fly.table(&table)
    }
}

impl Paused {
    /// Lists those that stand still.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let jobs: Vec<Job> = self.of.fetch(fly).await?.into_iter().filter(|j| j.paused).collect();
        if self.of.json {
            return print_json(fly, &jobs);
        }
        let mut table = Table::new(["name", "paused", "paused_by", "paused_at"]);
        for job in jobs {
            let at = go_time(job.paused_at);
            table.push(vec![Cell::from(job.name), "yes".into(), Cell::or(job.paused_by, "n/a"), Cell::or(at, "n/a")]);
        }
        fly.table(&table)
    }
}

impl Of {
    async fn fetch(&self, fly: &Fly) -> Result<Vec<Job>, Failure> {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        Ok(super::team::list(team.on_pipeline(Method::GET, &self.pipeline, &["jobs"])).await?)
    }
}

fn print_json(fly: &Fly, jobs: &[Job]) -> Outcome {
    fly.json(&serde_json::to_value(jobs).map_err(ApiError::from)?)
}

fn status(build: Option<&Build>) -> Cell {
    build.map_or_else(|| Cell::from("n/a"), |b| Cell::status(&b.status))
}

/// Arguments of `checklist`.
#[derive(Debug, Clone, clap::Args)]
pub struct Checklist {
    /// The pipeline from which to generate the Checkfile
    #[arg(short, long)]
    pipeline: PipelineRef,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl Checklist {
    /// Prints the jobs group by group, as Checkman reads them.
    pub async fn run(self, fly: &Fly) -> Outcome {
        self.pipeline.named()?;
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let config = team.config(&self.pipeline).await?.map(|(config, _)| config).unwrap_or_default();
        let prefix = format!("concourse.check {} {} {}", session.client.url(), team.name, self.pipeline);
        fly.console.print(checkfile(&config, &prefix, &self.pipeline.to_string()))?;
        Ok(0)
    }
}

fn checkfile(config: &Value, prefix: &str, pipeline: &str) -> String {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let jobs = config["jobs"].as_array().into_iter().flatten();
    let mut alone: BTreeSet<String> = jobs.filter_map(|j| j["name"].as_str()).map(str::to_owned).collect();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for group in config["groups"].as_array().into_iter().flatten() {
        let jobs = list(&group["jobs"]);
        alone.retain(|job| !jobs.contains(job));
        groups.push((group["name"].as_str().unwrap_or_default().to_owned(), jobs));
    }
    if !alone.is_empty() {
        let name = if groups.is_empty() { pipeline } else { "misc" };
        groups.push((name.to_owned(), alone.into_iter().collect()));
    }
    groups
        .iter()
        .map(|(name, jobs)| {
            let lines: String = jobs.iter().map(|job| format!("{job}: {prefix} {job}\n")).collect();
            format!("#- {name}\n{lines}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_checkfile_lists_groups_and_then_the_rest() {
        let config =
            json!({"jobs": [{"name": "b"}, {"name": "a"}, {"name": "c"}], "groups": [{"name": "g", "jobs": ["b"]}]});
        assert_eq!(checkfile(&config, "x", "p"), "#- g\nb: x b\n\n#- misc\na: x a\nc: x c\n\n");
        assert_eq!(checkfile(&json!({"jobs": [{"name": "b"}]}), "x", "p"), "#- p\nb: x b\n\n");
    }
}
