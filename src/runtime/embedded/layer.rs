//! Unpacks one layer of an image, by a child that is locked into the layer's directory.
//!
//! Names in the archive cannot leave it: `..` is refused, and links resolve below the changed root. What the layer
//! says about files of layers below it (whiteouts, opaque directories) is written the way an overlay reads it. Device
//! nodes are left out, and so are attributes that an overlay would obey.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use crate::base::packing::Unpacked;

const GONE: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const BUFFER: usize = 128 << 10;
/// What an entry costs beside its bytes, so that many empty files are bounded too.
const ENTRY: u64 = 512;
/// After so many bytes more it is told how many there are.
const TOLD: u64 = 1 << 20;

/// Bounds for one layer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rules {
    /// Bytes that an image may unpack to. Whoever is told of the progress counts them; here they only bound the archive.
    pub most_bytes: u64,
    /// Only looks whether the archive is what it should be.
    pub discard: bool,
}

impl Rules {
    /// What an archive within the bounds can be long: an entry of no bytes has its name and attributes.
    fn longest(&self) -> u64 {
        const OF_AN_ENTRY: u64 = 8;
        self.most_bytes.saturating_mul(OF_AN_ENTRY).saturating_add(1 << 20)
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// `sha256:…` of the archive without compression.
    pub digest: String,
    /// Bytes of files.
    pub bytes: u64,
    /// Directories that the archive has files in but does not describe: a layer below may.
    pub implied: BTreeSet<PathBuf>,
    /// Hard links to what is not in this layer, with their targets.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Reads the stream to its end, compressed or not, and unpacks it to the root directory of this process. `tell` is told
/// of the bytes so far.
pub fn unpack(
    input: impl Read,
    rules: Rules,
    rootless: bool,
    tell: impl FnMut(u64) -> io::Result<()> + 'static,
) -> io::Result<Summary> {
    // A umask would take bits from the modes in the archive.
    nix::sys::stat::umask(Mode::empty());
    let mut stream = Hashed {
        inner: Unpacked::new(BufReader::with_capacity(BUFFER, input))?,
        hash: Sha256::new(),
        left: rules.longest(),
    };
    let mut layer = Unpacking::new(rootless, Box::new(tell));
    if !rules.discard {
        let mut archive = Archive::new(BufReader::with_capacity(BUFFER, &mut stream));
        for entry in archive.entries()? {
            layer.entry(&mut entry?)?;
        }
        layer.finish()?;
    }
    // What follows the end belongs to the digest.
    io::copy(&mut stream, &mut io::sink())?;
    let digest = format!("sha256:{}", hex::encode(stream.hash.finalize()));
    Ok(Summary { digest, bytes: layer.bytes, implied: layer.implied, links: layer.links })
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
    /// Bytes that may still come: neither what is only compared nor what follows an archive's end goes on for ever.
    left: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            wrong(
                "the layer is refused: its archive goes on beyond what a layer of that size has (--max-image-size)"
                    .into(),
            )
        })?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

struct Unpacking {
    rootless: bool,
    bytes: u64,
    /// Told of them, and when last.
    tell: Box<dyn FnMut(u64) -> io::Result<()>>,
    told: u64,
    implied: BTreeSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    /// Directories are dated last: what is put into them changes their time.
    dated: Vec<(PathBuf, i64)>,
    /// The directory that is known to be there.
    parent: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl Unpacking {
    fn new(rootless: bool, tell: Box<dyn FnMut(u64) -> io::Result<()>>) -> Self {
        Unpacking {
            rootless,
            bytes: 0,
            tell,
            told: 0,
            implied: BTreeSet::new(),
            links: Vec::new(),
            dated: Vec::new(),
            parent: None,
            buffer: vec![0; BUFFER],
        }
    }
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |e| {
        let kind = if e.kind() == io::ErrorKind::NotFound { io::ErrorKind::InvalidData } else { e.kind() };
        io::Error::new(kind, format!("{}: {e}", path.display()))
    }
}

/// The name without a leading slash or dots.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(wrong(format!("the layer is refused: its entry {:?} leads out of it", path.display()))),
        }
    }
    Ok(plain)
}

