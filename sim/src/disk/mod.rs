//! A disk in memory that loses, tears and rots what a real one may, from a seed.
//!
//! Every file has a *pending* image, which reads see, and a *durable* one, which survives a crash;
//! names are pending until their directory is synced. A crash keeps, loses or tears every unsynced
//! sector on its own, and keeps a prefix of each chain of unsynced name changes.
//! Cheap to clone: clones are the same disk. Everything drawn comes from the seed.
//! Caveat: of several unsynced writes to one sector, only the last may survive.

mod file;

use crate::tape::Tape;
use file::SimFile;
use quorate_node::env::{Disk, File, OpenMode};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

/// The unit that is kept or lost as a whole, unless it is torn.
pub const SECTOR_BYTES: usize = 512;

/// One thing that goes wrong at the next fitting operation, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A sync of a file fails; its unsynced sectors then read as old or new content and count as
    /// clean, so that a retry would succeed and save nothing.
    SyncFails,
    /// A write fails with an IO error after a part of it.
    WriteFails,
    /// A write is acknowledged and never happens.
    WriteIsLost,
    /// A write lands this many bytes further on in the same file.
    WriteIsMisdirected(u64),
    /// A read answers fewer bytes than asked for.
    ShortRead,
}

/// Cost of operations in simulated time, in nanoseconds. All zero by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Of a write.
    pub write_ns: u64,
    /// Of a sync of a file or directory.
    pub sync_ns: u64,
    /// Added to either with a uniform draw below this.
    pub jitter_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    pending: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    unreadable: BTreeSet<usize>,
    locked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

/// A change of names, not yet durable.
#[derive(Clone, Debug)]
enum Change {
    Put(String, Node),
    Remove(String),
    Rename(String, String),
}

impl Change {
    fn names(&self) -> [Option<&str>; 2] {
        match self {
            Self::Put(name, _) | Self::Remove(name) => [Some(name), None],
            Self::Rename(from, to) => [Some(from), Some(to)],
        }
    }

