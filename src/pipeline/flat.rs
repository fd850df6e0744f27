//! Steps as one flat JSON object, as they stand in a file and in what the server gives back.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value, json};

use super::step::{Core, MaxInFlight, PutInputs, Step, VersionConfig};
use super::{TaskConfig, decode};

fn object<T: Serialize>(value: &T) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

fn core(core: &Core) -> Result<Map<String, Value>, serde_json::Error> {
    let (mut map, tags) = match core {
        Core::Get(step) => return object(step),
        Core::Put(step) => return object(step),
        Core::Task(step) => return object(step),
        Core::Run(step) => return object(step),
        Core::SetPipeline(step) => return object(step),
        Core::LoadVar(step) => return object(step),
        Core::Try(step) => return object(&json!({ "try": step })),
        Core::Do { steps, tags } => (object(&json!({ "do": steps }))?, tags),
        Core::InParallel(p) => {
            let mut config = Map::new();
            if !p.steps.is_empty() {
                config.insert("steps".into(), serde_json::to_value(&p.steps)?);
            }
            if p.limit != 0 {
                config.insert("limit".into(), p.limit.into());
            }
            if p.fail_fast {
                config.insert("fail_fast".into(), true.into());
            }
            (object(&json!({ "in_parallel": config }))?, &p.tags)
        }
    };
    if !tags.is_empty() {
        map.insert("tags".into(), json!(tags));
    }
    Ok(map)
}

fn flat(step: &Step) -> Result<Map<String, Value>, serde_json::Error> {
    let mut map = core(&step.core)?;
    map.extend(step.unknown.iter().map(|(k, v)| (k.clone(), v.clone())));
    if let Some(timeout) = &step.timeout {
        map.insert("timeout".into(), json!(timeout));
    }
    if let Some(attempts) = &step.attempts {
        map.insert("attempts".into(), json!(attempts));
    }
    if let Some(across) = &step.across {
        map.insert("across".into(), serde_json::to_value(&across.vars)?);
        if across.fail_fast {
            map.insert("fail_fast".into(), true.into());
        }
    }
    let hooks = [
        ("on_success", &step.on_success),
        ("on_failure", &step.on_failure),
        ("on_abort", &step.on_abort),
        ("on_error", &step.on_error),
        ("ensure", &step.ensure),
    ];
    for (key, hook) in hooks {
        if let Some(hook) = hook {
            map.insert(key.into(), serde_json::to_value(hook)?);
        }
    }
    map.sort_keys();
    Ok(map)
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        flat(self).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl Serialize for MaxInFlight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MaxInFlight::All => serializer.serialize_str("all"),
            MaxInFlight::Limit(n) => serializer.serialize_i64(*n),
        }
    }
}

impl Serialize for VersionConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            VersionConfig::Latest => serializer.serialize_str("latest"),
            VersionConfig::Every => serializer.serialize_str("every"),
            VersionConfig::Pinned(version) => version.serialize(serializer),
            VersionConfig::Unset => serializer.serialize_str(""),
        }
    }
}

impl Serialize for PutInputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PutInputs::All => serializer.serialize_str("all"),
            PutInputs::Detect => serializer.serialize_str("detect"),
            PutInputs::Specified(names) => names.serialize(serializer),
            PutInputs::Unset => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for TaskConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::task(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for MaxInFlight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(s) if s == "all" => Ok(MaxInFlight::All),
            other => other.as_i64().map(MaxInFlight::Limit).ok_or_else(|| D::Error::custom("invalid max_in_flight")),
        }
    }
}

impl<'de> Deserialize<'de> for VersionConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(s) if s == "latest" => Ok(VersionConfig::Latest),
            Value::String(s) if s == "every" => Ok(VersionConfig::Every),
            Value::String(_) => Ok(VersionConfig::Unset),
            map @ Value::Object(_) => serde_json::from_value(map).map(VersionConfig::Pinned).map_err(D::Error::custom),
            _ => Err(D::Error::custom("unknown type for version")),
        }
    }
}

impl<'de> Deserialize<'de> for PutInputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(s) if s == "all" => Ok(PutInputs::All),
            Value::String(s) if s == "detect" => Ok(PutInputs::Detect),
            Value::String(_) => Ok(PutInputs::Unset),
            list @ Value::Array(_) => serde_json::from_value(list).map(PutInputs::Specified).map_err(D::Error::custom),
            _ => Err(D::Error::custom("unknown type for put inputs")),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::step(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_flat_object_with_sorted_keys() {
        let text = r#"{"across":[{"var":"v","values":[1],"max_in_flight":"all"}],"attempts":2,"ensure":{"put":"r"},"fail_fast":true,"get":"r","timeout":"1m","version":"every"}"#;
        let step: Step = serde_json::from_str(text).unwrap();
        assert!(matches!(&step.core, Core::Get(get) if get.timeout == "1m"));
        assert_eq!(step.timeout, None);
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
    }

    #[test]
    fn both_forms_of_in_parallel_come_back_as_the_long_one() {
        let step: Step = serde_json::from_str(r#"{"in_parallel":[{"get":"a"}],"timeout":"1h"}"#).unwrap();
        assert_eq!(step.timeout.as_deref(), Some("1h"));
        let text = r#"{"in_parallel":{"steps":[{"get":"a"}]},"timeout":"1h"}"#;
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
    }
}
