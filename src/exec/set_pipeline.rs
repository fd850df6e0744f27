//! `set_pipeline`: a file of an artifact becomes a pipeline, as `fly set-pipeline` would set it, but unpaused.

use serde_json::Value;

use super::image::artifact_file;
use super::lines::Lines;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use super::source::filled_value;
use super::world::Target;
use crate::event::{Event, Origin};
use crate::pipeline::{self, Config, Object, Warning};
use crate::plan::{PlanId, SetPipelinePlan};
use crate::store::config::SavedConfig;
use crate::store::pipeline::PipelineRef;
use crate::vars::{Chain, Lookup, Reference, Static, Values};

const OUTDATED: &str =
    "\u{1b}[1;33mWARNING: the pipeline was not saved because it was already saved by a newer build\u{1b}[0m\n";

/// Runs the step.
pub async fn run(plan: &PlanId, set: &SetPipelinePlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let mut lines = Lines::of(plan, scope).await?;
    let set = filled(set, scope).await?;
    for (what, name) in [("pipeline", &set.name), ("team", &set.team)] {
        if name.contains('/') {
            lines.err(&format!("ERROR: {what} name cannot contain '/'\n")).await?;
            return ended(&lines, false).await;
        }
    }
    if set.file.is_empty() {
        return Err(Stop::Error("file is not specified".to_owned()));
    }
    let text = artifact_file(&set.file, scope).await?;
    lines.start().await?;
    let config = match read(&text, &set, scope).await? {
        Ok(config) => config,
        Err(why) => {
            lines.err(&format!("error parsing pipeline:\n{why}")).await?;
            return ended(&lines, false).await;
        }
    };
    if !check(&config, &mut lines).await? {
        return ended(&lines, false).await;
    }
    save(&set, &config, &mut lines, plan, scope).await?;
    ended(&lines, true).await
}

async fn ended(lines: &Lines<'_>, succeeded: bool) -> Result<LeafResult, Stop> {
    lines.finish(succeeded).await?;
    Ok(LeafResult::of(if succeeded { Outcome::Succeeded } else { Outcome::Failed }))
}

/// The step with its variables filled in, all but its name. `self` is the pipeline of the build.
async fn filled(set: &SetPipelinePlan, scope: &Scope) -> Result<SetPipelinePlan, Stop> {
    let wrong = |e: serde_json::Error| Stop::Error(format!("the step's variables do not fit: {e}"));
    let value = filled_value(&serde_json::to_value(set).map_err(wrong)?, scope).await?;
    let mut filled: SetPipelinePlan = serde_json::from_value(value).map_err(wrong)?;
    filled.name.clone_from(&set.name);
    if filled.name == "self" {
        let build = scope.world.build();
        filled.name.clone_from(&build.pipeline);
        filled.instance_vars = match build.instance_vars.as_str() {
            "" => None,
            text => serde_json::from_str(text).map_err(wrong)?,
        };
        filled.team.clear();
    }
    Ok(filled)
}

/// The configuration with everything filled in that is known now; the inner error is what is wrong with it.
async fn read(text: &[u8], set: &SetPipelinePlan, scope: &Scope) -> Result<Result<Config, String>, Stop> {
    let mut files = Vec::new();
    for file in &set.var_files {
        // As everything about the content, that a file of variables is missing makes the step fail.
        match artifact_file(file, scope).await {
            Ok(text) => files.push(text),
            Err(Stop::Error(why)) => return Ok(Err(why)),
            Err(stop) => return Err(stop),
        }
    }
    Ok(resolve(text, set, &files))
}

fn resolve(text: &[u8], set: &SetPipelinePlan, files: &[Vec<u8>]) -> Result<Config, String> {
    let scope = given(set, files)?;
    let scope = (!scope.0.is_empty()).then_some(&scope as &dyn Lookup);
    pipeline::resolve(text, scope).map_err(|problem| problem.message)
}

/// Instance variables first, then the step's, then those of files, the first file first.
fn given(set: &SetPipelinePlan, files: &[Vec<u8>]) -> Result<Chain<Box<dyn Lookup + Send + Sync>>, String> {
    let named = |vars: &Option<Object>| {
        let mut values = Values::default();
        for (name, value) in vars.iter().flatten() {
            values.insert(&Reference { path: name.clone(), ..Reference::default() }, value.clone());
        }
        Box::new(values) as Box<dyn Lookup + Send + Sync>
    };
    let some = [&set.instance_vars, &set.vars].into_iter().filter(|vars| vars.iter().flatten().next().is_some());
    let mut places: Vec<_> = some.map(named).collect();
    for text in files {
        match pipeline::to_json(text).map_err(|e| e.message.clone())? {
            Value::Object(map) => places.push(Box::new(Static::from_map(map))),
            Value::Null => places.push(Box::new(Static::default())),
            _ => return Err("a file of variables must be a map of names to values".to_owned()),
        }
    }
    Ok(Chain(places))
}

