//! What our objects are called on the engine, and the labels they are found by.
//!
//! Names are short because the directories of volumes end up in the options of an overlay mount, which the kernel
//! limits to one page.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use crate::runtime::{ContainerHandle, Error, Result, VolumeHandle};

/// Label with the id of the installation an object belongs to.
pub const INSTALLATION: &str = "whistlestop.installation";
/// Label with the team an object belongs to.
pub const TEAM: &str = "whistlestop.team";
/// Label with the handle our callers know an object by.
pub const HANDLE: &str = "whistlestop.handle";
/// Label with the role of an object that no caller knows of.
pub const PART: &str = "whistlestop.part";

/// A layer of a copy-on-write volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// What the child changed.
    Upper,
    /// The kernel's scratch directory for it.
    Work,
    /// A full copy of the parent, where the chain had become too long.
    Base,
}

impl Layer {
    /// All there are.
    pub const ALL: [Layer; 3] = [Layer::Upper, Layer::Work, Layer::Base];

    fn suffix(self) -> char {
        match self {
            Layer::Upper => 'u',
            Layer::Work => 'w',
            Layer::Base => 'b',
        }
    }
}

/// Names and labels of one installation.
#[derive(Debug, Clone)]
pub struct Naming {
    installation: String,
    short: String,
}

impl Naming {
    /// For the installation with this id.
    pub fn new(installation: &str) -> Self {
        Naming { installation: installation.to_string(), short: fingerprint(installation.as_bytes(), 8) }
    }

    /// Of a container.
    pub fn container(&self, handle: &ContainerHandle) -> Result<String> {
        Ok(format!("ws-{}-{}", self.short, checked(&handle.0)?))
    }

    /// Of a volume.
    pub fn volume(&self, handle: &VolumeHandle) -> Result<String> {
        Ok(format!("ws-{}-{}", self.short, checked(&handle.0)?))
    }

    /// Of a volume that is a layer of another.
    pub fn layer(&self, handle: &VolumeHandle, layer: Layer) -> Result<String> {
        Ok(format!("{}.{}", self.volume(handle)?, layer.suffix()))
    }

    /// Of the volume that holds the binary with this digest.
    pub fn binary(&self, digest: &str) -> String {
        format!("ws-{}-binary.{digest}", self.short)
    }

    /// Of a container that holds a network for steps.
    pub fn lease(&self, what: &str) -> String {
        format!("ws-{}.lease-{what}", self.short)
    }

    /// Of a team's network.
    pub fn network(&self, team: &str) -> String {
        format!("ws-{}-team-{}", self.short, fingerprint(team.as_bytes(), 8))
    }

    /// Of its bridge, an interface of the engine's host: at most 15 characters. Another one with each attempt.
    pub fn bridge(&self, team: &str, attempt: u32) -> String {
        let what = if attempt == 0 { team.to_owned() } else { format!("{team}\n{attempt}") };
        format!("{}{}", self.bridges(), fingerprint(what.as_bytes(), 5))
    }

    /// How the names of all our bridges begin.
    pub fn bridges(&self) -> String {
        format!("ws{}d-", &self.short[..6])
    }

    /// Of the table of packet filter rules for them.
    pub fn table(&self) -> String {
        format!("whistlestop-{}d", &self.short[..6])
    }

    /// The repository that holds imported root file systems.
    pub fn repository(&self) -> String {
        format!("whistlestop-{}", self.short)
    }

    /// What all tags of images made of one volume begin with.
    pub fn image_tags_of(&self, handle: &VolumeHandle) -> Result<String> {
        Ok(format!("v-{}.", checked(&handle.0)?))
    }

    /// The tag in it of an image that we have pulled.
    pub fn pulled_tag(&self, id: &str) -> String {
        let digits = id.rsplit(':').next().unwrap_or(id);
        format!("p-{}", digits.get(..32).unwrap_or(digits))
    }

    /// The filter that finds everything of this installation.
    pub fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_string(), vec![format!("{INSTALLATION}={}", self.installation)])])
    }

    /// The filter that finds the objects of one role.
    pub fn part_filter(&self, part: &str) -> HashMap<String, Vec<String>> {
        let labels = vec![format!("{INSTALLATION}={}", self.installation), format!("{PART}={part}")];
        HashMap::from([("label".to_string(), labels)])
    }

    /// Labels of an object a caller knows by `handle`; his own come first, so they cannot pretend to be ours.
    pub fn labels(&self, team: &str, handle: &str, own: &BTreeMap<String, String>) -> HashMap<String, String> {
        let mut all: HashMap<String, String> = own.clone().into_iter().collect();
        all.insert(INSTALLATION.to_string(), self.installation.clone());
        all.insert(TEAM.to_string(), team.to_string());
        all.insert(HANDLE.to_string(), handle.to_string());
        all
    }

    /// Labels of an object that only this module knows of.
    pub fn part_labels(&self, part: &str) -> HashMap<String, String> {
        let labels = [(INSTALLATION, self.installation.as_str()), (PART, part)];
        labels.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }
}

/// The first `length` hexadecimal digits of a digest.
pub fn fingerprint(bytes: &[u8], length: usize) -> String {
    let mut text = hex::encode(Sha256::digest(bytes));
    text.truncate(length);
    text
}

/// Handles become parts of URLs and of paths, so nothing but their documented alphabet may pass.
fn checked(handle: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if handle.is_empty() || handle.len() > 63 || !handle.chars().all(plain) {
        return Err(Error::Invalid(format!("handle '{handle}' is not made of lower-case letters, digits and dashes")));
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_distinct() {
        let naming = Naming::new("0a1b2c3d-installation");
        let handle = VolumeHandle("3c01eba1".into());
        let name = naming.volume(&handle).unwrap();
        assert_eq!(name.len(), "ws-12345678-3c01eba1".len());
        assert_eq!(naming.layer(&handle, Layer::Upper).unwrap(), format!("{name}.u"));
        assert!(naming.bridge("a-team-with-a-long-name", 0).len() <= 15);
        assert_ne!(naming.bridge("a", 0), naming.bridge("a", 1));
        assert_ne!(name, Naming::new("another").volume(&handle).unwrap());
    }

    #[test]
    fn only_the_documented_alphabet_becomes_a_name() {
        let naming = Naming::new("i");
        for bad in ["", "../x", "A", "a/b", "a?b", "a.u", &"x".repeat(64)] {
            assert!(matches!(naming.volume(&VolumeHandle(bad.into())), Err(Error::Invalid(_))), "{bad}");
            assert!(matches!(naming.container(&ContainerHandle(bad.into())), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn callers_labels_cannot_hide_ours() {
        let own = BTreeMap::from([(TEAM.to_string(), "other".to_string()), ("step".to_string(), "build".to_string())]);
        let labels = Naming::new("i").labels("main", "h", &own);
        assert_eq!(labels[TEAM], "main");
        assert_eq!(labels["step"], "build");
    }
}
