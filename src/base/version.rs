//! A resource version and its identity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A version as a resource type speaks of it: strings to strings, compared by canonical JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub BTreeMap<String, String>);

impl Version {
    /// Canonical JSON: keys sorted, no white space.
    pub fn canonical(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// SHA-256 of the canonical JSON in lower-case hexadecimal.
    pub fn digest(&self) -> String {
        digest(self.canonical().as_bytes())
    }

    /// Whether every pair of `partial` is also in this version, which is how pins match.
    pub fn contains(&self, partial: &Version) -> bool {
        partial.0.iter().all(|(k, v)| self.0.get(k) == Some(v))
    }
}

/// As the client shows it: `ref:1f2e,branch:main`.
impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}:{value}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Version {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Version(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// One line of what a resource type tells about a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataField {
    /// What is told, such as `author`.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

/// SHA-256 of any bytes in lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// JSON with every object's keys sorted, for hashing and comparing configuration.
pub fn canonical_json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let ordered: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                Value::Object(ordered.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_versions_have_equal_digests_whatever_the_order_they_were_written_in() {
        let a: Version = serde_json::from_str(r#"{"b":"2","a":"1"}"#).unwrap();
        let b: Version = serde_json::from_str(r#"{"a":"1","b":"2"}"#).unwrap();
        assert_eq!(a.digest(), b.digest());
        assert_eq!(a.canonical(), r#"{"a":"1","b":"2"}"#);
    }

    #[test]
    fn a_pin_matches_by_containment() {
        let full = Version::from([("ref", "abc"), ("branch", "main")]);
        assert!(full.contains(&Version::from([("ref", "abc")])));
        assert!(!full.contains(&Version::from([("ref", "abd")])));
        assert!(full.contains(&Version::default()));
    }

    #[test]
    fn canonical_json_sorts_at_every_depth() {
        let v = serde_json::json!({"b": [{"z": 1, "a": 2}], "a": null});
        assert_eq!(canonical_json(&v), r#"{"a":null,"b":[{"a":2,"z":1}]}"#);
    }
}
