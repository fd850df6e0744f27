//! `set-pipeline`: fills a file in, shows what would change, asks, and saves.

use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};

use super::client::ApiError;
use super::failure::{Failure, Outcome};
use super::reference::{Assignment, PipelineRef, expand, yaml_assignment};
use super::shapes::SaveAnswer;
use super::team::Team;
use super::template::{Template, decode};
use super::{Fly, Session, prompt};
use crate::pipeline::yaml::to_yaml;
use crate::pipeline::{self, Config};

/// Arguments of `set-pipeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct SetPipeline {
    /// Skips interactions, uses default values
    #[arg(short, long)]
    non_interactive: bool,
    /// Disable color output
    #[arg(long)]
    no_color: bool,
    /// Show what would change, and stop
    #[arg(short, long)]
    dry_run: bool,
    /// Validate credential variables against credential manager
    #[arg(long)]
    check_creds: bool,
    /// Pipeline to configure
    #[arg(short, long)]
    pipeline: String,
    #[command(flatten)]
    template: Template,
    /// Specify a YAML value to set for an instance variable
    #[arg(short, long, value_name = "NAME=YAML", value_parser = yaml_assignment)]
    instance_var: Vec<Assignment>,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl SetPipeline {
    /// Saves it, unless nothing changed or somebody said no.
    pub async fn run(self, fly: &Fly) -> Outcome {
        if self.pipeline.contains('/') {
            return Err(Failure::said("pipeline name cannot contain '/'"));
        }
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let vars = (!self.instance_var.is_empty()).then(|| expand(&self.instance_var));
        let pipeline = PipelineRef { name: self.pipeline.clone(), vars };
        let filled = self.template.filled(pipeline.vars.as_ref())?;
        let (existing, version) = match team.config(&pipeline).await? {
            Some((config, version)) => (decode(config)?, version),
            None => (Config::default(), String::new()),
        };
        let config = decode(filled.value.clone()).map_err(|failure| filled.located(failure))?;
        let (_, warnings) = pipeline::validate(&config);
        let changes = pipeline::diff(&existing, &config, !self.no_color);
        fly.console.print(changes.as_deref().unwrap_or_default())?;
        fly.show_warnings(&warnings)?;
        if changes.is_none() {
            return fly.say("no changes to apply");
        }
        self.introduce(fly, &pipeline)?;
        if self.dry_run {
            return fly.say("Dry-run mode was set, exiting.");
        }
        if !self.confirm(fly, &team, &pipeline).await? {
            return fly.say("bailing out");
        }
        self.save(fly, &session, &team, &pipeline, (&version, filled.text())).await
    }

    fn introduce(&self, fly: &Fly, pipeline: &PipelineRef) -> Result<(), Failure> {
        fly.console.say(format!("\x1b[1mpipeline name: \x1b[0m{}", pipeline.name))?;
        if let Some(vars) = &pipeline.vars {
            fly.console.say("\x1b[1mpipeline instance vars:\x1b[0m")?;
            for line in to_yaml(&sorted(vars)).lines() {
                fly.console.say(format!("  {line}"))?;
            }
        }
        fly.console.say("")?;
        Ok(())
    }

    async fn confirm(&self, fly: &Fly, team: &Team<'_>, pipeline: &PipelineRef) -> Result<bool, Failure> {
        let current = team.pipeline(pipeline).await?;
        if current.is_some_and(|p| p.parent_job_id != 0 && p.parent_build_id != 0) {
            fly.console.say(
                "\x1b[1;33mWARNING: pipeline has been configured through the 'set_pipeline' step, your changes may be \
                 overwritten on the next 'set_pipeline' step execution\x1b[0m\n",
            )?;
        }
        if self.non_interactive || self.template.is_stdin() {
            return Ok(true);
        }
        Ok(prompt::confirm("apply configuration?").unwrap_or(false))
    }

    async fn save(
        &self,
        fly: &Fly,
        session: &Session,
        team: &Team<'_>,
        pipeline: &PipelineRef,
        (version, yaml): (&str, String),
    ) -> Outcome {
        let answer = team.save_config(pipeline, version, yaml, self.check_creds).await?;
        let read = |body: &[u8]| serde_json::from_slice::<SaveAnswer>(body).map_err(ApiError::from);
        let saved = match answer.status {
            StatusCode::OK | StatusCode::CREATED => read(&answer.body)?,
            StatusCode::BAD_REQUEST => {
                let errors = read(&answer.body)?.errors;
                return Err(Failure::said(format!("invalid pipeline config:\n{}", errors.join("\n"))));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return answer.success().map(|_| 0).map_err(Into::into),
            _ => return Err(answer.unexpected().into()),
        };
        let created = answer.status == StatusCode::CREATED;
        let current = team.pipeline(pipeline).await?;
        fly.show_warnings(&saved.warnings)?;
        if created {
            let url = page(session.client.url(), &team.name, pipeline);
            fly.console.say(format!("pipeline created!\nyou can view your pipeline here: {url}"))?;
        } else {
            fly.console.say("configuration updated")?;
        }
        if current.is_some_and(|p| p.paused) {
            let command = self.unpause(fly, session, pipeline);
            fly.console.say(format!(
                "\nthe pipeline is currently paused. to unpause, either:\n  - run the unpause-pipeline command:\n    \
                 {command}\n  - click play next to the pipeline in the web ui"
            ))?;
        }
        Ok(0)
    }

    fn unpause(&self, fly: &Fly, session: &Session, pipeline: &PipelineRef) -> String {
        let name = pipeline.to_string();
        let name = if name.contains('"') { format!("{name:?}") } else { name };
        let team = self.team.as_ref().map(|t| format!(" --team {t}")).unwrap_or_default();
        format!("{} -t {} unpause-pipeline -p {name}{team}", fly.program, session.name)
    }
}

fn sorted(vars: &Map<String, Value>) -> Value {
    let sorted: std::collections::BTreeMap<_, _> = vars.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Object(sorted.into_iter().collect())
}

/// The address of a pipeline's page.
fn page(target: &str, team: &str, pipeline: &PipelineRef) -> String {
    let Ok(mut url) = Url::parse(target) else { return target.to_owned() };
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(["teams", team, "pipelines", &pipeline.name]);
    }
    let query = pipeline.query();
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_as_browsers_need_it() {
        let pipeline: PipelineRef = "a b/branch:\"a/b\",n:1".parse().unwrap();
        let page = page("http://ci:8080", "main", &pipeline);
        assert_eq!(page, "http://ci:8080/teams/main/pipelines/a%20b?vars.branch=%22a%2Fb%22&vars.n=1");
    }
}
