//! The types that are part of this binary, and how to find them by name.

pub mod git;
pub mod mirror;
pub mod mock;
pub mod registry_image;
pub mod time;

use super::Native;

static ALL: [&dyn Native; 4] = [&git::Git, &mock::Mock, &registry_image::RegistryImage, &time::TimeType];

/// Every native type, by name.
pub fn all() -> &'static [&'static dyn Native] {
    &ALL
}

/// The native type that pipelines call `name`.
pub fn find(name: &str) -> Option<&'static dyn Native> {
    ALL.into_iter().find(|native| native.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_name() {
        for native in all() {
            assert_eq!(find(native.name()).map(Native::name), Some(native.name()));
        }
        assert!(find("docker-image").is_none());
    }
}
