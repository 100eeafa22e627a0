//! Whether a file is still the one that was read: what the file system tells without reading it.
//!
//! Follows links, because that is how mounted Secrets and ConfigMaps change. Must not know: what is
//! in a file, when anybody looks.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The identity of a file's content, as far as the file system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Of the file as it is now. `None`: there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
