//! The real doors: the operating system's clock, files and random source.
//!
//! The only place in the node that may call them. Linux semantics are assumed: `fdatasync` makes
//! the length durable, a synced directory makes its names durable, a lock dies with its process.

use super::{Clock, Disk, File, OpenMode, Rng};
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// New files belong to their owner only, new directories likewise.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 256 * 1024;
/// Random bytes fetched from the kernel at a time.
const RANDOM_BYTES: usize = 512;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        saturating(self.start.elapsed(), Duration::as_nanos)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        saturating(since, Duration::as_millis)
    }
}

fn saturating(duration: Duration, unit: impl Fn(&Duration) -> u128) -> u64 {
    u64::try_from(unit(&duration)).unwrap_or(u64::MAX)
}

/// The kernel's random source, buffered.
#[derive(Debug)]
pub struct SystemRng {
    source: std::fs::File,
    buffer: [u8; RANDOM_BYTES],
    used: usize,
}

impl SystemRng {
    /// Opens the source.
    ///
    /// # Errors
    /// When the system offers none.
    pub fn open() -> io::Result<Self> {
        let source = std::fs::File::open("/dev/urandom")?;
        let mut rng = Self {
            source,
            buffer: [0; RANDOM_BYTES],
            used: RANDOM_BYTES,
        };
        rng.refill()?;
        Ok(rng)
    }

    fn refill(&mut self) -> io::Result<()> {
        self.source.read_exact(&mut self.buffer)?;
        self.used = 0;
        Ok(())
    }
}

impl Rng for SystemRng {
    fn next_u64(&mut self) -> u64 {
        if self.used == RANDOM_BYTES {
            self.refill()
                .expect("the kernel's random source, once open, does not fail");
        }
        let mut word = [0; 8];
        let taken = &mut self.buffer[self.used..self.used + 8];
        word.copy_from_slice(taken);
        // What was handed out must not be found in memory again.
        taken.fill(0);
        self.used += 8;
        u64::from_le_bytes(word)
    }
}

/// A directory of the real file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The tree below `root`, which is created (with its parents) by [`Disk::create_dir`] of `""`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that `""` stands for.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Existing => options.write(true),
            OpenMode::ReadOnly => &mut options,
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::OpenOrCreate => options.write(true).create(true),
        };
        Ok(Box::new(RealFile {
            file: options.open(self.path(path))?,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.path(from), self.path(to))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return create_with_parents(&self.root);
        }
        let result = DirBuilder::new().mode(DIR_MODE).create(self.path(path));
        match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.path(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::File::open(self.path(dir))?.sync_all()
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.path(path).try_exists()
    }

    fn mode(&self, path: &str) -> io::Result<u32> {
        Ok(std::fs::metadata(self.path(path))?.permissions().mode() & 0o7777)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn display(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

/// Creates a directory and the parents it lacks, and makes their names durable: what is written
/// into it later must not vanish with it. Below it the caller does so, by [`Disk::sync_dir`].
fn create_with_parents(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    let mut builder = DirBuilder::new();
    builder.mode(DIR_MODE).recursive(true).create(dir)?;
    for created in missing {
        let parent = match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

struct RealFile {
    file: std::fs::File,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let have = self.len()?;
        if have >= len {
            return Ok(());
        }
        // Reserve first: running out of space must show before anything is written. The file keeps
        // its length until then, so that a refusal leaves it as it was.
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, have, len - have) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Then write real zeros: on reserved but unwritten blocks every later fdatasync would have
        // to change metadata too.
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = have;
        while at < len {
            let count = usize::try_from(len - at)
                .unwrap_or(ZEROS_BYTES)
                .min(ZEROS_BYTES);
            self.file.write_all_at(&zeros[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = std::num::NonZeroU64::new(len);
        match rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::read_full;

    #[test]
    fn a_file_is_written_and_read_by_position() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(root.path());
        let file = disk.open("a", OpenMode::CreateNew).unwrap();
        file.allocate_zeroed(10_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        file.write_all_at(b"hello", 9_998).unwrap();
        file.sync().unwrap();
        file.drop_cache(0, 0).unwrap();
        let mut buf = [1; 8];
        assert_eq!(read_full(&*file, &mut buf, 9_996).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0hello");
        assert_eq!(disk.mode("a").unwrap(), 0o600);
        let again = disk.open("a", OpenMode::CreateNew).err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_lock_excludes_and_ends_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(root.path());
        let first = disk.open("lock", OpenMode::OpenOrCreate).unwrap();
        let second = disk.open("lock", OpenMode::OpenOrCreate).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn directories_are_for_their_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(root.path().join("deep/data"));
        disk.create_dir("").unwrap();
        disk.create_dir("wal").unwrap();
        disk.create_dir("wal").unwrap();
        assert_eq!(disk.mode("wal").unwrap(), 0o700);
        assert_eq!(disk.list("").unwrap(), ["wal"]);
        assert!(disk.create_dir("missing/child").is_err());
    }

    #[test]
    fn random_words_differ() {
        let mut rng = SystemRng::open().unwrap();
        let words: std::collections::BTreeSet<u64> = (0..1000).map(|_| rng.next_u64()).collect();
        assert_eq!(words.len(), 1000);
    }
}
