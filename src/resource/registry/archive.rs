//! Images in files: what `docker save` writes, and the OCI's layout as a directory or a tar file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::manifest::{self, Descriptor, Index};
use super::{Error, Result};
use crate::base::packing::Packing;

/// No description in an archive is longer.
const MOST: u64 = 16 << 20;

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    file: PathBuf,
    offset: u64,
    /// Its length.
    pub size: u64,
}

impl Part {
    /// The whole of a file.
    pub fn whole(file: PathBuf) -> io::Result<Part> {
        let size = fs::metadata(&file)?.len();
        Ok(Part { file, offset: 0, size })
    }

    /// Its bytes, from the first.
    pub fn open(&self) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.size))
    }

    /// The same without blocking.
    pub fn open_async(&self) -> io::Result<tokio::io::Take<tokio::fs::File>> {
        use tokio::io::AsyncReadExt;
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(tokio::fs::File::from_std(file).take(self.size))
    }

    /// `sha256:…` of it.
    pub fn digest(&self) -> io::Result<String> {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        let mut reader = self.open()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(format!("sha256:{}", hex::encode(hash.finalize()))),
                n => hash.update(&buffer[..n]),
            }
        }
    }

    /// Whether it is compressed, by its first bytes.
    pub fn is_packed(&self) -> io::Result<bool> {
        let mut head = Vec::new();
        self.open()?.take(Packing::HEAD).read_to_end(&mut head)?;
        Ok(matches!(Packing::of(&head), Some(Packing::Gzip | Packing::Zstd)))
    }
}

/// An entry of `manifest.json` as `docker save` writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DockerImage {
    /// File of the configuration.
    pub config: String,
    /// `name:tag`
    pub repo_tags: Option<Vec<String>>,
    /// Files of the layers, the lowest first.
    pub layers: Vec<String>,
}

/// The files of an archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    parts: HashMap<PathBuf, Part>,
    links: HashMap<PathBuf, PathBuf>,
}

fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

impl Archive {
    /// Looks what is in a directory or a tar file. Nothing is unpacked.
    pub fn open(path: &Path) -> Result<Archive> {
        Archive::named(path, path)
    }

    /// As [`Archive::open`], of a file that is called otherwise where its user hears of it.
    pub fn named(name: &Path, path: &Path) -> Result<Archive> {
        let mut archive = Archive::read_from(path)?;
        name.clone_into(&mut archive.path);
        Ok(archive)
    }

