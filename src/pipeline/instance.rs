//! The variables that tell instances of a pipeline apart, as people write them: `branch:main,n:2`.

use serde_json::{Map, Value};

use super::to_json;
use crate::vars::Reference;

/// The leaves of a map, each with the way to it, in the map's order.
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
    let mut out: Vec<_> = leaves(vars).into_iter().map(|(way, value)| (way.to_string(), value)).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// The variables as the client writes and reads them.
pub fn text(vars: &Map<String, Value>) -> String {
    let pairs = flatten(vars).into_iter().map(|(path, value)| match value {
        Value::String(ref s) if !needs_quotes(s) => {
            let quoted = value.to_string();
            format!("{path}:{}", &quoted[1..quoted.len() - 1])
        }
        value => format!("{path}:{value}"),
    });
    pairs.collect::<Vec<_>>().join(",")
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
    fn variables_are_written_as_the_client_writes_them() {
        for (vars, expected) in [
            (json!({"branch": "main", "n": 2}), "branch:main,n:2"),
            (json!({"branch": "a/b", "n": "1"}), "branch:\"a/b\",n:\"1\""),
            (json!({"b": {"a": [1, "x"]}, "a": null}), "a:null,b.a:[1,\"x\"]"),
        ] {
            let Value::Object(vars) = vars else { panic!("an object") };
            assert_eq!(text(&vars), expected);
        }
    }
}
