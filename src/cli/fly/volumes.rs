//! `volumes`.

use reqwest::Method;
use serde_json::Value;

use super::failure::Outcome;
use super::table::{Cell, Table};
use super::{Fly, printed};
use crate::pipeline::yaml::to_yaml;

/// Arguments of `volumes`.
#[derive(Debug, Clone, clap::Args)]
pub struct Volumes {
    /// Print additional information for each volume
    #[arg(short, long)]
    details: bool,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl Volumes {
    /// Lists the team's volumes by worker.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.own_team().call(Method::GET, &["volumes"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::VOLUME, &answer);
        }
        let mut volumes: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
        volumes.sort_by_key(|v| (text(v, "worker_name"), text(v, "id")));
        let mut table = Table::new(["handle", "worker", "type", "identifier"]);
        for volume in volumes {
            table.push(vec![
                Cell::from(text(volume, "id")),
                Cell::from(text(volume, "worker_name")),
                Cell::from(text(volume, "type")),
                Cell::from(identifier(volume, self.details)),
            ]);
        }
        fly.table(&table)
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// What a volume is of.
fn identifier(volume: &Value, details: bool) -> String {
    match (text(volume, "type"), details) {
        ("container", false) => text(volume, "container_handle").to_owned(),
        ("container", true) => {
            let parent = match text(volume, "parent_handle") {
                "" => String::new(),
                parent => format!(",parent:{parent}"),
            };
            format!("container:{},path:{}{parent}", text(volume, "container_handle"), text(volume, "path"))
        }
        ("task-cache", _) => {
            format!("{}/{}/{}", text(volume, "pipeline_name"), text(volume, "job_name"), text(volume, "step_name"))
        }
        ("resource", false) => present(&volume["resource_type"]["version"]),
        ("resource", true) => present_type(&volume["resource_type"]),
        ("resource-type", false) => text(&volume["base_resource_type"], "name").to_owned(),
        ("resource-type", true) => present(&volume["base_resource_type"]),
        _ => "n/a".to_owned(),
    }
}

fn present_type(kind: &Value) -> String {
    if !kind["base_resource_type"].is_null() {
        return present(&kind["base_resource_type"]);
    }
    match &kind["resource_type"] {
        Value::Null => String::new(),
        inner => format!("type:resource({}),version:{}", present_type(inner), present(&kind["version"])),
    }
}

/// A map as YAML on one line without spaces, its keys sorted.
fn present(value: &Value) -> String {
    let yaml = to_yaml(&Value::Object(value.as_object().cloned().unwrap_or_default()));
    yaml.trim().lines().collect::<Vec<_>>().join(",").replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_says_what_it_is_of() {
        let container = json!({"type": "container", "container_handle": "c", "path": "/p", "parent_handle": "x"});
        let cache = json!({"type": "task-cache", "pipeline_name": "p", "job_name": "j", "step_name": "s"});
        let resource = json!({"type": "resource", "resource_type": {
            "resource_type": {"base_resource_type": {"name": "git", "version": "1.0"}},
            "version": {"ref": "a", "at": "b"},
        }});
        let base = json!({"type": "resource-type", "base_resource_type": {"name": "git", "version": "x"}});
        for (volume, short, long) in [
            (container, "c", "container:c,path:/p,parent:x"),
            (cache, "p/j/s", "p/j/s"),
            (resource, "at:b,ref:a", "type:resource(name:git,version:\"1.0\"),version:at:b,ref:a"),
            (base, "git", "name:git,version:x"),
            (json!({"type": "unknown"}), "n/a", "n/a"),
        ] {
            assert_eq!((identifier(&volume, false).as_str(), identifier(&volume, true).as_str()), (short, long));
        }
    }
}
