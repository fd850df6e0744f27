//! JSON written as YAML, the way Go's yaml does.
