//! A disk in memory: it knows what was synced, stops at a chosen operation, and loses power.
//!
//! Must not know: what is stored.

use crate::env::{Disk, File, OpenMode};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// What a power loss leaves of data that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything stays: only the process died.
    Nothing,
    /// Everything that was not synced goes.
    Unsynced,
    /// Every other sector stays: writes reached the disk out of order.
    Torn,
}

/// Bytes that a disk writes as one.
const SECTOR_BYTES: usize = 64;

#[derive(Clone, Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    dirs: BTreeSet<String>,
    /// Changes so far.
    changes: u64,
    /// Changes beyond this number fail.
    changes_max: Option<u64>,
    free_bytes: Option<u64>,
    /// Whether no file can grow any more.
    full: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
}

impl TestDisk {
    pub fn new() -> Self {
        let disk = Self::default();
        disk.state.lock().dirs.insert(String::new());
        disk
    }

    /// The disk as the log takes it.
    pub fn door(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Another disk with the same content.
    pub fn fork(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.state.lock().clone())),
        }
    }

    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Lets so many changes happen from now on; later ones fail, the last one halfway.
    pub fn stop_after(&self, changes: u64) {
        let mut state = self.state.lock();
        state.changes_max = Some(state.changes + changes);
    }

    /// Whether a change has failed.
    pub fn has_stopped(&self) -> bool {
        let state = self.state.lock();
        state.changes_max.is_some_and(|max| state.changes > max)
    }

    pub fn set_free_bytes(&self, free: u64) {
        self.state.lock().free_bytes = Some(free);
    }

    /// From now on no file can grow, or can again.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Removes a file, durably, behind everybody's back.
    pub fn remove_file(&self, path: &str) {
        let mut state = self.state.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Power goes and comes back.
    pub fn lose_power(&self, loss: Loss) {
        let mut state = self.state.lock();
        state.changes_max = None;
        if loss == Loss::Nothing {
            return;
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            if loss == Loss::Unsynced {
                inode.data = inode.synced.clone();
                continue;
            }
            let mut data = inode.synced.clone();
            data.resize(inode.data.len().max(data.len()), 0);
            let sectors = inode.data.chunks(SECTOR_BYTES).enumerate();
            for (at, sector) in sectors.filter(|(at, _)| at % 2 == 1) {
                data[at * SECTOR_BYTES..][..sector.len()].copy_from_slice(sector);
            }
            inode.data = data;
        }
        for inode in &mut state.inodes {
            inode.synced = inode.data.clone();
        }
    }

    /// Names of all files.
    pub fn files(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// A file's bytes.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let state = self.state.lock();
        state.inodes[state.names[path]].data.clone()
    }

    /// Replaces a file's bytes, durably, behind everybody's back.
    pub fn set_bytes(&self, path: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let at = state.names[path];
        state.inodes[at] = Inode {
            data: bytes.clone(),
            synced: bytes,
        };
    }

    /// Flips one bit of a file.
    pub fn flip(&self, path: &str, offset: usize, bit: u8) {
        let mut bytes = self.bytes(path);
        bytes[offset] ^= 1 << (bit % 8);
        self.set_bytes(path, bytes);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.changes += 1;
        let changes = state.changes;
        match state.changes_max {
            Some(max) if changes > max + 1 => Err(io::Error::other("power is gone")),
            // The change that is cut short takes place in part.
            Some(max) if changes == max + 1 => {
                let _ = change(&mut state, true);
                Err(io::Error::other("power is gone"))
            }
            _ => change(&mut state, false),
        }
    }
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.to_owned())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Disk for TestDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let known = self.state.lock().names.get(path).copied();
        let inode = match (known, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Existing | OpenMode::ReadOnly) => return Err(not_found(path)),
            (None, _) => self.change(|state, cut| {
                if !state.dirs.contains(parent(path)) {
                    return Err(not_found(parent(path)));
                }
                let at = state.inodes.len();
                if !cut {
                    state.inodes.push(Inode::default());
                    state.names.insert(path.to_owned(), at);
                }
                Ok(at)
            })?,
        };
        Ok(Box::new(TestFile {
            disk: self.clone(),
            inode,
            writable: mode != OpenMode::ReadOnly,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state, cut| {
            if cut {
                return Ok(());
            }
            let inode = state.names.remove(from).ok_or_else(|| not_found(from))?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(|state, cut| {
            if cut {
                return Ok(());
            }
            state
                .names
                .remove(path)
                .map(|_| ())
                .ok_or_else(|| not_found(path))
        })
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state, cut| {
            let inode = *state.names.get(from).ok_or_else(|| not_found(from))?;
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !cut {
                state.names.insert(to.to_owned(), inode);
            }
            Ok(())
        })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.change(|state, _| {
            state.dirs.insert(path.to_owned());
            Ok(())
        })
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.change(|state, cut| {
            if state.names.keys().any(|name| parent(name) == path) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if !cut {
                state.dirs.remove(path);
            }
            Ok(())
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let all = state.names.keys().chain(&state.dirs);
        let inside = all.filter(|path| !path.is_empty() && parent(path) == dir);
        Ok(inside
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.change(|state, cut| {
            if cut {
                return Ok(());
            }
            state.durable_names.retain(|name, _| parent(name) != dir);
            let inside = state.names.iter().filter(|(name, _)| parent(name) == dir);
            let inside: Vec<_> = inside.map(|(name, inode)| (name.clone(), *inode)).collect();
            state.durable_names.extend(inside);
            Ok(())
        })
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let state = self.state.lock();
        Ok(state.names.contains_key(path) || state.dirs.contains(path))
    }

    fn mode(&self, _path: &str) -> io::Result<u32> {
        Ok(0o600)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().free_bytes.unwrap_or(u64::MAX))
    }

    fn display(&self, path: &str) -> String {
        path.to_owned()
    }
}

struct TestFile {
    disk: TestDisk,
    inode: usize,
    writable: bool,
}

impl TestFile {
    fn change(&self, change: impl FnOnce(&mut Inode, bool)) -> io::Result<()> {
        assert!(self.writable, "a file opened for reading is changed");
        self.disk.change(|state, cut| {
            change(&mut state.inodes[self.inode], cut);
            Ok(())
        })
    }

    fn sync_inode(&self) -> io::Result<()> {
        self.disk.change(|state, cut| {
            let inode = &mut state.inodes[self.inode];
            if !cut {
                inode.synced = inode.data.clone();
            }
            Ok(())
        })
    }
}

impl File for TestFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state.lock();
        let data = &state.inodes[self.inode].data;
        let from = data.len().min(offset as usize);
        let len = buf.len().min(data.len() - from);
        buf[..len].copy_from_slice(&data[from..from + len]);
        Ok(len)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + buf.len();
        let state = self.disk.state.lock();
        if state.full && state.inodes[self.inode].data.len() < end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        drop(state);
        self.change(|inode, cut| {
            let buf = if cut { &buf[..buf.len() / 2] } else { buf };
            let end = offset as usize + buf.len();
            if inode.data.len() < end {
                inode.data.resize(end, 0);
            }
            inode.data[offset as usize..end].copy_from_slice(buf);
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_inode()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_inode()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        if self.disk.state.lock().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(|inode, _| inode.data.resize(inode.data.len().max(len as usize), 0))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|inode, cut| {
            if !cut {
                inode.data.resize(len as usize, 0);
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().inodes[self.inode].data.len() as u64)
    }

    fn drop_cache(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
