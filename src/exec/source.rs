//! Configuration with its variables filled in, and the keys that tell one version history or fetch from another.

use std::borrow::Cow;

use serde_json::Value;

use super::local::{Known, is_local};
use super::outcome::Stop;
use super::scope::Scope;
use crate::base::version::{Version, canonical_json, digest};
use crate::pipeline::Object;
use crate::plan::TypeImage;
use crate::vars::{self, Lookup, Missing, Reference, Values};

/// A source over what the operator has set for its base type; a custom type brings defaults of its own.
pub fn with_base<'s>(source: &'s Object, kind: &str, image: &TypeImage, scope: &Scope) -> Cow<'s, Object> {
    match scope.world.base_defaults(kind).filter(|_| image.get.is_none()) {
        None => Cow::Borrowed(source),
        Some(defaults) => {
            let mut whole = defaults.clone();
            whole.extend(source.clone());
            Cow::Owned(whole)
        }
    }
}

/// `object` with every `((variable))` filled in; one that is not known is an error that names it.
pub async fn filled(object: &Object, scope: &Scope) -> Result<Object, Stop> {
    match filled_value(&Value::Object(object.clone()), scope).await? {
        Value::Object(object) => Ok(object),
        _ => Ok(Object::new()),
    }
}

/// The same for any value.
pub async fn filled_value(value: &Value, scope: &Scope) -> Result<Value, Stop> {
    let known = known(value, scope).await?;
    vars::interpolate(value, &known, Missing::Error).map_err(|e| told(&e, &known.values))
}

/// `object` filled in twice: for use, and as it stays when credentials that are renewed have changed, for keys.
pub async fn filled_for_key(object: &Object, scope: &Scope) -> Result<(Object, Object), Stop> {
    let value = Value::Object(object.clone());
    let known = known(&value, scope).await?;
    let filled = vars::interpolate(&value, &known, Missing::Error).map_err(|e| told(&e, &known.values))?;
    let lasting = match known.values.has_passing() {
        true => vars::interpolate(&value, &Known { values: known.values.lasting(), ..known }, Missing::Error)?,
        false => filled.clone(),
    };
    let object = |value| if let Value::Object(object) = value { object } else { Object::new() };
    Ok((object(filled), object(lasting)))
}

/// An error about variables nobody knows also says where they were looked for.
fn told(error: &vars::Error, values: &Values) -> Stop {
    let mut text = error.to_string();
    if let vars::Error::Undefined(names) = error {
        for name in names {
            let tried = Reference::parse(name).ok().and_then(|r| values.missed(&r).map(str::to_owned));
            if let Some(tried) = tried {
                text.push_str(&format!("\n{name} was looked for at {tried}"));
            }
        }
    }
    Stop::Error(text)
}

/// The same for params, which may be absent.
pub async fn filled_params(params: Option<&Object>, scope: &Scope) -> Result<Option<Object>, Stop> {
    match params {
        Some(params) => Ok(Some(filled(params, scope).await?)),
        None => Ok(None),
    }
}

/// What is known of the variables that `value` names. What sources outside of the build tell is secret from here on.
async fn known<'a>(value: &Value, scope: &'a Scope) -> Result<Known<'a>, Stop> {
    let wanted: Vec<Reference> = vars::references(value)?.into_iter().filter(|r| !is_local(r)).collect();
    let values = match wanted.is_empty() {
        true => Values::default(),
        // A source may be slow or down, and an abort must not wait for it.
        false => tokio::select! {
            values = scope.world.values(&wanted) => values?,
            why = scope.stop.asked() => return Err(why),
        },
    };
    for reference in wanted.iter().filter(|r| values.is_secret(r)) {
        if let Some(value) = values.get(reference)? {
            scope.hide(&value);
        }
    }
    Ok(Known { locals: &scope.locals, values })
}

/// Key of a version history: one per team, resource (or none: images and types share), type chain and source. The
/// resource is its row, which keeps its history under another name.
pub fn scope_key(team: i64, resource: Option<i64>, kind: &str, source: &Object) -> String {
    let owner = resource.map(|id| id.to_string()).unwrap_or_default();
    digest(format!("{team}\n{owner}\n{kind}\n{}", canonical_json(&Value::Object(source.clone()))).as_bytes())
}

/// Key of a fetch: params are part of it, the step's name is not.
pub fn cache_key(team: i64, kind: &str, source: &Object, version: &Version, params: Option<&Object>) -> String {
    let params =
        params.filter(|p| !p.is_empty()).map(|p| canonical_json(&Value::Object(p.clone()))).unwrap_or_default();
    let source = canonical_json(&Value::Object(source.clone()));
    digest(format!("{team}\n{kind}\n{source}\n{}\n{params}", version.canonical()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_follow_meaning_not_spelling() {
        let (a, b) = (object(r#"{"x":1,"y":2}"#), object(r#"{"y":2,"x":1}"#));
        assert_eq!(scope_key(1, None, "git", &a), scope_key(1, None, "git", &b));
        assert_ne!(scope_key(1, None, "git", &a), scope_key(2, None, "git", &a));
        assert_ne!(scope_key(1, Some(1), "git", &a), scope_key(1, Some(2), "git", &a));
        let v = Version::from([("ref", "1")]);
        assert_eq!(cache_key(1, "git", &a, &v, None), cache_key(1, "git", &b, &v, Some(&Object::new())));
        assert_ne!(cache_key(1, "git", &a, &v, None), cache_key(1, "git", &a, &v, Some(&a)));
    }
}
