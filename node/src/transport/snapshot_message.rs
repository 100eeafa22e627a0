//! What is said on a connection that carries a snapshot.
//!
//! Must not know: what a chunk holds.

use super::frame::put_frame;
use super::message::{kind, unknown};
use super::raft_codec;
use super::wire::{DecodeError, Put, Take};
use quorate_raft::{LogIndex, SnapshotMeta, Term};
use std::sync::Arc;

/// One message of a snapshot connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// The sender describes what it has.
    Offer {
        /// The leader's term; a transfer of an older term is refused (D5).
        term: Term,
        /// What the snapshot contains.
        meta: SnapshotMeta,
        /// The state machine's own description of the snapshot; opaque here.
        manifest: Arc<[u8]>,
    },
    /// The receiver lists the chunks it lacks, as (first, count); an empty list ends the sending.
    Wanted {
        /// Ranges of chunk numbers, ascending.
        ranges: Vec<(u32, u32)>,
    },
    /// One chunk.
    Chunk {
        /// The snapshot's name.
        snapshot: u64,
        /// Which chunk.
        number: u32,
        /// The bytes, in the state machine's own wrapping.
        bytes: Arc<[u8]>,
    },
    /// From the sender: all that was wanted has been sent. From the receiver: installed up to
    /// `last`; 0 when it was refused.
    End {
        /// Last index contained.
        last: LogIndex,
    },
}

/// Most ranges in one [`SnapshotMessage::Wanted`]; the rest is wanted next time.
pub const WANTED_RANGES_MAX: usize = 4096;

impl SnapshotMessage {
    /// Appends the message as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Offer {
                term,
                meta,
                manifest,
            } => put_frame(out, kind::SNAPSHOT_OFFER, |to| {
                to.put_u64(term.0);
                raft_codec::put_snapshot_meta(meta, to);
                to.put_bytes(manifest);
            }),
            Self::Wanted { ranges } => put_frame(out, kind::SNAPSHOT_WANTED, |to| {
                to.put_len(ranges.len());
                for (first, count) in ranges {
                    to.put_u32(*first);
                    to.put_u32(*count);
                }
            }),
            Self::Chunk {
                snapshot,
                number,
                bytes,
            } => put_frame(out, kind::SNAPSHOT_CHUNK, |to| {
                to.put_u64(*snapshot);
                to.put_u32(*number);
                to.put_bytes(bytes);
            }),
            Self::End { last } => put_frame(out, kind::SNAPSHOT_END, |to| to.put_u64(last.0)),
        }
    }

    /// Reads the body of a frame of a snapshot connection.
    ///
    /// # Errors
    /// [`DecodeError`]; also for kinds that do not belong there.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let mut take = Take(body);
        let message = match kind {
            kind::SNAPSHOT_OFFER => Self::Offer {
                term: Term(take.u64("term")?),
                meta: raft_codec::snapshot_meta(&mut take)?,
                manifest: take.shared("manifest")?,
            },
            kind::SNAPSHOT_WANTED => {
                let count = take.count(8, "number of ranges")?;
                let range = |_| Ok((take.u32("first")?, take.u32("count")?));
                Self::Wanted {
                    ranges: (0..count).map(range).collect::<Result<_, _>>()?,
                }
            }
            kind::SNAPSHOT_CHUNK => Self::Chunk {
                snapshot: take.u64("snapshot")?,
                number: take.u32("number")?,
                bytes: take.shared("chunk")?,
            },
            kind::SNAPSHOT_END => Self::End {
                last: LogIndex(take.u64("last")?),
            },
            other => return Err(unknown("frame kind", other)),
        };
        take.finish()?;
        Ok(message)
    }
}
