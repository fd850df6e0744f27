//! Values that a source of variables has given for the references it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::{Error, Lookup, Reference, traverse};

/// What was found, by source and path; the fields that a reference names are looked up in it. `Debug` shows no value.
#[derive(Clone, Default, PartialEq)]
pub struct Values {
    found: BTreeMap<Key, Value>,
    /// Those that will be replaced by others that mean the same.
    passing: BTreeSet<Key>,
    /// Those that everybody may see.
    open: BTreeSet<Key>,
    /// Where absent ones were looked for.
    missed: BTreeMap<Key, String>,
}

type Key = (String, String);

fn key(reference: &Reference) -> Key {
    (reference.source.clone(), reference.path.clone())
}

impl Values {
    /// Adds the value of a reference's path, whatever fields the reference names.
    pub fn insert(&mut self, reference: &Reference, value: Value) {
        self.found.insert(key(reference), value);
    }

    /// Adds a value that ends soon and is renewed, such as credentials for an hour: what it is part of stays the same
    /// when it changes.
    pub fn insert_passing(&mut self, reference: &Reference, value: Value) {
        self.passing.insert(key(reference));
        self.insert(reference, value);
    }

    /// Notes that a value is no secret.
    pub fn open(&mut self, reference: &Reference) {
        self.open.insert(key(reference));
    }

    /// Whether what is known of a reference must not be seen.
    pub fn is_secret(&self, reference: &Reference) -> bool {
        !self.open.contains(&key(reference))
    }

    /// Notes where a value was looked for and not found.
    pub fn miss(&mut self, reference: &Reference, tried: &str) {
        let all = self.missed.entry(key(reference)).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(tried);
    }

    /// Where an absent value was looked for.
    pub fn missed(&self, reference: &Reference) -> Option<&str> {
        self.missed.get(&key(reference)).map(String::as_str)
    }

    /// Whether the path of this reference has a value already.
    pub fn knows(&self, reference: &Reference) -> bool {
        self.found.contains_key(&key(reference))
    }

    /// The same, with values that are renewed standing as their own names: for telling one configuration from another.
    #[must_use]
    pub fn lasting(&self) -> Values {
        let mut lasting = self.clone();
        for (source, path) in &self.passing {
            let name = Reference { source: source.clone(), path: path.clone(), fields: Vec::new() };
            lasting.found.insert((source.clone(), path.clone()), Value::String(format!("(({name}))")));
        }
        lasting
    }

    /// Whether some value is one that is renewed.
    pub fn has_passing(&self) -> bool {
        !self.passing.is_empty()
    }
}

impl Lookup for Values {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        let Some(value) = self.found.get(&key(reference)) else { return Ok(None) };
        if self.passing.contains(&key(reference)) && !value.is_object() {
            return Ok(Some(value.clone()));
        }
        traverse(value, reference).map(Some)
    }

    fn decimals(&self, _: &Reference) -> bool {
        true
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.found.keys().map(|(source, path)| format!("{source}:{path}"))).finish()
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
        values.insert_passing(&reference("key"), json!("for an hour"));
        assert_eq!(values.get(&reference("key")), Ok(Some(json!("for an hour"))));
        assert_eq!(values.lasting().get(&reference("key")), Ok(Some(json!("((key))"))));
        assert!(values.has_passing());
        values.miss(&reference("n"), "/a");
        values.miss(&reference("n"), "/b");
        assert_eq!(values.missed(&reference("n")), Some("/a, /b"));
    }
}
