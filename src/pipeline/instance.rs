//! The variables that tell the instances of one pipeline apart, as people write them: `branch:main,n:2`.

use std::fmt;

use serde_json::{Map, Value};

use super::to_json;
use crate::vars::Reference;

/// The vars of an instance on their own.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceVars(pub Map<String, Value>);

impl fmt::Display for InstanceVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = flatten(&self.0).into_iter().map(|(path, value)| match value {
            Value::String(ref s) if !needs_quotes(s) => {
                let quoted = value.to_string();
                format!("{path}:{}", &quoted[1..quoted.len() - 1])
            }
            value => format!("{path}:{value}"),
        });
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

/// Every value that is no map, with the reference to it.
pub fn leaves(vars: &Map<String, Value>) -> Vec<(Reference, Value)> {
    fn walk(path: &str, fields: &[String], value: &Value, out: &mut Vec<(Reference, Value)>) {
        if let Value::Object(map) = value {
            for (key, value) in map {
                walk(path, &[fields, std::slice::from_ref(key)].concat(), value, out);
            }
            return;
        }
        let reference = Reference { source: String::new(), path: path.to_owned(), fields: fields.to_vec() };
        out.push((reference, value.clone()));
    }
    let mut out = Vec::new();
    vars.iter().for_each(|(key, value)| walk(key, &[], value, &mut out));
    out
}

/// Leaves and their dotted paths, sorted by path.
pub fn flatten(vars: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut out: Vec<_> = leaves(vars).into_iter().map(|(reference, value)| (reference.to_string(), value)).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// Whether a string would be read back as something else if it stood bare.
fn needs_quotes(text: &str) -> bool {
    !matches!(to_json(text.as_bytes()), Ok(Value::String(read)) if read == text)
        || text.contains([',', ':', ' ', '/', '"', '\'', '\\', '{', '}', '[', ']'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vars_print_as_concourse_prints_them() {
        for (vars, text) in [
            (json!({"branch": "a/b", "n": 1}), "branch:\"a/b\",n:1"),
            (json!({"s": "1", "t": "true", "u": "x"}), "s:\"1\",t:\"true\",u:x"),
            (json!({"b": {"a": [1, "x"]}, "a": null}), "a:null,b.a:[1,\"x\"]"),
        ] {
            let Value::Object(vars) = vars else { panic!("an object") };
            assert_eq!(InstanceVars(vars).to_string(), text);
        }
    }
}