    fn carry_out(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Put(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    rng: Tape,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    changes: Vec<Change>,
    /// Handles of an earlier life of the machine do nothing any more.
    life: u64,
    faults: Vec<Fault>,
    capacity: u64,
    latency: Latency,
    cost_ns: u64,
    operations: u64,
    stop_after: Option<u64>,
}

/// What is durable on a disk, to put it back later: a replaced or rolled-back volume.
#[derive(Clone, Debug)]
pub struct Image {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, Node>,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk, with an existing root.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let names = BTreeMap::from([(String::new(), Node::Dir)]);
        let state = State {
            rng: Tape::new(seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            life: 0,
            faults: Vec::new(),
            capacity: u64::MAX,
            latency: Latency::default(),
            cost_ns: 0,
            operations: 0,
            stop_after: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the disk")
    }

    /// A second disk in the same state, drawing from another seed; open files stay with the first.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.lock().clone();
        state.rng = Tape::new(seed);
        for inode in state.inodes.values_mut() {
            inode.locked = false;
        }
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Power is lost and comes back: only what a crash leaves is there, open files are dead.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process dies and the machine lives on: nothing is lost, open files are dead, locks free.
    pub fn kill_process(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.stop_after = None;
        for inode in state.inodes.values_mut() {
            inode.locked = false;
        }
    }

    /// Adds a fault for the next operation that it fits.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Bytes that files may take together; beyond it, allocating and growing fail.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// What operations cost from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// Simulated time that operations took since the last call: the caller delays their completion.
    #[must_use]
    pub fn take_cost_ns(&self) -> u64 {
        std::mem::take(&mut self.lock().cost_ns)
    }

    /// Operations that changed something or synced, so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// After so many more operations every further one fails: the moment of a crash.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.lock();
        state.stop_after = Some(state.operations + operations);
    }

    /// The machine does not stop, whatever was said before.
    pub fn go_on(&self) {
        self.lock().stop_after = None;
    }

    /// Whether the machine has stopped: every operation fails until the crash.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        let state = self.lock();
        state
            .stop_after
            .is_some_and(|stop| state.operations >= stop)
    }

    /// Inverts one bit of a file's durable content; the page cache may still hide it.
    pub fn flip_bit(&self, path: &str, bit: u64) {
        self.damage(path, |inode| {
            let byte = (bit / 8) as usize;
            if byte < inode.durable.len() {
                inode.durable[byte] ^= 1 << (bit % 8);
            }
        });
    }

    /// Turns one durable sector into zeros.
    pub fn zero_sector(&self, path: &str, sector: usize) {
        self.damage(path, |inode| {
            let range = sector_range(sector, inode.durable.len());
            inode.durable[range].fill(0);
        });
    }

    /// Makes one sector fail every read, until it is written again.
    pub fn make_unreadable(&self, path: &str, sector: usize) {
        self.damage(path, |inode| {
            inode.unreadable.insert(sector);
        });
    }

    /// Replaces a file's content, durably: for tests that craft bytes.
    pub fn overwrite(&self, path: &str, bytes: &[u8]) {
        self.damage(path, |inode| {
            inode.durable = bytes.to_vec();
            inode.pending = bytes.to_vec();
            inode.dirty.clear();
        });
    }

    fn damage(&self, path: &str, damage: impl FnOnce(&mut Inode)) {
        let mut state = self.lock();
        if let Some(Node::File(number)) = state.names.get(path).copied()
            && let Some(inode) = state.inodes.get_mut(&number)
        {
            damage(inode);
        }
    }

    /// Durable content of a file, whatever the page cache holds; `None` when it has no durable
    /// name.
    #[must_use]
    pub fn durable(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        match state.durable_names.get(path) {
            Some(Node::File(number)) => Some(state.inodes.get(number)?.durable.clone()),
            _ => None,
        }
    }

    /// All that is durable now.
    #[must_use]
    pub fn image(&self) -> Image {
        let state = self.lock();
        let settle = |inode: &Inode| Inode {
            pending: inode.durable.clone(),
            durable: inode.durable.clone(),
            ..Inode::default()
        };
        let inodes = state
            .inodes
            .iter()
            .map(|(number, inode)| (*number, settle(inode)));
        Image {
            inodes: inodes.collect(),
            names: state.durable_names.clone(),
        }
    }

    /// Puts an image in place of what is there: another node's volume, or an older state of it.
    pub fn restore(&self, image: &Image) {
        let mut state = self.lock();
        state.inodes.clone_from(&image.inodes);
        state.names.clone_from(&image.names);
        state.durable_names.clone_from(&image.names);
        state.changes.clear();
        state.next_inode = image.inodes.keys().last().map_or(1, |last| last + 1);
        state.life += 1;
    }

    /// A digest of everything durable: equal histories have equal digests.
    #[must_use]
    pub fn digest(&self) -> u32 {
        let state = self.lock();
        let mut crc = 0;
        for (name, node) in &state.durable_names {
            crc = crc32c::crc32c_append(crc, name.as_bytes());
            if let Node::File(number) = node {
                crc = crc32c::crc32c_append(crc, &state.inodes[number].durable);
            }
        }
        crc
    }
}

fn sector_range(sector: usize, length: usize) -> std::ops::Range<usize> {
    let start = (sector * SECTOR_BYTES).min(length);
    start..(start + SECTOR_BYTES).min(length)
}

fn failed(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

impl State {
    /// Counts an operation that changes or syncs something; fails once the machine has stopped.
    fn operate(&mut self, is_sync: bool) -> io::Result<()> {
        if self.stop_after.is_some_and(|stop| self.operations >= stop) {
            return Err(failed("the machine has stopped"));
        }
        self.operations += 1;
        let cost_ns = if is_sync {
            self.latency.sync_ns
        } else {
            self.latency.write_ns
        };
        let jitter = self.latency.jitter_ns;
        let jitter = if jitter > 0 {
            self.rng.below(jitter)
        } else {
            0
        };
        self.cost_ns = self.cost_ns.saturating_add(cost_ns + jitter);
        Ok(())
    }

    fn take_fault(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let found = self.faults.iter().position(fits)?;
        Some(self.faults.remove(found))
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.operate(false)?;
        change.carry_out(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.pending.len() as u64)
            .sum()
    }

    fn check_room(&self, more: u64) -> io::Result<()> {
        if self.used().saturating_add(more) > self.capacity {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn crash(&mut self) {
        let mut rng = self.rng.clone();
        for inode in self.inodes.values_mut() {
            inode.crash(&mut rng);
        }
        self.crash_names(&mut rng);
        self.rng = rng;
        self.life += 1;
        self.stop_after = None;
        self.faults.clear();
        let live: BTreeSet<u64> = self
            .names
            .values()
            .filter_map(|node| match node {
                Node::File(number) => Some(*number),
                Node::Dir => None,
            })
            .collect();
        self.inodes.retain(|number, _| live.contains(number));
    }

    /// Changes that share names form a chain, of which a prefix survives; chains are independent.
    fn crash_names(&mut self, rng: &mut Tape) {
        let changes = std::mem::take(&mut self.changes);
        let mut chains: Vec<(BTreeSet<String>, Vec<Change>)> = Vec::new();
        for change in changes {
            let names = change.names().into_iter().flatten().map(str::to_owned);
            let mut names: BTreeSet<String> = names.collect();
            let mut members = Vec::new();
            for (own, old) in std::mem::take(&mut chains) {
                if own.is_disjoint(&names) {
                    chains.push((own, old));
                } else {
                    names.extend(own);
                    members.extend(old);
                }
            }
            members.push(change);
            chains.push((names, members));
        }
        for (_, chain) in chains {
            let kept = rng.below(chain.len() as u64 + 1) as usize;
            for change in &chain[..kept] {
                change.carry_out(&mut self.durable_names);
            }
        }
        // A file whose directory did not survive is gone with it.
        let names = self.durable_names.clone();
        self.durable_names.retain(|name, _| {
            name.rsplit_once('/')
                .is_none_or(|(dir, _)| names.contains_key(dir))
        });
        self.names.clone_from(&self.durable_names);
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk for SimDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        let inode = match (state.names.get(path).copied(), mode) {
            (Some(Node::Dir), _) => return Err(ErrorKind::IsADirectory.into()),
            (Some(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(Node::File(number)), _) => number,
            (None, OpenMode::Existing | OpenMode::ReadOnly) => {
                return Err(ErrorKind::NotFound.into());
            }
            (None, OpenMode::CreateNew | OpenMode::OpenOrCreate) => {
                state.node(parent(path))?;
                let number = state.next_inode;
                state.change(Change::Put(path.to_owned(), Node::File(number)))?;
                state.next_inode += 1;
                state.inodes.insert(number, Inode::default());
                number
            }
        };
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
            life: state.life,
            may_write: mode != OpenMode::ReadOnly,
            holds_lock: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.node(from)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.node(path)?;
        state.change(Change::Remove(path.to_owned()))
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let node = state.node(from)?;
        if state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Put(to.to_owned(), node))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        if state.names.contains_key(path) {
            return Ok(());
        }
        state.node(parent(path))?;
        state.change(Change::Put(path.to_owned(), Node::Dir))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.lock();
        if state.node(dir)? != Node::Dir {
            return Err(ErrorKind::NotADirectory.into());
        }
        let inside = state
            .names
            .keys()
            .filter(|name| !name.is_empty() && parent(name) == dir);
        Ok(inside
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.node(dir)?;
        state.operate(true)?;
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            if change
                .names()
                .into_iter()
                .flatten()
                .any(|name| parent(name) == dir)
            {
                change.carry_out(&mut state.durable_names);
            } else {
                state.changes.push(change);
            }
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(self.lock().names.contains_key(path))
    }

    fn mode(&self, path: &str) -> io::Result<u32> {
        Ok(if self.lock().node(path)? == Node::Dir {
            0o700
        } else {
            0o600
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn display(&self, path: &str) -> String {
        format!("sim:/{path}")
    }
}
