//! The plan of a one-off build, as `execute` sends it: inputs side by side, the task, and outputs whatever happens.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::pipeline::TaskConfig;

/// Numbers the nodes of a plan.
pub struct Ids(i64);

impl Ids {
    /// Counts from `start` on.
    pub fn new(start: i64) -> Self {
        Ids(start)
    }

    /// Puts the next id before the fields of `node`.
    pub fn node(&mut self, kind: &str, value: Value) -> Value {
        self.0 += 1;
        json!({"id": format!("{:x}", self.0), kind: value})
    }
}

/// What a job would get next.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NextInput {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its source.
    pub source: Value,
    /// Params of the get.
    pub params: Option<Map<String, Value>>,
    /// The version.
    pub version: Value,
    /// Where it may run.
    pub tags: Option<Vec<String>>,
}

/// What the build is made of.
pub struct OneOff<'a> {
    /// Plans of the inputs.
    pub inputs: Vec<Value>,
    /// Names of the outputs to keep.
    pub outputs: Vec<String>,
    /// The task.
    pub config: &'a TaskConfig,
    /// Whether it has all privileges.
    pub privileged: bool,
    /// Names of inputs by the task's names.
    pub mapping: BTreeMap<String, String>,
    /// The types of the pipeline whose inputs are used.
    pub types: Vec<Value>,
    /// Where it may run.
    pub tags: Vec<String>,
}

impl OneOff<'_> {
    /// The plan.
    pub fn plan(self, ids: &mut Ids) -> Value {
        let mut task = json!({
            "name": "one-off", "privileged": self.privileged, "hermetic": false, "config": self.config,
        });
        if !self.tags.is_empty() {
            task["tags"] = json!(self.tags);
        }
        if !self.mapping.is_empty() {
            task["input_mapping"] = json!(self.mapping);
        }
        if !self.types.is_empty() {
            task["resource_types"] = Value::Array(self.types);
        }
        let task = ids.node("task", task);
        let inputs = ids.node("in_parallel", json!({"steps": self.inputs}));
        let steps = json!([inputs, task]);
        if self.outputs.is_empty() {
            return ids.node("do", steps);
        }
        let outputs: Vec<Value> =
            self.outputs.iter().map(|name| ids.node("artifact_output", json!({"name": name}))).collect();
        let step = ids.node("do", steps);
        let outputs = ids.node("in_parallel", json!({"steps": outputs}));
        ids.node("ensure", json!({"step": step, "ensure": outputs}))
    }
}

/// The get of an input a job would have.
pub fn get(ids: &mut Ids, input: &NextInput, types: &[Value]) -> Value {
    let mut get = json!({"name": input.name, "type": input.kind, "source": input.source});
    let mut node = ids.node("get", Value::Null);
    let id = node["id"].as_str().unwrap_or_default().to_owned();
    get["image"] = image(&id, &input.kind, input.tags.as_deref(), types);
    get["version"] = input.version.clone();
    if let Some(params) = input.params.as_ref().filter(|p| !p.is_empty()) {
        get["params"] = json!(params);
    }
    if let Some(tags) = input.tags.as_ref().filter(|t| !t.is_empty()) {
        get["tags"] = json!(tags);
    }
    node["get"] = get;
    node
}

/// How the image of a type is found: built in, or by a check and a get of its own.
fn image(id: &str, kind: &str, tags: Option<&[String]>, types: &[Value]) -> Value {
    let Some(own) = types.iter().find(|t| t["name"] == kind) else {
        return json!({"base_type": kind});
    };
    let others: Vec<Value> = types.iter().filter(|t| t["name"] != kind).cloned().collect();
    let parent = own["type"].as_str().unwrap_or_default();
    let (get_id, check_id) = (format!("{id}/image-get"), format!("{id}/image-check"));
    let get_image = image(&get_id, parent, tags, &others);
    let base = get_image["base_type"].clone();
    let mut get =
        json!({"name": kind, "type": parent, "source": own["source"], "image": get_image, "version_from": check_id});
    let interval = own["check_every"].as_str().filter(|i| !i.is_empty()).unwrap_or("1m0s");
    let mut check = json!({
        "name": kind, "type": parent, "source": own["source"], "image": image(&check_id, parent, tags, &others),
        "resource_type": kind, "interval": interval,
    });
    if let Some(params) = own["params"].as_object() {
        get["params"] = json!(params);
    }
    let tags = own["tags"].as_array().filter(|t| !t.is_empty()).map(|t| json!(t)).or(tags.map(|t| json!(t)));
    if let Some(tags) = tags {
        get["tags"] = tags.clone();
        check["tags"] = tags;
    }
    let mut image = json!({
        "check_plan": {"id": check_id, "check": check}, "get_plan": {"id": get_id, "get": get}, "base_type": base,
    });
    if own["privileged"] == true {
        image["privileged"] = json!(true);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_kept_whatever_happens() {
        let mut ids = Ids::new(0);
        let config = TaskConfig::load(b"platform: linux\nrun: {path: ls}\n").unwrap();
        let inputs = vec![ids.node("artifact_input", json!({"artifact_id": 3, "name": "here"}))];
        let one_off = OneOff {
            inputs,
            outputs: vec!["out".into()],
            config: &config,
            privileged: true,
            mapping: BTreeMap::new(),
            types: Vec::new(),
            tags: Vec::new(),
        };
        let plan = one_off.plan(&mut ids);
        let steps = &plan["ensure"]["step"]["do"];
        assert_eq!(
            steps[0]["in_parallel"]["steps"][0],
            json!({"id": "1", "artifact_input": {"artifact_id": 3, "name": "here"}})
        );
        assert_eq!(steps[1]["task"]["privileged"], json!(true));
        assert_eq!(plan["ensure"]["ensure"]["in_parallel"]["steps"][0]["artifact_output"], json!({"name": "out"}));
    }

    #[test]
    fn an_input_of_a_custom_type_brings_its_image() {
        let types =
            [json!({"name": "a", "type": "b", "source": {}}), json!({"name": "b", "type": "mock", "source": {"x": 1}})];
        let input =
            NextInput { name: "i".into(), kind: "a".into(), version: json!({"v": "1"}), ..NextInput::default() };
        let image = &get(&mut Ids::new(9), &input, &types)["get"]["image"];
        assert_eq!(image["base_type"], "mock");
        assert_eq!(image["get_plan"]["get"]["version_from"], "a/image-check");
        assert_eq!(image["check_plan"]["check"]["image"]["get_plan"]["id"], "a/image-check/image-get");
    }
}
