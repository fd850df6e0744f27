//! Resource types beyond those that are built in, and prototypes, which have the same shape.

use serde::{Deserialize, Serialize};

use super::{CheckEvery, Object, off};

/// A resource type whose image is itself a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceType {
    /// What resources call it; may shadow a built-in type.
    pub name: String,
    /// The type of its image; its own name means the built-in type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where the image is.
    pub source: Option<Object>,
    /// Laid under the source of each resource of this type.
    #[serde(skip_serializing_if = "no_object")]
    pub defaults: Option<Object>,
    /// Whether its containers are privileged.
    #[serde(skip_serializing_if = "off")]
    pub privileged: bool,
    /// How often the image is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_every: Option<CheckEvery>,
    /// Tags of the workers that may fetch it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Params of the image's get.
    #[serde(skip_serializing_if = "no_object")]
    pub params: Option<Object>,
}

/// The type of a `run` step.
pub type Prototype = ResourceType;

/// Whether a map says nothing, so that it is left out.
pub(crate) fn no_object(object: &Option<Object>) -> bool {
    object.as_ref().is_none_or(|o| o.is_empty())
}
