//! A pipeline's own source of variables.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where `((name:path))` is looked up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VarSource {
    /// What stands before the colon.
    pub name: String,
    /// Kind of credential manager.
    #[serde(rename = "type")]
    pub kind: String,
    /// What that kind needs.
    pub config: Value,
}
