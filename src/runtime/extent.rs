//! Room on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that a tree takes; `None` if it is not there.
pub fn size(path: &Path) -> Option<u64> {
    let meta = path.symlink_metadata().ok()?;
    let mut total = meta.blocks() * 512;
    if meta.is_dir() {
        total += fs::read_dir(path).ok()?.flatten().filter_map(|entry| size(&entry.path())).sum::<u64>();
    }
    Some(total)
}
