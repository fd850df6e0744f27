//! Keys of maps that are no text: `1: x` means another thing in a template than `"1": x`, until all is made JSON.
//!
//! JSON knows no such keys, so they are marked while a template is filled in and written.

use serde_json::{Map, Number, Value};

use super::number;

/// Stands before the text of a key that is no text; of a plane that is for private use.
const MARK: char = '\u{f5a01}';

/// A key that is a number.
pub fn number(n: &Number) -> String {
    format!("{MARK}{}", n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), number::shortest))
}

/// A key that is true or false.
pub fn boolean(b: bool) -> String {
    format!("{MARK}{b}")
}

/// How a key that is no text is written.
pub fn written(key: &str) -> Option<&str> {
    key.strip_prefix(MARK)
}

/// A template in which every key has become a text, as Concourse makes it JSON: floats in single precision.
pub fn untyped(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(untyped).collect()),
        Value::Object(map) if map.keys().any(|key| key.starts_with(MARK)) => {
            let texts = map.into_iter().map(|(key, value)| (text(&key), untyped(value)));
            let mut map: Map<String, Value> = texts.collect();
            map.sort_keys();
            Value::Object(map)
        }
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, untyped(value))).collect()),
        other => other,
    }
}

fn text(key: &str) -> String {
    let Some(written) = written(key) else { return key.to_owned() };
    match written.parse::<f64>() {
        Ok(f) if written.contains(['.', 'e']) => number::shortest_single(f),
        _ => written.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_typed_until_they_are_texts() {
        let float = Number::from_f64(16_777_217.5).unwrap();
        let keys = [number(&7.into()), number(&float), boolean(true), "x".to_owned()];
        assert_eq!(keys.each_ref().map(|key| written(key)), [Some("7"), Some("1.67772175e+07"), Some("true"), None]);
        let map: Map<String, Value> = keys.into_iter().map(|key| (key, json!([{number(&1.into()): 1}]))).collect();
        let one = json!([{"1": 1}]);
        assert_eq!(untyped(map.into()), json!({"7": one, "1.6777218e+07": one, "true": one, "x": one}));
    }
}