fn below_root(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn is_whiteout(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.file_type().is_char_device() && meta.rdev() == 0
}

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName) {
            return Ok(());
        }
        let path = plain(&entry.path()?)?;
        self.grow(ENTRY)?;
        if path.as_os_str().is_empty() {
            return self.attributes(entry, Path::new(""), true);
        }
        self.parents(&path)?;
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name == OPAQUE.as_bytes() {
            return self.opaque(path.parent().unwrap_or(Path::new("")));
        }
        if let Some(gone) = name.strip_prefix(GONE.as_bytes()) {
            return self.whiteout(&path.with_file_name(std::ffi::OsStr::from_bytes(gone)));
        }
        match kind {
            EntryType::Directory => self.directory(entry, &path),
            EntryType::Symlink => self.symlink(entry, &path),
            EntryType::Link => self.link(entry, &path),
            EntryType::Fifo => {
                self.make_room(&path)?;
                mknod(&below_root(&path), SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?;
                self.attributes(entry, &path, false)
            }
            // A device in an image would be a door to the host's.
            EntryType::Char | EntryType::Block => Ok(()),
            _ => self.file(entry, &path),
        }
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes - self.told < TOLD {
            return Ok(());
        }
        self.told = self.bytes;
        (self.tell)(self.bytes)
    }

    /// Makes the directories above an entry that the archive has not described (yet).
    fn parents(&mut self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
        if self.parent.as_deref() == Some(parent) {
            return Ok(());
        }
        let mut sofar = PathBuf::new();
        for component in parent.components() {
            sofar.push(component);
            let place = below_root(&sofar);
            // Through links, which stay below the root.
            if fs::metadata(&place).is_ok_and(|m| m.is_dir()) {
                continue;
            }
            let former = fs::symlink_metadata(&place).ok();
            if former.is_some() {
                fs::remove_file(&place).map_err(at(&sofar))?;
            }
            fs::create_dir(&place).map_err(at(&sofar))?;
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
            if former.as_ref().is_some_and(is_whiteout) {
                self.opaque(&sofar)?;
            } else {
                self.implied.insert(sofar.clone());
            }
        }
        self.parent = Some(parent.to_owned());
        Ok(())
    }

    /// Removes what an earlier entry of the same name left; whether that was a mark that the name is gone.
    fn make_room(&mut self, path: &Path) -> io::Result<bool> {
        let place = below_root(path);
        let Ok(meta) = fs::symlink_metadata(&place) else { return Ok(false) };
        if meta.is_dir() {
            self.parent = None;
            self.implied.retain(|implied| !implied.starts_with(path));
            self.links.retain(|(link, _)| !link.starts_with(path));
            fs::remove_dir_all(&place).map_err(at(path))?;
        } else {
            fs::remove_file(&place).map_err(at(path))?;
        }
        Ok(is_whiteout(&meta))
    }

    fn directory<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let place = below_root(path);
        if !fs::symlink_metadata(&place).is_ok_and(|m| m.is_dir()) {
            let was_gone = self.make_room(path)?;
            self.parent = None;
            fs::create_dir(&place).map_err(at(path))?;
            if was_gone {
                self.opaque(path)?;
            }
        }
        self.implied.remove(path);
        self.attributes(entry, path, true)
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        self.make_room(path)?;
        self.links.retain(|(link, _)| link != path);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(below_root(path)).map_err(at(path))?;
        loop {
            let n = entry.read(&mut self.buffer)?;
            if n == 0 {
                break;
            }
            self.grow(n as u64)?;
            file.write_all(&self.buffer[..n]).map_err(at(path))?;
        }
        drop(file);
        self.attributes(entry, path, false)
    }

    fn symlink<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let target = entry.link_name()?.ok_or_else(|| wrong(format!("{}: a link to nothing", path.display())))?;
        self.make_room(path)?;
        self.parent = None;
        std::os::unix::fs::symlink(target.as_ref(), below_root(path)).map_err(at(path))?;
        let place = below_root(path);
        if !self.rootless {
            let (uid, gid) = owner(entry)?;
            std::os::unix::fs::lchown(&place, Some(uid), Some(gid)).map_err(at(path))?;
        }
        date(&place, mtime(entry));
        Ok(())
    }

    fn link<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let target = entry.link_name()?.ok_or_else(|| wrong(format!("{}: a link to nothing", path.display())))?;
        let target = plain(&target)?;
        if target == path {
            return Ok(());
        }
        self.make_room(path)?;
        let (from, to) = (below_root(&target), below_root(path));
        if fs::symlink_metadata(&from).is_ok_and(|m| !is_whiteout(&m)) {
            return fs::hard_link(&from, &to).map_err(at(path));
        }
        self.links.push((path.to_owned(), target));
        Ok(())
    }

    /// Marks a name as gone, unless this layer has it anew.
    fn whiteout(&mut self, path: &Path) -> io::Result<()> {
        if path.file_name().is_none() || matches!(path.file_name().map(OsStrExt::as_bytes), Some(b"." | b"..")) {
            return Err(wrong(format!("the layer is refused: {:?} cannot be marked as gone", path.display())));
        }
        let place = below_root(path);
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => self.opaque(path),
            Ok(_) => Ok(()),
            Err(_) => mknod(&place, SFlag::S_IFCHR, Mode::empty(), 0).map_err(|e| {
                let why = "an overlay cannot be kept on this file system: put --state-dir on a plain one";
                io::Error::other(format!("cannot mark {:?} as gone ({e}): {why}", path.display()))
            }),
        }
    }

    /// Marks a directory as hiding all that is below it in other layers.
    fn opaque(&mut self, path: &Path) -> io::Result<()> {
        let name = if self.rootless { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
        self.implied.remove(path);
        set_attribute(&below_root(path), name, b"y").map_err(at(path))
    }

    fn attributes<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path, directory: bool) -> io::Result<()> {
        let place = below_root(path);
        if !self.rootless {
            let (uid, gid) = owner(entry)?;
            std::os::unix::fs::lchown(&place, Some(uid), Some(gid)).map_err(at(path))?;
        }
        // After the owner, since changing that drops the set-user-id bit.
        let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).map_err(at(path))?;
        let time = mtime(entry);
        set_attributes(entry, &place)?;
        if directory {
            self.dated.push((place, time));
        } else {
            date(&place, time);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        // A target that came later in the archive.
        for (link, target) in std::mem::take(&mut self.links) {
            let (from, to) = (below_root(&target), below_root(&link));
            if fs::symlink_metadata(&from).is_ok_and(|m| !is_whiteout(&m)) {
                fs::hard_link(&from, &to).map_err(at(&link))?;
            } else {
                self.links.push((link, target));
            }
        }
        for (place, time) in self.dated.drain(..) {
            date(&place, time);
        }
        Ok(())
    }
}

