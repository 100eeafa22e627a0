//! A small state machine over the log, and the words that tests are written in.

use super::disk::TestDisk;
use crate::storage::revision_log::{
    AppliedMark, Compacted, Compactor, Error, Flushed, KeyIndex, Location, MetaKind, Opened,
    Options, Record, Recovered, Revision, RevisionLog,
};
use quorate_raft::{EntryId, LogIndex, Term};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The directory of the log under test.
pub const DIR: &str = "log";

/// Options with segments so small that rare paths are common.
pub fn small() -> Options {
    Options {
        segment_bytes: 512,
        identity: 7,
        background: false,
        ..Options::default()
    }
}

/// A mark at an index of term 1.
pub fn at(index: u64) -> AppliedMark {
    let applied = EntryId {
        term: Term(1),
        index: LogIndex(index),
    };
    AppliedMark {
        applied,
        membership_index: LogIndex(1),
        digest: index * 31,
    }
}

/// A version: its value (`None` for a tombstone) and where it stands.
type Version = (Option<Vec<u8>>, Location);

/// Keys with their versions, opaque rows, and the compacted revision: what the state machine
/// keeps, without its locations when compared.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub keys: BTreeMap<Vec<u8>, BTreeMap<Revision, Version>>,
    pub rows: BTreeMap<(MetaKind, Vec<u8>), Vec<u8>>,
    pub compacted: u64,
}

impl Index {
    /// Drops what a compaction makes obsolete, and answers where it stood.
    pub fn compact(&mut self, revision: u64) -> Vec<Location> {
        self.compacted = self.compacted.max(revision);
        let mut dead = Vec::new();
        for versions in self.keys.values_mut() {
            let newest = versions
                .keys()
                .rev()
                .find(|rev| rev.main <= revision)
                .copied();
            let Some(newest) = newest else { continue };
            versions.retain(|rev, (value, location)| {
                let hidden = *rev < newest;
                let ended = *rev == newest && value.is_none() && rev.main < revision;
                if hidden || ended {
                    dead.push(*location);
                }
                !(hidden || ended)
            });
        }
        self.keys.retain(|_, versions| !versions.is_empty());
        dead
    }

    /// Everything but locations, to compare.
    pub fn plain(&self) -> Plain {
        let versions = self.keys.iter().flat_map(|(key, versions)| {
            versions
                .iter()
                .map(move |(rev, (value, _))| (key.clone(), *rev, value.clone()))
        });
        (versions.collect(), self.rows.clone(), self.compacted)
    }
}

/// What is compared of an index.
pub type Plain = (
    Vec<(Vec<u8>, Revision, Option<Vec<u8>>)>,
    BTreeMap<(MetaKind, Vec<u8>), Vec<u8>>,
    u64,
);

/// The log with its small state machine.
pub struct Machine {
    pub log: RevisionLog,
    pub opened: Opened,
    pub index: Index,
    pub revision: u64,
    pub applied: u64,
}

impl Machine {
    /// Opens the log, rebuilds the index, and reads every value.
    pub fn open(disk: &TestDisk) -> Result<Self, Error> {
        Self::open_with(disk, small())
    }

