//! JSON Schema of pipelines and tasks, by which editors complete and check what is being written.
//!
//! It says what the decoder says as far as a schema can: which keys there are and what they hold. A variable may stand
//! for anything, since it is filled in before the server reads the file. Names, uses and cycles are for `validate`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static SCHEMA: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).expect("the schema is part of this program"));

/// The schema of pipelines.
pub fn pipeline() -> Value {
    Value::Object(SCHEMA.clone())
}

/// The schema of files that hold one task.
pub fn task() -> Value {
    let mut schema: Map<String, Value> = Map::new();
    schema.insert("$schema".into(), SCHEMA["$schema"].clone());
    schema.insert("title".into(), "Concourse task".into());
    schema.insert("$ref".into(), "#/definitions/taskConfig".into());
    schema.insert("definitions".into(), SCHEMA["definitions"].clone());
    Value::Object(schema)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::pipeline::decode;

    fn keys(schema: &Value) -> BTreeSet<&str> {
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn it_knows_the_keys_the_decoder_knows_and_no_others() {
        let schema = pipeline();
        let all = &schema["definitions"];
        let set = |keys: &[&'static str]| keys.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(keys(&schema), set(&decode::TOP));
        for (name, known) in [
            ("resource", &decode::RESOURCE[..]),
            ("resourceType", &decode::RESOURCE_TYPE),
            ("job", &decode::JOB),
            ("taskConfig", &decode::TASK),
        ] {
            assert_eq!(keys(&all[name]), set(known), "{name}");
        }
        let modifiers = [
            "ensure",
            "on_error",
            "on_abort",
            "on_failure",
            "on_success",
            "across",
            "fail_fast",
            "attempts",
            "timeout",
        ];
        for core in ["run", "task", "put", "get", "set_pipeline", "load_var", "try", "do", "in_parallel"] {
            let mut name = core.replace("_p", "P").replace("_v", "V");
            name.push_str("Step");
            assert_eq!(keys(&all[&name]), &set(decode::known(core)) | &set(&modifiers), "{name}");
        }
        assert_eq!(task()["definitions"], schema["definitions"]);
    }
}
