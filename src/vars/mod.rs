//! `((source:path.field))`: references in configuration, where their values come from, and how they are filled in.

pub mod number;
mod reference;
mod scope;
mod template;
pub mod typed;
mod values;

pub use reference::Reference;
pub use scope::{Chain, Lookup, Static, traverse};
pub use template::{Missing, fill_template, interpolate, names, references};
pub use values::{Values, each_text};

use serde_json::Value;

/// Why a variable could not be filled in; the words are Concourse's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The reference cannot be read.
    #[error("invalid var '{var}': {why}")]
    Invalid {
        /// What was written.
        var: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The value has no such field.
    #[error("missing field '{field}' in var: {var}")]
    MissingField {
        /// The reference.
        var: String,
        /// The field.
        field: String,
    },
    /// A field of something that has none.
    #[error("cannot access field '{field}' of non-map value ('{kind}') from var: {var}")]
    NotAMap {
        /// The reference.
        var: String,
        /// The field.
        field: String,
        /// What there is instead.
        kind: &'static str,
    },
    /// Something within text that is neither text nor a whole number.
    #[error("cannot interpolate non-primitive value ({kind}) from var: {var}")]
    NotText {
        /// The reference.
        var: String,
        /// What it is.
        kind: &'static str,
    },
    /// Variables nobody knows.
    #[error("undefined vars: {}", .0.join(", "))]
    Undefined(Vec<String>),
    /// No source of that name.
    #[error("missing source '{name}' in var: {var}")]
    MissingSource {
        /// The reference.
        var: String,
        /// The source.
        name: String,
    },
    /// The source could not answer.
    #[error("{0}")]
    Source(String),
}

/// The name Go gives to the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        // Whole numbers of files have become floats; what is left keeps its digits.
        Value::Number(_) => "json.Number",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
