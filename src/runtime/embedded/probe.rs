//! `supervise --probe DIR`: tries, in a process of its own, what every container needs, and says what does not work.

use std::io;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::tree::{Tree, mount_kind, place};
use super::{confine, filter, init, rootfs};
use crate::runtime::namespaces;

/// What was found; a text says why something does not work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// User namespaces: for an ordinary user all else depends on them.
    pub users: Option<String>,
    /// Mount, process, host name and network namespaces.
    pub namespaces: Option<String>,
    /// Layers over layers in the state directory.
    pub overlay: Option<String>,
    /// The filter for system calls.
    pub seccomp: Option<String>,
}

impl Found {
    /// The first that does not work.
    pub fn shortcoming(&self) -> Option<String> {
        let all = [
            ("namespaces", &self.namespaces),
            ("user namespaces", &self.users),
            ("layers (overlayfs)", &self.overlay),
            ("seccomp", &self.seccomp),
        ];
        all.into_iter().find_map(|(what, why)| Some(format!("{what}: {}", why.as_ref()?)))
    }
}

/// Answers on standard output.
pub fn run(dir: &str) -> u8 {
    let found = look(Path::new(dir));
    match serde_json::to_writer(io::stdout(), &found) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn look(dir: &Path) -> Found {
    let rootless = !rootfs::is_root();
    let told = |result: io::Result<()>| result.err().map(|e| e.to_string());
    let users = match rootless {
        true => told(init::own_user_namespace()),
        false => told(namespaces::separate(CloneFlags::empty()).map(drop)),
    };
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    let namespaces = told(unshare(all).map_err(Into::into));
    let overlay = match namespaces {
        None => told(overlay(dir, rootless)),
        Some(_) => None,
    };
    let seccomp = told(filter::filter(false).and_then(|filter| confine::install(&filter)));
    Found { users, namespaces, overlay, seccomp }
}

fn overlay(dir: &Path, rootless: bool) -> io::Result<()> {
    let none = None::<&str>;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // In memory where the state directory lies on an overlay itself: there steps' own layers go.
    let base = dir.join(".probe");
    std::fs::create_dir_all(&base)?;
    let tried = (|| {
        if rootfs::on_overlay(&base) {
            mount_kind("tmpfs", &Tree::open(&base)?.fd(), MsFlags::empty(), "mode=700")?;
        }
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir_all(base.join(name))?;
        }
        let open = |name: &str| Tree::open(&base.join(name))?.fd().try_clone_to_owned();
        let (lower, upper, work) = (open("lower")?, open("upper")?, open("work")?);
        let user = if rootless { ",userxattr" } else { "" };
        let data = format!(
            "lowerdir={},upperdir={},workdir={}{user}",
            place(&lower).display(),
            place(&upper).display(),
            place(&work).display()
        );
        mount_kind("overlay", &open("merged")?, MsFlags::empty(), &data)
    })();
    nix::mount::umount2(&base.join("merged"), nix::mount::MntFlags::MNT_DETACH).ok();
    std::fs::remove_dir_all(&base).ok();
    tried
}
