//! A disk whose syncs are timed: what the history takes to become durable, without the storage
//! reading a clock.
//!
//! Everything else is handed on as it is. Must not know: what is stored.

use crate::env::{Clock, Disk, File, OpenMode};
use prometheus::Histogram;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A disk that observes how long each sync of a file takes.
pub(super) struct TimedDisk {
    disk: Arc<dyn Disk>,
    watch: Watch,
}

#[derive(Clone)]
struct Watch {
    clock: Arc<dyn Clock>,
    sync_seconds: Histogram,
}

struct TimedFile {
    file: Box<dyn File>,
    watch: Watch,
}

impl TimedDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, sync_seconds: Histogram) -> Self {
        let watch = Watch {
            clock,
            sync_seconds,
        };
        Self { disk, watch }
    }
}

impl Watch {
    fn time(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began_ns = self.clock.monotonic_ns();
        let result = sync();
        let took_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
        let took = Duration::from_nanos(took_ns);
        self.sync_seconds.observe(took.as_secs_f64());
        result
    }
}

impl Disk for TimedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let watch = self.watch.clone();
        Ok(Box::new(TimedFile { file, watch }))
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

impl File for TimedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.watch.time(|| self.file.sync())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.watch.time(|| self.file.sync_all())
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

    fn is_empty(&self) -> io::Result<bool> {
        self.file.is_empty()
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.drop_cache(offset, len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