/// Tells warnings and errors; whether there are no errors.
async fn check(config: &Config, lines: &mut Lines<'_>) -> Result<bool, Stop> {
    let (problems, warnings) = pipeline::validate(config);
    for Warning { message, .. } in warnings {
        lines.err(&format!("WARNING: {message}\n")).await?;
    }
    let problems = if problems.is_empty() { pipeline::unsupported(config) } else { problems };
    if problems.is_empty() {
        return Ok(true);
    }
    let texts: String = pipeline::wire(&problems).iter().map(|text| format!("- {text}\n")).collect();
    lines.err(&format!("invalid pipeline:\n{texts}")).await?;
    Ok(false)
}

/// Compares with what is there, and saves what has changed. Repeated after a crash it finds its own work, and its lines
/// in the log already.
async fn save(
    set: &SetPipelinePlan,
    config: &Config,
    lines: &mut Lines<'_>,
    plan: &PlanId,
    scope: &Scope,
) -> Result<(), Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.0));
    let pipeline = PipelineRef { name: set.name.clone(), instance_vars: set.instance_vars.clone() };
    let target = Target { team: world.team_to_set(&set.team).await?, pipeline };
    let (before, version) = world.pipeline_config(&target).await?.unwrap_or_default();
    let Some(difference) = pipeline::diff(&before, config, true) else {
        lines.out("no changes to apply.\n").await?;
        if !world.adopt_pipeline(&target).await? {
            lines.err(OUTDATED).await?;
        }
        return Ok(world.emit(&origin, Event::SetPipelineChanged(false)).await?);
    };
    lines.out(&difference).await?;
    lines.out(&format!("setting pipeline: {}\n", target.pipeline.shown())).await?;
    world.emit(&origin, Event::SetPipelineChanged(true)).await?;
    match world.save_pipeline(&target, config, version).await? {
        SavedConfig::Saved { .. } => lines.out("done\n").await,
        SavedConfig::SetByNewerBuild => lines.err(OUTDATED).await,
        SavedConfig::StaleVersion => Err(Stop::Error(
            "comparison with existing config failed during save: somebody else has set the pipeline meanwhile"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(text: &str, set: Value, files: &[&str]) -> Result<Value, String> {
        let set: SetPipelinePlan = serde_json::from_value(set).unwrap();
        let files: Vec<Vec<u8>> = files.iter().map(|f| f.as_bytes().to_vec()).collect();
        resolve(text.as_bytes(), &set, &files).map(|config| serde_json::to_value(config.user_data).unwrap())
    }

    #[test]
    fn variables_come_from_the_instance_then_the_step_then_its_files_and_others_stay() {
        let text = "user_data: {a: ((a)), b: ((b.c)), c: ((c)), d: ((d)), e: 'x-((count))', later: ((later))}";
        let set = json!({"instance_vars": {"a": "instance"}, "vars": {"a": "step", "b": {"c": [1]}, "count": 1.5}});
        let files = ["{a: 1, c: first}", "{c: second, d: {e: true}}", ""];
        let want =
            json!({"a": "instance", "b": [1], "c": "first", "d": {"e": true}, "e": "x-1.5", "later": "((later))"});
        assert_eq!(resolved(text, set, &files), Ok(want));
        let error = resolved("user_data: 'x-((count))'", json!({}), &["count: 1"]).unwrap_err();
        assert_eq!(error, "cannot interpolate non-primitive value (float64) from var: count");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let error = |text: &str| resolved(text, json!({}), &[]).unwrap_err();
        let twice = "yaml: unmarshal errors:\n  line 2: mapping key \"jobs\" already defined at line 1";
        assert_eq!(error("jobs: []\njobs: []\n"), twice);
        for (text, what) in [
            ("#!/bin/sh\necho ran\n", "line 2: cannot unmarshal !!str `echo ran`"),
            ("just a longer text", "line 1: cannot unmarshal !!str `just a ...`"),
            ("- a", "line 1: cannot unmarshal !!seq"),
            ("7", "line 1: cannot unmarshal !!int `7`"),
        ] {
            let into = "into map[interface {}]interface {}";
            assert_eq!(error(text), format!("yaml: unmarshal errors:\n  {what} {into}"));
        }
        assert!(error("jobs: {").starts_with("yaml: "));
        let variable = "user_data: ((a..b))";
        assert!(resolved(variable, json!({}), &[]).is_ok());
        assert_eq!(resolved(variable, json!({"vars": {"a": 1}}), &[]).unwrap_err(), "invalid var 'a..b': empty field");
        assert!(error("jobs: [{name: []}]").starts_with("error unmarshaling JSON: while decoding JSON: "));
    }
}
