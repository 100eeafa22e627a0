//! The lock on a data directory: one process at a time, and the others are told which.

use super::error::{Error, IoContext};
use crate::env::{Disk, File, OpenMode, read_full};

/// Name of the lock file.
pub(crate) const LOCK_FILE: &str = "lock";

/// Held as long as it lives; the system frees it when the process dies, however it dies.
pub(crate) struct Lock {
    _file: Box<dyn File>,
}

impl Lock {
    /// Takes the lock, or answers who holds it. `holder` is this process's number.
    pub(crate) fn take(disk: &dyn Disk, holder: u32) -> Result<Self, Error> {
        let shown = || disk.display(LOCK_FILE);
        let file = disk
            .open(LOCK_FILE, OpenMode::OpenOrCreate)
            .context("open", shown)?;
        if !file.try_lock().context("lock", shown)? {
            return Err(Error::Locked {
                path: disk.display(""),
                holder: read_holder(&*file),
            });
        }
        // Only for the message above. Not synced: after a crash nobody holds the lock.
        let text = format!("{holder}\n");
        file.set_len(0).context("write", shown)?;
        file.write_all_at(text.as_bytes(), 0)
            .context("write", shown)?;
        Ok(Self { _file: file })
    }
}

fn read_holder(file: &dyn File) -> Option<u32> {
    let mut bytes = [0; 16];
    let count = read_full(file, &mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..count])
        .ok()?
        .trim()
        .parse()
        .ok()
}
