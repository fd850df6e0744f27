//! Values that a source of variables has given for the references it was asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Error, Lookup, Reference, traverse};

/// What was found, by source and path; the fields that a reference names are looked up in it. `Debug` shows no value.
#[derive(Clone, Default, PartialEq)]
pub struct Values(BTreeMap<(String, String), Value>);

impl Values {
    /// Adds the value of a reference's path, whatever fields the reference names.
    pub fn insert(&mut self, reference: &Reference, value: Value) {
        self.0.insert((reference.source.clone(), reference.path.clone()), value);
    }

    /// Whether the path of this reference has a value already.
    pub fn knows(&self, reference: &Reference) -> bool {
        self.0.contains_key(&(reference.source.clone(), reference.path.clone()))
    }
}

impl Lookup for Values {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        let key = (reference.source.clone(), reference.path.clone());
        self.0.get(&key).map(|value| traverse(value, reference)).transpose()
    }

    fn decimals(&self, _: &Reference) -> bool {
        true
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(|(source, path)| format!("{source}:{path}"))).finish()
    }
}

/// Calls `visit` with every text of a value: what a redactor has to know of a secret. As in Concourse those in lists are
/// passed over: lists are there to be gone through, with `across`, in the open.
pub fn each_text(value: &Value, visit: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Object(map) => map.values().for_each(|item| each_text(item, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_answers_for_its_fields_and_never_prints() {
        let mut values = Values::default();
        let reference = |text: &str| Reference::parse(text).unwrap();
        values.insert(&reference("vs:a.b"), json!({"b": "hidden", "n": 1.5}));
        assert_eq!(values.get(&reference("vs:a.b")), Ok(Some(json!("hidden"))));
        assert_eq!(values.get(&reference("vs:a.n")), Ok(Some(json!(1.5))));
        assert_eq!(values.get(&reference("a")), Ok(None));
        assert_eq!(values.get(&reference("vs:a.z")).unwrap_err().to_string(), "missing field 'z' in var: vs:a.z");
        assert_eq!(format!("{values:?}"), r#"{"vs:a"}"#);
    }
}