    /// As [`Machine::open`], with other options.
    pub fn open_with(disk: &TestDisk, options: Options) -> Result<Self, Error> {
        let (machine, errors) = Self::open_damaged(disk, options)?;
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(machine),
        }
    }

    /// As [`Machine::open_with`], with the errors of reading values apart.
    pub fn open_damaged(disk: &TestDisk, options: Options) -> Result<(Self, Vec<Error>), Error> {
        let mut index = Index::default();
        let mut places = Vec::new();
        let mut revision = 0;
        let (log, opened) =
            RevisionLog::open(disk.door(), DIR, options, &mut |found| match found {
                Recovered::Put {
                    key,
                    mod_rev,
                    location,
                    ..
                } => {
                    revision = revision.max(mod_rev.main);
                    places.push((key.to_vec(), mod_rev, location));
                }
                Recovered::Delete {
                    key,
                    mod_rev,
                    location,
                } => {
                    revision = revision.max(mod_rev.main);
                    let versions = index.keys.entry(key.to_vec()).or_default();
                    versions.insert(mod_rev, (None, location));
                }
                Recovered::Compaction { revision } => {
                    index.compacted = index.compacted.max(revision)
                }
                Recovered::Meta { kind, key, bytes } => {
                    index.rows.insert((kind, key.to_vec()), bytes.to_vec());
                }
            })?;
        let mut errors = Vec::new();
        for (key, mod_rev, location) in places {
            match log.read(location) {
                Ok(stored) => {
                    assert_eq!(stored.key(), key, "another record is at {location}");
                    let value = Some(stored.value().to_vec());
                    let versions = index.keys.entry(key).or_default();
                    versions.insert(mod_rev, (value, location));
                }
                Err(error) => errors.push(error),
            }
        }
        index.rows.retain(|_, bytes| !bytes.is_empty());
        for dead in index.compact(index.compacted) {
            log.reader().note_dead(dead);
        }
        let applied = opened.mark.applied.index.0;
        Ok((
            Self {
                log,
                opened,
                index,
                revision,
                applied,
            },
            errors,
        ))
    }

    /// Puts a key at the next revision.
    pub fn put(&mut self, key: &str, value: &[u8]) -> Location {
        self.revision += 1;
        let mod_rev = Revision {
            main: self.revision,
            sub: 0,
        };
        let (key, version) = (key.as_bytes(), 1);
        let create = self.revision;
        let lease = -3;
        let record = Record::Put {
            key,
            value,
            create,
            mod_rev,
            version,
            lease,
        };
        let location = self.log.append(&record);
        let versions = self.index.keys.entry(key.to_vec()).or_default();
        versions.insert(mod_rev, (Some(value.to_vec()), location));
        location
    }

    /// Deletes a key at the next revision.
    pub fn delete(&mut self, key: &str) {
        self.revision += 1;
        let mod_rev = Revision {
            main: self.revision,
            sub: 0,
        };
        let location = self.log.append(&Record::Delete {
            key: key.as_bytes(),
            mod_rev,
        });
        let versions = self.index.keys.entry(key.into()).or_default();
        versions.insert(mod_rev, (None, location));
    }

    /// Writes an opaque row; empty bytes remove it.
    pub fn row(&mut self, kind: MetaKind, key: &str, bytes: &[u8]) {
        self.log.append(&Record::Meta {
            kind,
            key: key.as_bytes(),
            bytes,
        });
        let id = (kind, key.as_bytes().to_vec());
        match bytes.is_empty() {
            true => self.index.rows.remove(&id),
            false => self.index.rows.insert(id, bytes.to_vec()),
        };
    }

    /// Compacts the index up to a revision.
    pub fn compact(&mut self, revision: u64) {
        self.log.append(&Record::Compaction { revision });
        for dead in self.index.compact(revision) {
            self.log.reader().note_dead(dead);
        }
    }

    /// Ends the batch at the next log index.
    pub fn mark(&mut self) {
        self.applied += 1;
        self.log.mark(at(self.applied));
    }

    /// Makes everything up to the last mark durable.
    pub fn flush(&self) -> Result<(), Error> {
        self.log.allow_durable(LogIndex(self.applied));
        while self.log.flush_step()? == Flushed::Worked {}
        Ok(())
    }

    /// One step of a compactor.
    pub fn compactor_step(&mut self, compactor: &mut Compactor) -> Result<Compacted, Error> {
        let compacted = self.index.compacted;
        let keys = RefCell::new(&mut self.index.keys);
        let mut index = KeyIndex {
            compacted,
            is_live: &|key, rev| {
                keys.borrow()
                    .get(key)
                    .is_some_and(|versions| versions.contains_key(&rev))
            },
            relocate: &mut |moved| {
                let mut keys = keys.borrow_mut();
                let versions = keys.get_mut(moved.key);
                let version = versions.and_then(|versions| versions.get_mut(&moved.mod_rev));
                let version = version.filter(|version| version.1 == moved.from);
                version.map(|version| version.1 = moved.to).is_some()
            },
        };
        compactor.step(300, &mut index)
    }

    /// Rewrites until there is nothing left to rewrite.
    pub fn compact_fully(&mut self) -> Result<(), Error> {
        let mut compactor = self.log.compactor();
        for _ in 0..10_000 {
            match self.compactor_step(&mut compactor)? {
                Compacted::Idle => return Ok(()),
                Compacted::Waiting => self.flush()?,
                Compacted::Worked => {}
            }
        }
        panic!("compaction does not come to an end");
    }

    /// Reads every value through its location and compares it.
    pub fn check_values(&self) {
        for (key, versions) in &self.index.keys {
            for (rev, (value, location)) in versions {
                let stored = self.log.read(*location).expect("a live record is readable");
                assert_eq!(stored.key(), *key, "{rev} at {location}");
                assert_eq!(stored.value(), value.clone().unwrap_or_default(), "{rev}");
            }
        }
    }
}

/// A log of several segments with every kind of record, wholly durable.
pub fn filled(disk: &TestDisk) -> Machine {
    let mut machine = Machine::open(disk).unwrap();
    machine.row(MetaKind::Membership, "1", b"three members");
    machine.mark();
    for round in 0..12u8 {
        machine.put(
            &format!("key-{}", round % 5),
            &vec![round; 40 + usize::from(round)],
        );
        if round % 4 == 3 {
            machine.delete(&format!("key-{}", round % 3));
            machine.row(MetaKind::Lease, &format!("{}", round % 8), &[round; 9]);
        }
        if round == 7 {
            machine.compact(4);
        }
        machine.mark();
        if round % 3 == 0 {
            machine.flush().unwrap();
        }
    }
    machine.flush().unwrap();
    machine
}