/// Gives a file the attributes that its archive says it has, but for those that an overlay would obey.
pub fn set_attributes<R: Read>(entry: &mut tar::Entry<'_, R>, place: &Path) -> io::Result<()> {
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
        if name.starts_with("trusted.") || name.starts_with("user.overlay.") {
            continue;
        }
        // Not every file system and not every user can have every attribute.
        set_attribute(place, name, extension.value_bytes()).ok();
    }
    Ok(())
}

fn owner<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<(u32, u32)> {
    let number = |n: u64| u32::try_from(n).map_err(|_| wrong(format!("{n} is no user's or group's number")));
    // An empty field is nobody's word: root's, as other tools read it.
    let or_root =
        |field: &[u8], read: io::Result<u64>| if field.iter().all(|b| matches!(b, 0 | b' ')) { Ok(0) } else { read };
    let (header, old) = (entry.header(), entry.header().as_old());
    Ok((number(or_root(&old.uid, header.uid())?)?, number(or_root(&old.gid, header.gid())?)?))
}

fn mtime<R: Read>(entry: &tar::Entry<'_, R>) -> i64 {
    i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0)
}

/// A file of another time is still the file.
fn date(place: &Path, seconds: i64) {
    let time = TimeSpec::new(seconds, 0);
    utimensat(nix::fcntl::AT_FDCWD, place, &time, &time, UtimensatFlags::NoFollowSymlink).ok();
}

fn set_attribute(place: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let place = CString::new(place.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: terminated strings, and a buffer with its length.
    let result = unsafe { libc::lsetxattr(place.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
