//! Why nothing new may begin at the moment, if anything keeps it.

use std::sync::{Arc, Mutex, PoisonError};

/// A reason that is there or not; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<Mutex<Option<String>>>);

impl Hold {
    /// The reason, for people.
    pub fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or lifts it; whether that changed anything.
    pub fn set(&self, why: Option<String>) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = held.is_some() != why.is_some();
        *held = why;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let hold = Hold::default();
        let seen = hold.clone();
        assert!(hold.set(Some("full".into())) && !hold.set(Some("fuller".into())));
        assert_eq!(seen.why().as_deref(), Some("fuller"));
        assert!(hold.set(None) && !hold.set(None) && seen.why().is_none());
    }
}
