//! A pipeline's configuration, as set and as read back.

use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::name;
use crate::auth::Action;
use crate::base::error::Error;
use crate::base::id::PipelineId;
use crate::base::secret::REDACTED;
use crate::front::{Answer, App, Call, Failure, Permit, instance_vars, json};
use crate::pipeline::{Config, Problem, Warning, load, unsupported, wire};
use crate::secrets::{Asker, Session};
use crate::store::config::{SaveConfig, SavedConfig};
use crate::store::pipeline::PipelineRef;
use crate::vars::references;

/// Says which version is read or replaced.
const VERSION: &str = "x-concourse-config-version";

#[derive(Default, Serialize)]
struct SavedJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    /// What Concourse does not say: each problem with its place and its remedy, for machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

fn refused(errors: Vec<String>) -> Answer {
    json(StatusCode::BAD_REQUEST, &SavedJson { errors, ..SavedJson::default() })
}

fn invalid(problems: Vec<Problem>) -> Answer {
    json(StatusCode::BAD_REQUEST, &SavedJson { errors: told(&problems), problems, ..SavedJson::default() })
}

/// `GetConfig`: jobs as written, what they use by name.
pub async fn get(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let found = call.app.store.read(move |tx| tx.pipeline_config_text(id)).await?;
    let (text, version) = found.ok_or_else(Failure::not_found)?;
    let mut config = by_name(serde_json::from_str(&text).map_err(Error::internal)?);
    if ![Action::CheckResource, Action::SaveConfig].iter().any(|action| permit.may(&call.app, *action)) {
        hide_tokens(&mut config);
    }
    let mut response = json(StatusCode::OK, &serde_json::json!({ "config": config }))?;
    response.headers_mut().insert(VERSION, HeaderValue::from(version));
    Ok(response)
}

/// Takes out what starts checks for whoever knows it. Those who may check anyway see it, and members must, since they
/// set again what they have read; a variable's name tells nothing.
fn hide_tokens(config: &mut serde_json::Value) {
    let resources = config.get_mut("resources").and_then(serde_json::Value::as_array_mut);
    for token in resources.into_iter().flatten().filter_map(|r| r.get_mut("webhook_token")) {
        if token != "" && references(token).map_or(true, |names| names.is_empty()) {
            *token = REDACTED.into();
        }
    }
}

