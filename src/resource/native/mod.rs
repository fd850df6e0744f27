//! The types that are part of this binary, and how to find them by name.

pub mod git;
pub mod mirror;
pub mod mock;
pub mod registry_image;
pub mod time;

use std::path::PathBuf;

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

/// Where a program is that this process finds.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
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
