//! `((source:path.field))`: references in configuration, where their values come from, and how they are filled in.

pub mod number;
