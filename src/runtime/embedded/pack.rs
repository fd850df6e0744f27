//! Writes what is in a volume as an archive: files that are one file under several names stay one, and the attributes
//! that belong to files come along.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Attributes that are of a file and not of the file system it lies on.
const OWN: &[&str] = &["user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default"];
/// Written by overlays for themselves.
const OVERLAYS: &str = "user.overlay.";

/// Writes the directory's contents, or the one file.
pub fn pack(path: &Path, out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    archive.follow_symlinks(false);
    archive.sparse(false);
    let mut packing = Packing { archive, names: HashMap::new() };
    if fs::metadata(path)?.is_dir() {
        packing.below(path, Path::new(""))?;
    } else {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        packing.entry(&fs::canonicalize(path)?, Path::new(name))?;
    }
    packing.archive.into_inner()?.flush()
}

struct Packing<W: Write> {
    archive: Builder<W>,
    /// Under which name a file that has several was written, by device and number.
    names: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packing<W> {
    /// What is in the directory, in the order of its names.
    fn below(&mut self, directory: &Path, name: &Path) -> io::Result<()> {
        let mut names: Vec<OsString> =
            fs::read_dir(directory)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        names.iter().try_for_each(|entry| self.entry(&directory.join(entry), &name.join(entry)))
    }

    fn entry(&mut self, from: &Path, name: &Path) -> io::Result<()> {
        let meta = match fs::symlink_metadata(from) {
            // Gone since its directory was listed: a volume may be read while a step writes to it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let kind = meta.file_type();
        let mut header = Header::new_gnu();
        header.set_metadata(&meta);
        if !kind.is_dir() && meta.nlink() > 1 {
            if let Some(first) = self.names.get(&(meta.dev(), meta.ino())) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.archive.append_link(&mut header, name, first);
            }
            self.names.insert((meta.dev(), meta.ino()), name.to_owned());
        }
        if kind.is_socket() {
            // Nobody answers at its copy.
            return Ok(());
        }
        if kind.is_symlink() {
            header.set_size(0);
            return self.archive.append_link(&mut header, name, fs::read_link(from)?);
        }
        self.attributes(from)?;
        if kind.is_file() {
            return self.file(&mut header, &meta, from, name);
        }
        header.set_size(0);
        if kind.is_char_device() || kind.is_block_device() {
            header.set_device_major(libc::major(meta.rdev()))?;
            header.set_device_minor(libc::minor(meta.rdev()))?;
        }
        self.archive.append_data(&mut header, name, io::empty())?;
        if kind.is_dir() { self.below(from, name) } else { Ok(()) }
    }

    /// The archive says the size first, so a file that grows or shrinks meanwhile must not.
    fn file(&mut self, header: &mut Header, meta: &Metadata, from: &Path, name: &Path) -> io::Result<()> {
        header.set_size(meta.len());
        let content = File::open(from)?.chain(io::repeat(0)).take(meta.len());
        self.archive.append_data(header, name, content)
    }

    /// Says the attributes of the entry that follows.
    fn attributes(&mut self, from: &Path) -> io::Result<()> {
        let own = |name: &&String| OWN.iter().any(|own| name.starts_with(own)) && !name.starts_with(OVERLAYS);
        let found: Vec<(String, Vec<u8>)> = attribute_names(from)
            .iter()
            .filter(own)
            .filter_map(|name| Some((format!("SCHILY.xattr.{name}"), attribute(from, name)?)))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        self.archive.append_pax_extensions(found.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }
}

/// A buffer as large as `call` says it needs to be, filled by it. A file without attributes, and a file system that
/// knows none, have nothing to tell.
fn filled(call: impl Fn(*mut u8, usize) -> isize) -> Option<Vec<u8>> {
    let wanted = usize::try_from(call(std::ptr::null_mut(), 0)).ok()?;
    let mut buffer = vec![0; wanted];
    let got = usize::try_from(call(buffer.as_mut_ptr(), buffer.len())).ok()?;
    buffer.truncate(got);
    Some(buffer)
}

fn attribute_names(file: &Path) -> Vec<String> {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return Vec::new() };
    // SAFETY: a terminated string, and a buffer with its length or none with length zero.
    let list = filled(|to, size| unsafe { libc::llistxattr(path.as_ptr(), to.cast(), size) });
    let list = list.unwrap_or_default();
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect()
}

fn attribute(file: &Path, name: &str) -> Option<Vec<u8>> {
    let path = CString::new(file.as_os_str().as_bytes()).ok()?;
    let name = CString::new(name).ok()?;
    // SAFETY: terminated strings, and a buffer with its length or none with length zero.
    filled(|to, size| unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), to.cast(), size) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::embedded::tree;

    #[test]
    fn files_of_several_names_and_their_attributes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        let long = "n".repeat(150);
        fs::write(from.join("a"), "content").unwrap();
        fs::hard_link(from.join("a"), from.join("deep/b")).unwrap();
        fs::hard_link(from.join("a"), from.join(&long)).unwrap();
        std::os::unix::fs::symlink("../a", from.join("deep/link")).unwrap();
        nix::unistd::mkfifo(&from.join("deep/pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        drop(std::os::unix::net::UnixListener::bind(from.join("deep/socket")).unwrap());
        let marked = tree::set_attribute(&from.join("a"), "user.note", b"kept").is_ok();
        tree::set_attribute(&from.join("deep/er"), "user.overlay.opaque", b"y").ok();
        let mut bytes = Vec::new();
        pack(&from, &mut bytes).unwrap();
        let kinds: Vec<EntryType> = tar::Archive::new(&bytes[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().header().entry_type())
            .filter(|kind| matches!(kind, EntryType::Link | EntryType::Regular | EntryType::Fifo))
            .collect();
        let once = [EntryType::Regular, EntryType::Link, EntryType::Fifo, EntryType::Link];
        assert_eq!(kinds, once, "the content is there once");
        let mut archive = tar::Archive::new(&bytes[..]);
        archive.set_unpack_xattrs(true);
        archive.unpack(&to).unwrap();
        let number = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(number(&to.join("a")), number(&to.join("deep/b")));
        assert_eq!(number(&to.join("a")), number(&to.join(&long)));
        assert_eq!(fs::read_link(to.join("deep/link")).unwrap(), Path::new("../a"));
        assert!(!to.join("deep/socket").exists());
        assert_eq!(attribute(&to.join("a"), "user.note"), marked.then(|| b"kept".to_vec()));
        assert_eq!(attribute(&to.join("deep/er"), "user.overlay.opaque"), None);
    }
}
