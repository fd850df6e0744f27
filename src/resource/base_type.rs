//! Types that a pipeline may use without declaring them, because Concourse's own worker brings them along, and the
//! image of each. One table; an operator changes it with `--base-resource-type`, which native types give way to.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::{Native, native};

/// The types of Concourse's worker that are not part of this binary (`docker-image` is in so far as it checks and
/// fetches, `git` where its program is), their images, and whether their containers are privileged there.
const USUAL: &[(&str, &str, bool)] = &[
    ("bosh-io-release", "concourse/bosh-io-release-resource", false),
    ("bosh-io-stemcell", "concourse/bosh-io-stemcell-resource", false),
    ("cf", "concourse/cf-resource", false),
    ("docker-image", "concourse/docker-image-resource", true),
    ("git", "concourse/git-resource", false),
    ("github-release", "concourse/github-release-resource", false),
    ("hg", "concourse/hg-resource", false),
    ("pool", "concourse/pool-resource", false),
    ("s3", "concourse/s3-resource", false),
    ("semver", "concourse/semver-resource", false),
];

/// The type by which images of types are fetched.
const FETCHER: &str = "registry-image";

/// Where a type comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseType {
    /// `repository`, with `:tag` where it is not `latest`.
    pub image: String,
    /// Whether its containers are privileged.
    pub privileged: bool,
}

impl BaseType {
    /// Repository and tag.
    pub fn parts(&self) -> (&str, &str) {
        match self.image.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (&self.image, "latest"),
        }
    }

    /// The source of a `registry-image` that is its image.
    pub fn source(&self) -> Map<String, Value> {
        let (repository, tag) = self.parts();
        Map::from_iter([("repository".to_owned(), json!(repository)), ("tag".to_owned(), json!(tag))])
    }
}

/// `NAME=IMAGE` as an operator writes it; without an image there is no such type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    name: String,
    image: String,
}

impl FromStr for Change {
    type Err = String;
    fn from_str(text: &str) -> Result<Change, String> {
        let (name, image) = text.split_once('=').ok_or_else(|| format!("{text:?} must be NAME=IMAGE"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("{name:?} cannot be a type's name: use letters, digits, -, _ and ."));
        }
        if name == FETCHER {
            return Err(format!(
                "{FETCHER} fetches the images of all types, so it comes from none: declare a type of another name under \
                 resource_types, or bring it along with --resource-types"
            ));
        }
        let change = Change { name: name.to_owned(), image: image.trim().to_owned() };
        if !change.image.is_empty() {
            let base = BaseType { image: change.image.clone(), privileged: false };
            super::registry::Repository::parse(base.parts().0)
                .map_err(|e| e.to_string().replace("source.repository ", ""))?;
        }
        Ok(change)
    }
}

/// The table as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseTypes {
    images: BTreeMap<String, BaseType>,
    /// Native types that are not used: for an operator's word, or for want of a program.
    set_aside: BTreeSet<String>,
}

impl Default for BaseTypes {
    fn default() -> Self {
        BaseTypes::new(&[], true)
    }
}

impl BaseTypes {
    /// The usual ones with an operator's changes; `on_host` says whether native types have this host's programs.
    pub fn new(changes: &[Change], on_host: bool) -> BaseTypes {
        let found = |program| on_host && native::program(program).is_some();
        BaseTypes::with(changes, |native| native.program().is_none_or(found))
    }

    fn with(changes: &[Change], works: impl Fn(&dyn Native) -> bool) -> BaseTypes {
        let usual = USUAL.iter().map(|(name, image, privileged)| {
            ((*name).to_owned(), BaseType { image: (*image).to_owned(), privileged: *privileged })
        });
        let mut types: BTreeMap<String, BaseType> = usual.collect();
        for change in changes {
            let privileged = types.get(&change.name).is_some_and(|known| known.privileged);
            if change.image.is_empty() {
                types.remove(&change.name);
            } else {
                types.insert(change.name.clone(), BaseType { image: change.image.clone(), privileged });
            }
        }
        let without = native::all().iter().filter(|native| !works(**native)).map(|native| native.name().to_owned());
        let set_aside = changes.iter().map(|change| change.name.clone()).chain(without).collect();
        BaseTypes { images: types, set_aside }
    }

    /// The native type of that name, where it is the one to use.
    pub fn native(&self, name: &str) -> Option<&'static dyn Native> {
        native::find(name).filter(|_| !self.set_aside.contains(name))
    }

    /// The image of the type of that name.
    pub fn find(&self, name: &str) -> Option<BaseType> {
        self.images.get(name).cloned()
    }

    /// All images, by name of the type.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BaseType)> {
        self.images.iter().map(|(name, base)| (name.as_str(), base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_changes_the_table() {
        let change = |text: &str| text.parse::<Change>().unwrap();
        let types =
            BaseTypes::new(&[change("semver=127.0.0.1:5000/semver:2"), change("hg="), change("own=me/own")], true);
        assert_eq!(types.find("semver").unwrap().parts(), ("127.0.0.1:5000/semver", "2"));
        assert_eq!(types.find("own").unwrap().parts(), ("me/own", "latest"));
        assert!(types.find("hg").is_none() && types.find("nothing").is_none());
        assert!(types.find("docker-image").unwrap().privileged && !types.find("s3").unwrap().privileged);
        for wrong in ["registry-image=x", "semver", "=x", "a b=x", "a=Upper", "a=https://x/y"] {
            assert!(wrong.parse::<Change>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_native_type_gives_way_to_the_operator_and_to_a_missing_program() {
        let types = |changes: &[&str], works: bool| {
            let changes: Vec<Change> = changes.iter().map(|text| text.parse().unwrap()).collect();
            BaseTypes::with(&changes, |native| works || native.name() != "git")
        };
        let of_git = |types: &BaseTypes| (types.native("git").is_some(), types.find("git").map(|base| base.image));
        let usual = Some("concourse/git-resource".to_owned());
        assert_eq!(of_git(&types(&[], true)), (true, usual.clone()));
        assert_eq!(of_git(&types(&[], false)), (false, usual));
        assert_eq!(of_git(&types(&["git=me/git:2"], true)), (false, Some("me/git:2".to_owned())));
        assert_eq!(of_git(&types(&["git="], true)), (false, None));
        assert!(types(&["git="], true).native("time").is_some() && types(&[], true).native("semver").is_none());
    }

    #[test]
    fn a_port_is_no_tag() {
        let base = BaseType { image: "127.0.0.1:5000/x".into(), privileged: false };
        assert_eq!(base.parts(), ("127.0.0.1:5000/x", "latest"));
    }
}
