//! Where native resource types run: as children of the server, or in an engine's containers of nothing but this binary.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::base::trust;
use crate::exec::NativeHost;
use crate::runtime::embedded::{Embedded, NATIVE_EXE};
use crate::runtime::{self, Attached, ContainerHandle, ContainerSpec, Error, Image, Runtime};

/// Where a container finds the authorities that this host has.
const AUTHORITIES: &str = "/etc/ssl/cert.pem";
/// What leads to files of this host.
const OF_THIS_HOST: [&str; 4] = ["SSL_CERT_FILE=", "SSL_CERT_DIR=", "GIT_SSL_CAINFO=", "GIT_SSL_CAPATH="];

/// Native types as confined children on the host's own files.
pub struct Children(pub Arc<Embedded>);

#[async_trait]
impl NativeHost for Children {
    async fn start(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        changes: &[PathBuf],
    ) -> runtime::Result<Attached> {
        self.0.start_native(container, spec, changes).await
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.0.clone()
    }

    fn program(&self) -> String {
        NATIVE_EXE.to_owned()
    }
}

/// Native types in an engine's containers, where the server can make none: as in a container itself. An engine's
/// containers have this binary where ours have it.
pub struct InEngine {
    engine: Arc<dyn Runtime>,
    images: Arc<Embedded>,
    /// A root file system with nothing in it but authorities.
    bare: PathBuf,
    made: OnceCell<bool>,
}

impl InEngine {
    /// In containers of `engine`, with something in the state directory to make them from.
    pub fn new(engine: Arc<dyn Runtime>, images: Arc<Embedded>, state: &Path) -> io::Result<InEngine> {
        Ok(InEngine { engine, images, bare: std::path::absolute(state)?.join("bare"), made: OnceCell::new() })
    }

    /// The same step as a container of the engine.
    async fn contained(&self, spec: &ContainerSpec) -> runtime::Result<ContainerSpec> {
        let mut spec = spec.clone();
        spec.process.env.retain(|pair| !OF_THIS_HOST.iter().any(|name| pair.starts_with(name)));
        if matches!(spec.image, Image::Host) {
            if self.bare().await? {
                spec.process.env.push(format!("SSL_CERT_FILE={AUTHORITIES}"));
            }
            spec.image = Image::Directory(self.bare.clone());
        }
        Ok(spec)
    }

    /// Makes the empty root file system; whether it has authorities.
    async fn bare(&self) -> runtime::Result<bool> {
        let making = async || {
            let place = self.bare.clone();
            let made = tokio::task::spawn_blocking(move || {
                let authorities = trust::of_host();
                prepare(&place, authorities.as_deref()).map(|()| authorities.is_some())
            });
            made.await.map_err(io::Error::other).flatten()
        };
        let failed = |e| Error::Failed(format!("cannot make {} for the built-in types: {e}", self.bare.display()));
        self.made.get_or_try_init(making).await.copied().map_err(failed)
    }
}

#[async_trait]
impl NativeHost for InEngine {
    /// Nothing of this host is in reach, so nothing of it can be changed.
    async fn start(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        _changes: &[PathBuf],
    ) -> runtime::Result<Attached> {
        self.engine.start(container, &self.contained(spec).await?).await
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.engine.clone()
    }

    fn images(&self) -> Arc<dyn Runtime> {
        self.images.clone()
    }

    fn has_host(&self) -> bool {
        false
    }

    fn program(&self) -> String {
        NATIVE_EXE.to_owned()
    }
}

/// Leaves the directory alone where it is as it should be: the engine then has it already.
fn prepare(place: &Path, authorities: Option<&str>) -> io::Result<()> {
    let file = |root: &Path| root.join(AUTHORITIES.trim_start_matches('/'));
    if place.exists() && std::fs::read_to_string(file(place)).ok().as_deref() == authorities {
        return Ok(());
    }
    let draft = place.with_extension("draft");
    for old in [&draft, place] {
        match std::fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let tmp = draft.join("tmp");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&tmp)?;
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777))?;
    if let Some(text) = authorities {
        let file = file(&draft);
        std::fs::create_dir_all(file.parent().unwrap_or(&draft))?;
        std::fs::write(file, text)?;
    }
    std::fs::rename(draft, place)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_empty_root_is_made_anew_only_for_other_authorities() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("bare");
        let make = |authorities: Option<&str>| {
            prepare(&place, authorities).unwrap();
            (std::fs::metadata(&place).unwrap().ino(), std::fs::read_to_string(place.join("etc/ssl/cert.pem")).ok())
        };
        let (first, none) = make(None);
        assert_eq!((make(None).0, none), (first, None));
        assert_eq!(std::fs::metadata(place.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
        let (other, text) = make(Some("one"));
        assert_eq!((make(Some("one")).0, text.as_deref()), (other, Some("one")));
        assert_eq!(make(Some("two")).1.as_deref(), Some("two"));
        assert_eq!(make(None).1, None);
    }
}
