//! A directory of this host as a tar stream: owners, modes, links, devices and file capabilities included.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio_util::io::SyncIoBridge;

use crate::runtime::TarStream;

const BUFFER: usize = 256 * 1024;
const CAPABILITY: &str = "security.capability";

/// Packs `root`'s contents, on a thread of its own. An error breaks the stream off.
pub fn pack(root: PathBuf) -> TarStream {
    let (reader, writer) = tokio::io::duplex(BUFFER);
    let (failed, failure) = tokio::sync::oneshot::channel();
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let bridge = SyncIoBridge::new_with_handle(writer, handle);
        let buffered = io::BufWriter::with_capacity(64 * 1024, bridge);
        let written =
            write_tree(&root, buffered).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", root.display())));
        // The reader may have gone away, which is its right.
        let _ = failed.send(written);
    });
    let ending = futures_util::stream::once(async move {
        match failure.await {
            Ok(Ok(())) => Ok(bytes::Bytes::new()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("packing was interrupted")),
        }
    });
    Box::pin(tokio::io::AsyncReadExt::chain(reader, tokio_util::io::StreamReader::new(Box::pin(ending))))
}

fn write_tree(root: &Path, out: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    builder.mode(tar::HeaderMode::Complete);
    let mut directories = vec![PathBuf::new()];
    let mut linked: HashMap<(u64, u64), PathBuf> = HashMap::new();
    while let Some(below) = directories.pop() {
        for entry in std::fs::read_dir(root.join(&below))? {
            let entry = entry?;
            let name = below.join(entry.file_name());
            let metadata = entry.path().symlink_metadata()?;
            if metadata.is_dir() {
                directories.push(name.clone());
            }
            let key = (metadata.dev(), metadata.ino());
            match linked.get(&key) {
                Some(first) if !metadata.is_dir() && metadata.nlink() > 1 => {
                    append_link(&mut builder, &metadata, &name, first)?;
                }
                _ if metadata.file_type().is_socket() => {}
                _ => {
                    append(&mut builder, &entry.path(), &name, &metadata)?;
                    if metadata.nlink() > 1 {
                        linked.insert(key, name);
                    }
                }
            }
        }
    }
    builder.into_inner()?.flush()
}

fn append(
    builder: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
    metadata: &std::fs::Metadata,
) -> io::Result<()> {
    if metadata.is_file()
        && let Some(value) = attribute(path, CAPABILITY)?
    {
        builder.append_pax_extensions([("SCHILY.xattr.security.capability", value.as_slice())])?;
    }
    builder.append_path_with_name(path, name)
}

fn append_link(
    builder: &mut tar::Builder<impl Write>,
    metadata: &std::fs::Metadata,
    name: &Path,
    first: &Path,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(metadata);
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, name, first)
}

fn attribute(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let terminated = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let (path, name) = (terminated(path.as_os_str())?, terminated(OsStr::new(name))?);
    let mut value = [0u8; 64];
    // SAFETY: both strings end with a zero, and the buffer is as long as is said.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    Ok(usize::try_from(length).ok().map(|length| value[..length].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn links_modes_and_long_names_survive() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = "n".repeat(180);
        std::fs::create_dir_all(from.path().join("a").join(&long)).unwrap();
        std::fs::write(from.path().join("a").join(&long).join("file"), "text").unwrap();
        std::fs::hard_link(from.path().join("a").join(&long).join("file"), from.path().join("hard")).unwrap();
        std::os::unix::fs::symlink("a", from.path().join("soft")).unwrap();
        let mut bytes = Vec::new();
        pack(from.path().to_path_buf()).read_to_end(&mut bytes).await.unwrap();
        tar::Archive::new(bytes.as_slice()).unpack(to.path()).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("soft").join(&long).join("file")).unwrap(), "text");
        assert_eq!(to.path().join("hard").metadata().unwrap().nlink(), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_read_breaks_the_stream() {
        let mut bytes = Vec::new();
        assert!(pack("/nonexistent".into()).read_to_end(&mut bytes).await.is_err());
    }
}
