//! Directories of the host that a native child changes, such as a repository that is pushed to: the one way by which
//! what a container writes lasts outside of volumes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};

use super::tree::{Tree, bind, mount_kind, place, set_attributes};
use crate::runtime::{Error, Result};

/// Where every container has something of its own.
const OWN: &[&str] = &["/.whistlestop", "/dev", "/etc/hosts", "/proc", "/scratch", "/sys"];

/// A directory, by its real name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    path: PathBuf,
    /// What lies in it and must not be seen.
    covered: Vec<PathBuf>,
}

/// What of these directories a container may change, whose own files are in `directory`.
pub fn allowed(paths: &[PathBuf], masked: &[PathBuf], directory: &str) -> Result<Vec<Changed>> {
    let masked: Vec<PathBuf> = masked.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        let path = fs::canonicalize(path).map_err(|e| Error::Failed(format!("cannot use {}: {e}", path.display())))?;
        if let Some(over) = masked.iter().find(|over| path.starts_with(over)) {
            return Err(Error::Invalid(format!(
                "no step can change {}: the server keeps {} from all steps; move the repository elsewhere",
                path.display(),
                over.display()
            )));
        }
        let own = OWN.iter().copied().chain([directory]).find(|own| Path::new(own).starts_with(&path));
        if let Some(own) = own {
            return Err(Error::Invalid(format!(
                "no step can change all of {}, since its own files are in {own}; move the repository elsewhere",
                path.display()
            )));
        }
        let mut covered: Vec<PathBuf> = masked.iter().filter(|over| over.starts_with(&path)).cloned().collect();
        covered.sort();
        covered.dedup_by(|path, earlier| path.starts_with(earlier));
        all.push(Changed { path, covered });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup_by(|next, earlier| next.path.starts_with(&earlier.path));
    Ok(all)
}

impl Changed {
    /// Puts the directory itself in the place of its view.
    pub fn open(&self, tree: &Tree) -> io::Result<()> {
        let source = Tree::open(Path::new("/"))?.find(&self.path)?;
        // It was looked at by this name; whoever may rename on the way could have put a link there since.
        if fs::read_link(place(&source))? != self.path {
            return Err(io::Error::other(format!("{} was moved meanwhile", self.path.display())));
        }
        bind(&place(&source), &tree.directory(&self.path)?, true)?;
        set_attributes(&tree.find(&self.path)?, libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID, true)?;
        for path in &self.covered {
            let found = tree.find(path)?;
            if fs::metadata(place(&found))?.is_dir() {
                mount_kind("tmpfs", &found, MsFlags::MS_RDONLY, "size=0,mode=755")?;
            } else {
                bind(Path::new("/dev/null"), &found, false)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_from_steps_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for part in ["home/project/.git", "home/project/state/deep", "state/repository"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("state/repository"), root.join("link")).unwrap();
        let masked = [root.join("state"), root.join("home/project/state"), root.join("nothing")];
        let ask = |paths: &[&str], directory: &str| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
            allowed(&paths, &masked, directory).map_err(|e| e.to_string())
        };
        let expected = Changed { path: root.join("home/project"), covered: vec![root.join("home/project/state")] };
        assert_eq!(ask(&["home/project/.git", "home/project"], "/tmp/build/put").unwrap(), [expected]);
        for path in ["state/repository", "link", "home/project/state/deep"] {
            assert!(ask(&[path], "/tmp/build/put").unwrap_err().contains("keeps"), "{path}");
        }
        let own = root.join("home/project/build").display().to_string();
        assert!(ask(&["home/project"], &own).unwrap_err().contains("its own files are in"));
        assert!(ask(&["/"], "/tmp/build/put").unwrap_err().contains("no step can change"));
        assert!(ask(&["missing"], "/tmp/build/put").unwrap_err().contains("cannot use"));
    }
}