    fn read_from(path: &Path) -> Result<Archive> {
        let unreadable = |e: io::Error| Error::Unusable(format!("{} cannot be read as an image: {e}", path.display()));
        let mut archive = Archive { path: path.to_owned(), parts: HashMap::new(), links: HashMap::new() };
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(archive);
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut file).take(Packing::HEAD).read_to_end(&mut head).map_err(unreadable)?;
        if let Some(packing) = Packing::of(&head) {
            let text = format!("{} is compressed; unpack it first ({})", path.display(), packing.program());
            return Err(Error::Unusable(text));
        }
        file.rewind().map_err(unreadable)?;
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = plain(&entry.path().map_err(unreadable)?);
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name().map_err(unreadable)?.unwrap_or_default().into_owned();
                let from = if kind.is_symlink() { name.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                archive.links.insert(name.clone(), plain(&from.join(target)));
            } else if kind.is_file() {
                let part = Part { file: path.to_owned(), offset: entry.raw_file_position(), size: entry.size() };
                archive.parts.insert(name, part);
            }
        }
        Ok(archive)
    }

    /// A file of the archive.
    pub fn find(&self, name: &str) -> Option<Part> {
        let mut name = plain(Path::new(name));
        if self.parts.is_empty() && self.path.is_dir() {
            // The directory is an artifact: whoever made it may have put links into it.
            let path = self.path.join(&name);
            let inside = fs::canonicalize(&path).ok()?.starts_with(fs::canonicalize(&self.path).ok()?);
            return Part::whole(path).ok().filter(|_| inside);
        }
        for _ in 0..8 {
            if let Some(part) = self.parts.get(&name) {
                return Some(part.clone());
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// A file of the archive that must be there.
    pub fn part(&self, name: &str) -> Result<Part> {
        self.find(name).ok_or_else(|| Error::Unusable(format!("there is no {name} in {}", self.path.display())))
    }

    /// A short file's bytes.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let part = self.part(name)?;
        if part.size > MOST {
            return Err(Error::Unusable(format!("{name} in {} is too long", self.path.display())));
        }
        let mut bytes = Vec::new();
        let read = part.open().and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.map_err(|e| Error::Unusable(format!("{name} in {}: {e}", self.path.display())))?;
        Ok(bytes)
    }

    /// The file of a digest in the OCI's layout.
    pub fn blob(digest: &str) -> String {
        format!("blobs/{}", digest.replacen(':', "/", 1))
    }

    /// The images as `docker save` writes them, if it did.
    pub fn docker_images(&self) -> Result<Option<Vec<DockerImage>>> {
        match self.find("manifest.json") {
            Some(_) => Ok(Some(manifest::read("manifest.json", &self.read("manifest.json")?)?)),
            None => Ok(None),
        }
    }

    /// The index of the OCI's layout, with its bytes.
    pub fn index(&self) -> Result<(Index, Vec<u8>)> {
        if self.find("index.json").is_none() {
            return Err(Error::Unusable(format!(
                "{} is no image: it has neither manifest.json (docker save) nor index.json (OCI layout)",
                self.path.display()
            )));
        }
        let bytes = self.read("index.json")?;
        Ok((manifest::read("index.json", &bytes)?, bytes))
    }

    /// The one index that is wrapped in `index.json`, or that itself; with the digest it has.
    pub fn unwrapped_index(&self) -> Result<(Index, Vec<u8>)> {
        let (mut index, mut bytes) = self.index()?;
        for _ in 0..8 {
            let [only] = index.manifests.as_slice() else { break };
            if !only.is_index() {
                break;
            }
            bytes = self.document(only)?;
            index = manifest::read("index", &bytes)?;
        }
        Ok((index, bytes))
    }

    /// A manifest or index that a descriptor names, which must be what its digest says.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read(&Self::blob(&descriptor.digest))?;
        let found = manifest::sha256(&bytes);
        if found != descriptor.digest {
            let what = format!("a blob in {}", self.path.display());
            return Err(Error::Damaged { what, expected: descriptor.digest.clone(), found });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_tar_are_found_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let mut add = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        };
        add("manifest.json", r#"[{"Config":"c.json","RepoTags":null,"Layers":["b/layer.tar"]}]"#);
        add("a/layer.tar", "the layer");
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "b/layer.tar", "../a/layer.tar").unwrap();
        builder.finish().unwrap();
        let archive = Archive::open(&path).unwrap();
        let images = archive.docker_images().unwrap().unwrap();
        assert_eq!(archive.read(&images[0].layers[0]).unwrap(), b"the layer");
        assert_eq!(archive.part("a/layer.tar").unwrap().digest().unwrap(), manifest::sha256(b"the layer"));
        assert!(archive.index().unwrap_err().to_string().contains("neither manifest.json"));
        assert!(archive.part("x").is_err());
        std::fs::write(&path, b"\x1f\x8b\x08\x00").unwrap();
        assert!(Archive::open(&path).unwrap_err().to_string().ends_with("is compressed; unpack it first (gunzip)"));
    }

    #[test]
    fn a_layout_is_not_left_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        fs::create_dir(&layout).unwrap();
        fs::write(dir.path().join("outside"), "{}").unwrap();
        std::os::unix::fs::symlink("../outside", layout.join("index.json")).unwrap();
        assert!(Archive::open(&layout).unwrap().find("index.json").is_none());
    }
}
