//! A disk whose syncs can be held: it hangs, as a failing device or a network volume does.
//!
//! Must not know: what is stored.

use crate::env::real::RealDisk;
use crate::env::{Disk, File, OpenMode};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Lets syncs pass, or holds those of some files.
#[derive(Default)]
pub(super) struct Gate {
    closed: Mutex<Option<&'static str>>,
    opened: Condvar,
}

impl Gate {
    /// Holds every sync of a file whose path begins with `prefix`.
    pub(super) fn close(&self, prefix: &'static str) {
        *self.closed.lock() = Some(prefix);
    }

    /// Lets everything pass.
    pub(super) fn open(&self) {
        *self.closed.lock() = None;
        self.opened.notify_all();
    }

    fn pass(&self, path: &str) {
        let mut closed = self.closed.lock();
        while closed.is_some_and(|prefix| path.starts_with(prefix)) {
            self.opened.wait(&mut closed);
        }
    }
}

/// A real disk behind a gate.
pub(super) struct GatedDisk {
    disk: RealDisk,
    gate: Arc<Gate>,
}

impl GatedDisk {
    pub(super) fn new(root: &Path, gate: &Arc<Gate>) -> Self {
        Self {
            disk: RealDisk::new(root),
            gate: Arc::clone(gate),
        }
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(GatedFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            gate: Arc::clone(&self.gate),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.hard_link(from, to)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn mode(&self, path: &str) -> io::Result<u32> {
        self.disk.mode(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn display(&self, path: &str) -> String {
        self.disk.display(path)
    }
}

struct GatedFile {
    file: Box<dyn File>,
    path: String,
    gate: Arc<Gate>,
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass(&self.path);
        self.file.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.gate.pass(&self.path);
        self.file.sync_all()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.file.allocate_zeroed(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.drop_cache(offset, len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
