//! How much of a worker a container may take.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Limits of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// CPU shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "memory")]
    pub memory: Option<u64>,
}

/// Why a memory limit could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not a number with a known unit.
    #[error("could not parse container memory limit")]
    Memory,
    /// More digits than a number can hold.
    #[error("strconv.ParseUint: parsing {0:?}: value out of range")]
    Range(String),
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => parse_memory(&text).map(Some).map_err(serde::de::Error::custom),
        other => Ok(Some(other.as_u64().unwrap_or_default())),
    }
}

/// Reads `512MB`, `1g`, `100`: every unit is a power of 1024.
pub fn parse_memory(text: &str) -> Result<u64, LimitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(LimitError::Memory);
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        _ => return Err(LimitError::Memory),
    };
    let number: u64 = number.parse().map_err(|_| LimitError::Range(number.to_owned()))?;
    Ok(number.wrapping_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [("100", 100), ("1k", 1024), ("2KB", 2048), ("1mib", 1 << 20), ("3GB", 3 << 30)] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "lots", "1b", "1.5g", "-1", "1 g", "1t"] {
            assert_eq!(parse_memory(text), Err(LimitError::Memory), "{text}");
        }
    }
}
