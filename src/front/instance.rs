//! Instance variables in an address: `vars={…}`, patched by `vars.path.to=JSON`.

use serde_json::{Map, Value};

use super::{Failure, Query};
use crate::base::version::canonical_json;

/// Names in one path, at most: what is built of it is walked level by level, by anybody's word, and a name is a level.
const DEEPEST: usize = 64;

/// Canonical JSON of the instance variables that a query names, or '' for none.
pub fn instance_vars(query: &Query) -> Result<String, Failure> {
    let mut named: Vec<_> = query.0.iter().filter(|(n, _)| n == "vars" || n.starts_with("vars.")).collect();
    if named.is_empty() {
        return Ok(String::new());
    }
    named.sort();
    let mut vars = Value::Object(Map::new());
    for (name, text) in named {
        let path = fields(name).ok_or_else(|| Failure::bad_request(format!("invalid instance variable {name}")))?;
        if path.len() > DEEPEST {
            let text = format!("invalid instance variables: one nests deeper than {DEEPEST} levels");
            return Err(Failure::bad_request(text));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Failure::bad_request(format!("invalid instance variable {name}: {e}")))?;
        put(&mut vars, &path[1..], value);
    }
    match vars {
        Value::Object(map) if !map.is_empty() => Ok(canonical_json(&Value::Object(map))),
        Value::Object(_) | Value::Null => Ok(String::new()),
        _ => Err(Failure::bad_request("invalid instance variables: not an object")),
    }
}

/// `a."b.c".d` → a, b.c, d.
fn fields(reference: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in reference.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    (!quoted && fields.iter().all(|f| !f.is_empty())).then_some(fields)
}

fn put(into: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(map) = into {
        put(map.entry(first.clone()).or_insert(Value::Null), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_patched_variables_are_read() {
        for (query, expected) in [
            ("", ""),
            ("limit=3", ""),
            ("vars={}", ""),
            (r#"vars.branch="main""#, r#"{"branch":"main"}"#),
            (r#"vars={"b":1,"a":{"x":2}}&vars.a.y=3"#, r#"{"a":{"x":2,"y":3},"b":1}"#),
            (r#"vars."a.b".c=true"#, r#"{"a.b":{"c":true}}"#),
        ] {
            assert_eq!(instance_vars(&Query::parse(query)).unwrap(), expected, "{query}");
        }
        for query in ["vars.a=main", "vars=3", "vars..a=1", r#"vars."a=1"#] {
            assert!(instance_vars(&Query::parse(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn no_path_is_deeper_than_the_bound() {
        let query = |names: usize| Query::parse(&format!("vars{}=1", ".a".repeat(names)));
        assert!(instance_vars(&query(DEEPEST - 1)).is_ok());
        for names in [DEEPEST, 30_000] {
            let failure = instance_vars(&query(names)).unwrap_err();
            assert!(failure.message.contains("deeper than 64 levels"), "{}", failure.message);
        }
        // The values themselves are JSON, whose reader has its own bound.
        let nested = format!("vars.a={}1{}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(instance_vars(&Query::parse(&nested)).is_err());
    }
}
