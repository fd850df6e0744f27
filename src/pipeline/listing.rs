//! A list that remembers whether it was written as null, since Concourse gives it back as it came.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A list or null; reads as a slice, null as an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listing<T>(pub Option<Vec<T>>);

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Listing(None)
    }
}

impl<T> Deref for Listing<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> From<Vec<T>> for Listing<T> {
    fn from(items: Vec<T>) -> Self {
        Listing(Some(items))
    }
}

impl<'a, T> IntoIterator for &'a Listing<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
