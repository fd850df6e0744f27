//! YAML as Go's yaml v2 reads and writes it, which is YAML 1.1 with habits of its own.
//!
//! `events` reads, `document` composes nodes that know where they stand, `scalar` decides what a plain word means,
//! `value` turns nodes into JSON, `emit` writes JSON as YAML.

pub mod document;
pub mod emit;
mod events;
pub mod scalar;
pub mod screen;
pub mod value;

pub use document::{Document, Mark, YamlError};
pub use emit::to_yaml;
