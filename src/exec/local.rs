//! Variables that steps of a build set for later ones: `((.:name))`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::vars::{Error, Lookup, Reference, Values, traverse};

/// Local variables by name; those of an inner scope hide those around it. Clones share it, `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Locals {
    own: Arc<Mutex<BTreeMap<String, Value>>>,
    around: Option<Arc<Locals>>,
}

impl Locals {
    /// A place within this one: what is set there is not seen from here.
    #[must_use]
    pub fn nested(&self) -> Locals {
        Locals { own: Arc::default(), around: Some(Arc::new(self.clone())) }
    }

    /// Sets one.
    pub fn set(&self, name: &str, value: Value) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<Value> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        own.or_else(|| self.around.as_ref()?.value(name))
    }
}

impl std::fmt::Debug for Locals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.own.lock().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

/// Everything a step may name: what the build has set, and what sources outside of it have answered.
pub struct Known<'a> {
    /// Of the build.
    pub locals: &'a Locals,
    /// Of its sources.
    pub values: Values,
}

/// Whether a reference is to a variable of the build.
pub fn is_local(reference: &Reference) -> bool {
    reference.source == "."
}

impl Lookup for Known<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, Error> {
        if !is_local(reference) {
            return self.values.get(reference);
        }
        let inner = reference.without_source();
        self.locals.value(&inner.path).map(|value| traverse(&value, &inner)).transpose()
    }

    fn decimals(&self, _: &Reference) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_inner_scope_hides_what_is_around_and_leaves_it_alone() {
        let outer = Locals::default();
        outer.set("a", json!(1));
        outer.set("b", json!({"c": "x"}));
        let inner = outer.nested();
        inner.set("a", json!(2));
        let get = |locals: &Locals, name: &str| {
            Known { locals, values: Values::default() }.get(&Reference::parse(name).unwrap())
        };
        assert_eq!(get(&inner, ".:a"), Ok(Some(json!(2))));
        assert_eq!(get(&outer, ".:a"), Ok(Some(json!(1))));
        assert_eq!(get(&inner, ".:b.c"), Ok(Some(json!("x"))));
        assert_eq!(get(&inner, "a"), Ok(None));
        assert_eq!(get(&inner, ".:b.z").unwrap_err().to_string(), "missing field 'z' in var: b.z");
    }
}
