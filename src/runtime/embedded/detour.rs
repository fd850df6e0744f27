//! What a layer puts below a link of a layer under it. Its archive only implies the directory (`lib/x`, where `lib` is a
//! link to `usr/lib`), so it means what the link leads to, and tools that unpack one layer over another write it there.
//! An overlay would show the directory, and the link and all behind it would be gone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::layers::Top;
use super::rootfs;

/// Links that are followed at most, as by the kernel.
const LINKS: usize = 40;

/// Names that are links, with the places where they lead.
#[derive(Debug, Default)]
pub struct Detours(Vec<Detour>);

#[derive(Debug)]
struct Detour {
    from: PathBuf,
    to: PathBuf,
    /// The link itself.
    link: OsString,
    owner: (u32, u32),
}

impl Detours {
    /// Whether a name lies behind one of the links, or is one.
    pub fn cover(&self, path: &Path) -> bool {
        self.0.iter().any(|detour| path.starts_with(&detour.from))
    }

    /// Where a name is when all links are followed.
    pub fn follow(&self, path: &Path) -> PathBuf {
        let found = self.0.iter().find_map(|detour| Some(detour.to.join(path.strip_prefix(&detour.from).ok()?)));
        found.unwrap_or_else(|| path.to_owned())
    }
}

impl Top<'_> {
    /// Finds them, and carries what lies behind them to where it belongs.
    pub fn detours(&self) -> io::Result<Detours> {
        let mut found = Detours::default();
        for (n, (_, note)) in self.stack.iter().enumerate() {
            for path in &note.implied {
                if !found.0.iter().any(|detour| detour.from == *path) {
                    // What lies deeper has come along.
                    if found.cover(path) {
                        continue;
                    }
                    let Some(detour) = self.detour(n, path) else { continue };
                    found.0.push(detour);
                }
                self.carry(n, path, &found.follow(path))?;
            }
        }
        found.0.iter().try_for_each(|detour| self.restore(detour))?;
        Ok(found)
    }

    /// A link of a layer below `n` that nothing above describes as something else.
    fn detour(&self, n: usize, path: &Path) -> Option<Detour> {
        let (at, meta) = self.says(path).filter(|(at, meta)| *at < n && meta.is_symlink())?;
        let (link, owner) = (self.link_of(at, path)?, (meta.uid(), meta.gid()));
        let mut to = beside(path, &link);
        for _ in 0..LINKS {
            let (at, meta) = self.says(&to)?;
            if !meta.is_symlink() {
                let leads = meta.is_dir() && !to.starts_with(path);
                return leads.then(|| Detour { from: path.to_owned(), to, link, owner });
            }
            to = beside(&to, &self.link_of(at, &to)?);
        }
        None
    }

    /// Brings what layer `n` has in one directory into another, under what layers above say of that.
    fn carry(&self, n: usize, from: &Path, to: &Path) -> io::Result<()> {
        let (files, note) = &self.stack[n];
        for entry in fs::read_dir(files.join(from))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let (from, to) = (from.join(entry.file_name()), to.join(entry.file_name()));
            if (n + 1..self.stack.len())
                .any(|above| self.look(above, &to).is_some_and(|m| !(m.is_dir() && meta.is_dir())))
            {
                continue;
            }
            if meta.is_dir() {
                self.directory(&to)?;
                if !note.implied.contains(&from) {
                    self.look_like(&to, &meta)?;
                }
                self.carry(n, &from, &to)?;
                continue;
            }
            self.directory(to.parent().unwrap_or(Path::new("")))?;
            let place = self.root.join(&to);
            match fs::remove_file(&place) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => fs::hard_link(entry.path(), place)?,
            }
        }
        Ok(())
    }

    /// Puts the link on top of the directories that would hide it.
    fn restore(&self, detour: &Detour) -> io::Result<()> {
        self.directory(detour.from.parent().unwrap_or(Path::new("")))?;
        let place = self.root.join(&detour.from);
        std::os::unix::fs::symlink(&detour.link, &place)?;
        if rootfs::is_root() {
            std::os::unix::fs::lchown(&place, Some(detour.owner.0), Some(detour.owner.1))?;
        }
        Ok(())
    }
}

/// Where a link of that name leads, by its words alone; nothing leads out of the image.
fn beside(name: &Path, link: &OsString) -> PathBuf {
    let mut place = name.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(link).components() {
        match component {
            Component::RootDir | Component::Prefix(_) => place = PathBuf::new(),
            Component::ParentDir => drop(place.pop()),
            Component::Normal(part) => place.push(part),
            Component::CurDir => {}
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_places_within() {
        for (name, link, place) in [
            ("lib", "usr/lib", "usr/lib"),
            ("a/b/lib", "../c", "a/c"),
            ("lib", "/usr/./lib/", "usr/lib"),
            ("lib", "../../etc", "etc"),
            ("lib", "/", ""),
        ] {
            assert_eq!(beside(Path::new(name), &link.into()), Path::new(place), "{name} -> {link}");
        }
    }

    #[test]
    fn names_behind_a_link_are_followed() {
        let detour = Detour { from: "lib".into(), to: "usr/lib".into(), link: "usr/lib".into(), owner: (0, 0) };
        let detours = Detours(vec![detour]);
        assert_eq!(detours.follow(Path::new("lib/a/b")), Path::new("usr/lib/a/b"));
        assert_eq!(detours.follow(Path::new("library/a")), Path::new("library/a"));
        assert!(detours.cover(Path::new("lib")) && !detours.cover(Path::new("library")));
    }
}
