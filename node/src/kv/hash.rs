//! The hash of everything stored up to a revision (etcd's HashKV), for comparing members.
//!
//! Equal revision and compacted revision give equal hashes, however far each member's background
//! compaction has come: a version below the compaction counts only if that keeps it.

use super::error::Error;
use super::index::{Entry, Version, Want};
use super::range;
use super::state::{CHUNK_ENTRIES, Shared};
use super::types::Revision;
use crate::storage::revision_log::Pin;
use std::ops::ControlFlow;

/// The answer to HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the stored versions.
    pub hash: u32,
    /// Up to which revision.
    pub hash_revision: Revision,
    /// The compacted revision it was computed with; -1 if never compacted.
    pub compact_revision: Revision,
    /// The store's revision, for the response header.
    pub revision: Revision,
}

/// Hashes all versions up to `wanted` (0: the newest revision).
pub(super) fn hash_kv(shared: &Shared, wanted: i64) -> Result<HashKv, Error> {
    let pin = shared.log.pin();
    let (revision, current, compacted, _kept) = {
        let state = shared.state.read();
        let revision = state.resolve(wanted)?;
        // What is hashed is what a compaction at `compacted` keeps, so that must not go.
        let kept = shared.pin(&state, state.compacted);
        (revision, state.revision, state.compacted, kept)
    };
    let mut hash = 0;
    let mut from = Some(Vec::new());
    while let Some(start) = from.take() {
        let mut versions = Vec::new();
        let mut keys = Vec::new();
        shared.state.read().index.visit(&start, Want::All, |entry| {
            if versions.len() >= CHUNK_ENTRIES {
                from = Some(entry.key().to_vec());
                return ControlFlow::Break(());
            }
            let before = versions.len();
            versions.extend(counted(entry, revision, compacted));
            keys.push((entry.key().to_vec(), versions.len() - before));
            ControlFlow::Continue(())
        });
        let mut versions = versions.into_iter();
        for (key, count) in keys {
            for version in versions.by_ref().take(count) {
                hash = fold(hash, &key, &version, &pin)?;
            }
        }
    }
    Ok(HashKv {
        hash,
        hash_revision: Revision(revision),
        compact_revision: Revision(compacted),
        revision: Revision(current),
    })
}

/// The versions of a key that count.
fn counted(entry: &Entry, revision: i64, compacted: i64) -> impl Iterator<Item = Version> {
    let next = entry
        .versions()
        .skip(1)
        .map(|version| version.main)
        .chain([i64::MAX]);
    entry
        .versions()
        .zip(next)
        .filter(move |(version, next)| {
            version.main <= revision
                && (version.main > compacted || *next > compacted && !version.is_deletion())
        })
        .map(|(version, _)| *version)
}

fn fold(hash: u32, key: &[u8], version: &Version, pin: &Pin) -> Result<u32, Error> {
    let (value, lease) = if version.is_deletion() {
        Default::default()
    } else {
        range::read(pin, version)?
    };
    let mut hash = hash;
    for number in [
        key.len() as u64,
        value.len() as u64,
        version.main.cast_unsigned(),
        version.sub.into(),
        version.create.cast_unsigned(),
        version.version.cast_unsigned(),
        lease.0.cast_unsigned(),
    ] {
        hash = crc32c::crc32c_append(hash, &number.to_le_bytes());
    }
    hash = crc32c::crc32c_append(hash, key);
    Ok(crc32c::crc32c_append(hash, &value))
}
