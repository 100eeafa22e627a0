//! The doors: the only ways out of the node to clock, disk and randomness.
//!
//! Everything behind them is a function of its inputs, so that the simulator can replay it. The
//! real doors are in [`real`]; the simulator has its own. Network doors belong to `transport`.
//! Must not know: what is stored, who asks.

pub mod real;

use std::io;

/// Time. The only one the node knows.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some fixed point, never going back, not comparable across processes.
    fn monotonic_ns(&self) -> u64;
    /// Milliseconds since 1970, as the machine believes; may jump both ways.
    fn unix_ms(&self) -> u64;
}

/// Randomness: unpredictable from outside in production, a seeded sequence in simulation.
pub trait Rng: Send {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// What [`Disk::open`] does about a file that exists or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Open for reading and writing; `NotFound` when absent.
    Existing,
    /// Open for reading only; `NotFound` when absent. Writes to such a file fail.
    ReadOnly,
    /// Create; `AlreadyExists` when present.
    CreateNew,
    /// Open for reading and writing, created empty when absent.
    OpenOrCreate,
}

/// A tree of files. Paths are relative to its root, with `/`; the root itself is `""`.
///
/// A created, renamed, linked or removed name is durable only after [`Disk::sync_dir`] of the
/// directory that holds it. Errors are the operating system's own.
pub trait Disk: Send + Sync {
    /// Opens a file. New files may be read and written by their owner only.
    ///
    /// # Errors
    /// As [`OpenMode`] says, and those of the device.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, replacing what has it, atomically.
    ///
    /// # Errors
    /// `NotFound`, and those of the device.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file's name. Content stays readable through files already open.
    ///
    /// # Errors
    /// `NotFound`, and those of the device.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Gives a file a second name.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, and those of the device.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Creates one directory, for its owner only; one that exists already is left as it is.
    ///
    /// # Errors
    /// `NotFound` when the parent is absent, and those of the device.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Removes a directory that must be empty.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`, and those of the device.
    fn remove_dir(&self, path: &str) -> io::Result<()>;
    /// Names of files and directories inside `dir`, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// `NotFound`, and those of the device.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes the names inside `dir` durable.
    ///
    /// # Errors
    /// Those of the device; as with a file, a failed sync must not be retried and trusted.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Whether a file or directory has this name.
    ///
    /// # Errors
    /// Those of the device.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Permission bits of a file or directory (`0o700`).
    ///
    /// # Errors
    /// `NotFound`, and those of the device.
    fn mode(&self, path: &str) -> io::Result<u32>;
    /// Bytes that may still be allocated.
    ///
    /// # Errors
    /// Those of the device.
    fn free_bytes(&self) -> io::Result<u64>;
    /// How a path of this disk is called in messages for people.
    fn display(&self, path: &str) -> String;
}

/// An open file, used by position; any number of threads may read while one writes.
///
/// A write is durable only after [`File::sync`]. Dropping the file releases its lock.
pub trait File: Send + Sync {
    /// Reads at `offset` and answers how many bytes there were; fewer than asked is not the end,
    /// 0 is.
    ///
    /// # Errors
    /// Those of the device.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`, growing the file when needed.
    ///
    /// # Errors
    /// `StorageFull`, and those of the device; part of `buf` may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes written data and the file's length durable (`fdatasync`).
    ///
    /// # Errors
    /// Those of the device. Must not be retried and trusted: the lost pages may count as clean.
    fn sync(&self) -> io::Result<()>;
    /// As [`File::sync`], with all metadata (`fsync`).
    ///
    /// # Errors
    /// As for [`File::sync`].
    fn sync_all(&self) -> io::Result<()>;
    /// Reserves room and fills the file with zeros up to `len`, beyond what it holds already, so
    /// that later writes below `len` neither run out of space nor change metadata.
    ///
    /// # Errors
    /// `StorageFull` when there is no room: nothing that was there has changed. Those of the
    /// device.
    fn allocate_zeroed(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends (with a hole) the file.
    ///
    /// # Errors
    /// Those of the device.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the device.
    fn len(&self) -> io::Result<u64>;
    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// Those of the device.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Forgets cached pages of a range that are clean, so that the next read asks the device
    /// (rule W6). `len` 0 means to the end. A file system that cannot is no error.
    ///
    /// # Errors
    /// Those of the device.
    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Takes the exclusive lock of this file; false when another holds it.
    ///
    /// # Errors
    /// Those of the device.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Reads until `buf` is full or the file ends; answers how many bytes were read.
///
/// # Errors
/// Those of [`File::read_at`].
pub fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
