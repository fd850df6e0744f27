//! Where the values of variables come from.

use serde_json::{Map, Value};

use super::{Error, Reference, go_type, number};

/// Anything that knows variables.
pub trait Lookup {
    /// The value, or none where it is not known here.
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error>;

    /// Whether its numbers may stand within text also where they have a fraction: those of a build may, those of a
    /// client's files may not.
    fn decimals(&self, _reference: &Reference) -> bool {
        false
    }
}

impl<L: Lookup + ?Sized> Lookup for &L {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        (**self).get(reference)
    }

    fn decimals(&self, reference: &Reference) -> bool {
        (**self).decimals(reference)
    }
}

impl Lookup for Box<dyn Lookup + Send + Sync> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        (**self).get(reference)
    }

    fn decimals(&self, reference: &Reference) -> bool {
        (**self).decimals(reference)
    }
}

/// Follows the fields of a reference into the value of its path.
pub fn traverse(value: &Value, reference: &Reference) -> Result<Value, Error> {
    let mut value = value;
    for field in &reference.fields {
        let var = reference.to_string();
        value = match value {
            Value::Object(map) => match map.get(field) {
                Some(inner) => inner,
                None => return Err(Error::MissingField { var, field: field.clone() }),
            },
            other => return Err(Error::NotAMap { var, field: field.clone(), kind: go_type(other) }),
        };
    }
    Ok(value.clone())
}

/// Variables that were given: flags and files of the client, `vars` of a step.
///
/// Numbers of a file are floats, as in Concourse, and so cannot stand within text; those that are set are as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Static {
    values: Map<String, Value>,
    exact: bool,
}

impl Static {
    /// The variables of a file: a map at its top, or nothing.
    pub fn from_map(map: Map<String, Value>) -> Static {
        let mut value = Value::Object(map);
        number::to_floats(&mut value);
        match value {
            Value::Object(values) => Static { values, exact: false },
            _ => Static::default(),
        }
    }

    /// Sets one variable, or a field of it; what stood there before and is no map gives way.
    pub fn set(&mut self, reference: &Reference, value: Value) {
        self.exact = true;
        upsert(&mut self.values, &reference.path, &reference.fields, value);
    }
}

fn upsert(map: &mut Map<String, Value>, key: &str, fields: &[String], value: Value) {
    let Some((next, rest)) = fields.split_first() else {
        map.insert(key.to_owned(), value);
        return;
    };
    let slot = map.entry(key.to_owned()).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(inner) = slot {
        upsert(inner, next, rest, value);
    }
}

impl Lookup for Static {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        match self.values.get(&reference.path) {
            Some(value) if reference.source.is_empty() => traverse(value, reference).map(Some),
            _ => Ok(None),
        }
    }

    fn decimals(&self, _: &Reference) -> bool {
        self.exact
    }
}

/// Several places, asked in order.
#[derive(Debug, Clone, Default)]
pub struct Chain<L>(pub Vec<L>);

impl<L: Lookup> Lookup for Chain<L> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        for lookup in &self.0 {
            if let Some(value) = lookup.get(reference)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn decimals(&self, reference: &Reference) -> bool {
        let knows = |lookup: &&L| matches!(lookup.get(reference), Ok(Some(_)));
        self.0.iter().find(knows).is_some_and(|lookup| lookup.decimals(reference))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vars::{Missing, interpolate};

    #[test]
    fn fields_are_set_within_what_is_there() {
        let mut given = Static::default();
        for (name, value) in [("a.b", json!("1")), ("a.c", json!("2")), ("x", json!("y")), ("x.z", json!(true))] {
            given.set(&Reference::parse(name).unwrap(), value);
        }
        assert_eq!(Value::Object(given.values), json!({"a": {"b": "1", "c": "2"}, "x": {"z": true}}));
    }

    #[test]
    fn numbers_that_are_set_may_stand_within_text_and_those_of_a_file_not() {
        let mut given = Static::default();
        given.set(&Reference::parse("f").unwrap(), json!(1.5));
        let fill = |scope: &Static| interpolate(&json!("v((f))"), scope, Missing::Leave).map_err(|e| e.to_string());
        assert_eq!(fill(&given), Ok(json!("v1.5")));
        let file = Static::from_map(json!({"f": 1.5}).as_object().unwrap().clone());
        assert_eq!(fill(&file).unwrap_err(), "cannot interpolate non-primitive value (float64) from var: f");
    }

    #[test]
    fn the_first_place_that_knows_it_wins() {
        let place = |v: Value| Static::from_map(v.as_object().unwrap().clone());
        let chain = Chain(vec![place(json!({"a": "1"})), place(json!({"a": "2", "b": {"c": "3"}}))]);
        let get = |name: &str| chain.get(&Reference::parse(name).unwrap());
        assert_eq!(get("a"), Ok(Some(json!("1"))));
        assert_eq!(get("b.c"), Ok(Some(json!("3"))));
        assert_eq!(get("z"), Ok(None));
        assert_eq!(get("src:a"), Ok(None));
        assert_eq!(get("b.z").unwrap_err().to_string(), "missing field 'z' in var: b.z");
    }
}
