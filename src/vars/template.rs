//! Variables filled into configuration.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::{Error, Lookup, Reference, go_type, number, typed};

/// What to do about a variable nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Leave it as it stands, for a later time.
    Leave,
    /// Name all of them in an error.
    Error,
}

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\(\((([-/.0-9A-Za-z_\p{L}]+:)?[-/.:@"0-9A-Za-z_\p{L}]+)\)\)"#).expect("a constant pattern")
});

/// The variables a text names, in order, as written.
pub fn names(text: &str) -> Vec<&str> {
    VARIABLE.captures_iter(text).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect()
}

/// Every variable that a value names, keys of maps included.
pub fn references(value: &Value) -> Result<BTreeSet<Reference>, Error> {
    let mut found = BTreeSet::new();
    gather(value, &mut found)?;
    Ok(found)
}

fn gather(value: &Value, found: &mut BTreeSet<Reference>) -> Result<(), Error> {
    match value {
        Value::String(text) => {
            for name in names(text) {
                found.insert(Reference::parse(name)?);
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| gather(item, found)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            for name in names(key) {
                found.insert(Reference::parse(name)?);
            }
            gather(value, found)
        }),
        _ => Ok(()),
    }
}

/// Whether a text is one variable and nothing else.
fn whole(text: &str) -> bool {
    VARIABLE.find(text).is_some_and(|m| m.start() == 0 && m.end() == text.len())
}

/// Fills variables in: alone in a value they keep their type, within text they must be text or whole numbers. Keys of
/// maps are filled in too.
pub fn interpolate(value: &Value, scope: &dyn Lookup, on_missing: Missing) -> Result<Value, Error> {
    fill(value, scope, on_missing, false)
}

/// The same for a template, the keys of which stay what they are, or become what is filled in.
pub fn fill_template(value: &Value, scope: &dyn Lookup, on_missing: Missing) -> Result<Value, Error> {
    fill(value, scope, on_missing, true)
}

fn fill(value: &Value, scope: &dyn Lookup, on_missing: Missing, typed: bool) -> Result<Value, Error> {
    let mut pass = Pass { scope, missing: BTreeSet::new(), typed };
    let filled = pass.value(value)?;
    match on_missing {
        Missing::Error if !pass.missing.is_empty() => Err(Error::Undefined(pass.missing.into_iter().collect())),
        _ => Ok(filled),
    }
}

struct Pass<'s> {
    scope: &'s dyn Lookup,
    missing: BTreeSet<String>,
    /// Whether keys of maps may be other than texts.
    typed: bool,
}

impl Pass<'_> {
    fn value(&mut self, value: &Value) -> Result<Value, Error> {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, value) in map {
                    let value = self.value(value)?;
                    filled.insert(self.key(key)?, value);
                }
                filled.sort_keys();
                Ok(Value::Object(filled))
            }
            other => Ok(other.clone()),
        }
    }

    fn key(&mut self, key: &str) -> Result<String, Error> {
        match self.text(key)? {
            Value::String(text) => Ok(text),
            Value::Number(n) if self.typed => Ok(typed::number(&n)),
            Value::Bool(b) if self.typed => Ok(typed::boolean(b)),
            Value::Number(n) => Ok(n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), number::shortest)),
            Value::Bool(b) => Ok(b.to_string()),
            other => Err(Error::NotText { var: key.to_owned(), kind: go_type(&other) }),
        }
    }

    fn text(&mut self, text: &str) -> Result<Value, Error> {
        let mut filled = text.to_owned();
        for name in names(text) {
            let reference = Reference::parse(name)?;
            let Some(value) = self.scope.get(&reference)? else {
                self.missing.insert(reference.to_string());
                continue;
            };
            if whole(&filled) {
                return Ok(value);
            }
            let shown = match &value {
                Value::String(s) => s.clone(),
                Value::Number(n) if !n.is_f64() => n.to_string(),
                Value::Number(n) if self.scope.decimals(&reference) => number::text(n),
                other => return Err(Error::NotText { var: name.to_owned(), kind: go_type(other) }),
            };
            filled = filled.replace(&format!("(({name}))"), &shown);
        }
        Ok(Value::String(filled))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vars::Static;

    fn scope() -> Static {
        let map = json!({"s": "str", "num": 5, "b": true, "z": null, "m": {"k": "v", "a.b": "dotted"}, "empty": ""});
        Static::from_map(map.as_object().unwrap().clone())
    }

    #[test]
    fn a_whole_value_keeps_its_type_and_text_takes_only_text() {
        for (template, want) in [
            ("((s))", Ok(json!("str"))),
            ("a-((s))-b", Ok(json!("a-str-b"))),
            ("((num))", Ok(json!(5.0))),
            ("((b))", Ok(json!(true))),
            ("((z))", Ok(json!(null))),
            ("((m))", Ok(json!({"k": "v", "a.b": "dotted"}))),
            (r#"((m."a.b"))"#, Ok(json!("dotted"))),
            ("a((empty))b", Ok(json!("ab"))),
            ("((s))((n))", Ok(json!("str((n))"))),
            ("(((s)))", Ok(json!("(str)"))),
            ("(( s ))", Ok(json!("(( s ))"))),
            ("((src:s))", Ok(json!("((src:s))"))),
            ("((s|t))", Ok(json!("((s|t))"))),
            ("a((num))", Err("cannot interpolate non-primitive value (float64) from var: num")),
            ("a((z))", Err("cannot interpolate non-primitive value (<nil>) from var: z")),
            ("((m.zz))", Err("missing field 'zz' in var: m.zz")),
            ("((m.k.zz))", Err("cannot access field 'zz' of non-map value ('string') from var: m.k.zz")),
            ("((s.))", Err("invalid var 's.': empty field")),
        ] {
            let got = interpolate(&json!(template), &scope(), Missing::Leave);
            assert_eq!(got.map_err(|e| e.to_string()), want.map_err(str::to_owned), "{template}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_written_stops_it(text in "[(){}a-z.:\"/ é]{0,24}") {
            let value = json!({text.clone(): [text]});
            if let Ok(left) = interpolate(&value, &Static::default(), Missing::Leave) {
                proptest::prop_assert_eq!(left, value.clone());
            }
            proptest::prop_assert_eq!(references(&value).is_err(), interpolate(&value, &scope(), Missing::Leave).is_err_and(|e| matches!(e, Error::Invalid { .. })));
        }
    }

    #[test]
    fn keys_are_filled_in_and_all_that_is_missing_is_named() {
        let value = json!({"((s))": ["((s))"], "a-((s))": "x"});
        let filled = interpolate(&value, &scope(), Missing::Error).unwrap();
        assert_eq!(filled, json!({"str": ["str"], "a-str": "x"}));
        let numbers = fill_template(&json!({"((num))": 1}), &scope(), Missing::Leave).unwrap();
        assert_eq!(numbers, json!({typed::number(&5.into()): 1}));
        let named: Vec<_> = references(&value).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["s"]);
        let error = interpolate(&json!(["((b2))", {"x": "((a.c))"}]), &scope(), Missing::Error).unwrap_err();
        assert_eq!(error.to_string(), "undefined vars: a.c, b2");
    }
}