fn by_name(mut config: serde_json::Value) -> serde_json::Value {
    for section in ["resources", "resource_types", "prototypes"] {
        if let Some(items) = config.get_mut(section).and_then(serde_json::Value::as_array_mut) {
            items.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
    }
    config
}

/// `SaveConfig`: checks everything before anything is changed, in Concourse's order.
pub async fn save(permit: Permit, call: Call) -> Answer {
    let app = call.app.clone();
    let from_version = match call.header(VERSION) {
        "" => 0,
        text => match text.parse::<i64>() {
            Ok(version) => version,
            Err(_) => return refused(vec!["config version is malformed: expected integer".to_owned()]),
        },
    };
    if !matches!(call.header("content-type"), "application/x-yaml" | "application/json") {
        return Err(Failure::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let (name, team_name) = (call.param("pipeline_name").to_owned(), call.param("team_name").to_owned());
    let vars = instance_vars(&call.query);
    let check_creds = call.query.has("check_creds");
    let text = call.bytes().await?;
    // A large one takes a while, in which others must be answered.
    let read = tokio::task::spawn_blocking(move || read(&text)).await.map_err(Error::internal)?;
    let (config, mut warnings) = match read {
        Ok(read) => read,
        Err(problems) => return invalid(problems),
    };
    for (name, what) in [(&name, "pipeline"), (&team_name, "team")] {
        match name::check(name, what) {
            Ok(more) => warnings.extend(more),
            Err(error) => return refused(vec![error]),
        }
    }
    let vars = match vars {
        Ok(vars) => vars,
        Err(failure) => return refused(vec![format!("instance vars are malformed: {}", failure.message)]),
    };
    if check_creds {
        let problems = missing_credentials(&app, &permit, &name, &vars, &config).await?;
        if let Some(problem) = counted(&problems) {
            return refused(vec![problem]);
        }
    }
    let instance_vars = if vars.is_empty() { None } else { serde_json::from_str(&vars).map_err(Error::internal)? };
    let (team, now) = (permit.team()?, app.clock.now());
    let pipeline = PipelineRef { name, instance_vars };
    let saved = app.store.write(move |tx| {
        let save = SaveConfig {
            team,
            pipeline: &pipeline,
            config: &config,
            from_version,
            paused_if_new: true,
            parent: None,
            now,
        };
        tx.save_config(&save)
    });
    let created = match saved.await? {
        SavedConfig::Saved { created, .. } => created,
        SavedConfig::StaleVersion | SavedConfig::SetByNewerBuild => {
            let text = "failed to save config: comparison with existing config failed during save";
            return Err(Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text));
        }
    };
    app.wakes.check.ring();
    app.wakes.schedule.ring();
    app.wakes.retention.ring();
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    json(status, &SavedJson { warnings, ..SavedJson::default() })
}

/// The configuration and its warnings, or all that is wrong with it: what Concourse would say, and what it would take
/// but this server does not do yet.
fn read(text: &[u8]) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let (config, warnings) = load(text)?;
    let missing = unsupported(&config);
    if missing.is_empty() { Ok((config, warnings)) } else { Err(missing) }
}

/// Concourse's texts, byte for byte; after them one more with the places in the file and what to do, which Concourse does
/// not tell.
fn told(problems: &[Problem]) -> Vec<String> {
    let places: Vec<String> = problems.iter().filter_map(Problem::place).collect();
    let mut texts = wire(problems);
    if !places.is_empty() {
        texts.push(places.join("\n"));
    }
    texts
}

/// With `check_creds` every `((variable))` must be found: what is not, and where it was looked for.
async fn missing_credentials(
    app: &App,
    permit: &Permit,
    pipeline: &str,
    vars: &str,
    config: &Config,
) -> Result<Vec<String>, Failure> {
    let asker = Asker {
        team: permit.team()?,
        team_name: permit.team_name()?.to_owned(),
        pipeline: Some((permit.pipeline().map_or(PipelineId(0), |p| p.id), pipeline.to_owned())),
        instance_vars: vars.to_owned(),
        job: String::new(),
        build: None,
    };
    let session = Session::new(asker).with_sources(config.var_sources.clone());
    let config = serde_json::to_value(config).map_err(Error::internal)?;
    Ok(app.secrets.check(&session, &config).await)
}

/// Problems as Concourse words them together.
fn counted(problems: &[String]) -> Option<String> {
    let head = match problems.len() {
        0 => return None,
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    let all: String = problems.iter().map(|p| format!("\t* {p}\n")).collect();
    Some(format!("credential validation failed\n\n{head} occurred:\n{all}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jobs_use_is_read_back_by_name() {
        let config = serde_json::json!({"groups": [{"name": "z"}, {"name": "a"}], "resources": [{"name": "b"}, {"name": "a"}],
            "prototypes": [{"name": "y"}, {"name": "x"}], "jobs": [{"name": "2"}, {"name": "1"}]});
        assert_eq!(
            by_name(config).to_string(),
            r#"{"groups":[{"name":"z"},{"name":"a"}],"resources":[{"name":"a"},{"name":"b"}],"prototypes":[{"name":"x"},{"name":"y"}],"jobs":[{"name":"2"},{"name":"1"}]}"#
        );
    }

    #[test]
    fn a_token_is_taken_out_and_a_variable_s_name_is_not() {
        let mut config = serde_json::json!({"resources": [{"name": "a", "webhook_token": "hook"}, {"name": "b"},
            {"name": "c", "webhook_token": "((hook))"}, {"name": "d", "webhook_token": "((.."}]});
        hide_tokens(&mut config);
        let expected = serde_json::json!({"resources": [{"name": "a", "webhook_token": "((redacted))"}, {"name": "b"},
            {"name": "c", "webhook_token": "((hook))"}, {"name": "d", "webhook_token": "((redacted))"}]});
        assert_eq!(config, expected);
        hide_tokens(&mut serde_json::json!({"jobs": []}));
    }

    #[test]
    fn concourses_words_come_first_and_then_the_place_and_the_remedy() {
        let told = |text: &[u8]| told(&read(text).unwrap_err());
        assert_eq!(
            told(b"jobs:\n- name: a\n  serail: true\n"),
            [
                "malformed config: error unmarshaling JSON: while decoding JSON: json: unknown field \"serail\"",
                "line 3, column 3 (jobs[0].serail): did you mean `serial`?",
            ]
        );
        assert_eq!(
            told(b"jobs:\n- name: a\n  plan:\n  - get: x\n    attempts: 0\n"),
            [
                "invalid jobs:\n\tjobs.a.plan.do[0].get(x): unknown resource 'x'\n\tjobs.a.plan.do[0].attempts: must be greater than 0\n",
                "line 4, column 5 (jobs[0].plan[0].get): add it under `resources:`, or correct the name\nline 5, column 5 (jobs[0].plan[0].attempts)",
            ]
        );
    }
}
