//! What steps hand to later steps: named volumes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::runtime::{EngineImage, VolumeHandle};

/// A named result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its files. Nobody writes there any more; who needs to takes a copy-on-write child.
    pub volume: VolumeHandle,
    /// The image the engine pulled for it, which saves importing the files again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<EngineImage>,
}

/// All artifacts of a build by name; the last with a name wins. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    own: Arc<Mutex<BTreeMap<String, Artifact>>>,
    around: Option<Arc<Artifacts>>,
}

impl Artifacts {
    /// A place within this one: what is put there is not seen from here.
    #[must_use]
    pub fn nested(&self) -> Artifacts {
        Artifacts { own: Arc::default(), around: Some(Arc::new(self.clone())) }
    }

    /// Adds or replaces one.
    pub fn put(&self, name: &str, artifact: Artifact) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), artifact);
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<Artifact> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        own.or_else(|| self.around.as_ref()?.get(name))
    }

    /// All, by name.
    pub fn all(&self) -> BTreeMap<String, Artifact> {
        let mut all = self.around.as_ref().map(|around| around.all()).unwrap_or_default();
        all.extend(self.own.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all
    }
}
