//! The write-ahead log: the durable Raft log with term and vote (`docs/on-disk-format.md`).
//!
//! [`Wal::append`] encodes a batch into one buffer and writes it once; [`Wal::sync`] makes all that
//! was appended durable. The two are different operations, so that one sync serves many batches.
//! Rules W1-W10 of the correctness reference; which file keeps which is in their comments.
//! Assumes one owner that calls from one thread, and that the incarnation grows at every start.
//! Must not know: what commands mean, which entries are committed (it carries a hint), the network.
//! Caveat: any error for which [`Error::is_fatal`] holds ends the log; it takes nothing more (W6).

mod files;
mod fold;
mod open;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod segment;
mod shape;
pub(crate) mod survey;
#[cfg(test)]
mod tests;
mod watermark;
mod write;

pub use fold::DamagedRange;
pub use open::{Examined, Recovered};
pub use record::{PAYLOAD_BYTES_MAX, Position};

pub(crate) use open::{Found, load};

use super::codec::{self, LEAVE_CONTEXT_BYTES_MAX, MEMBERSHIP_IDS_MAX};
use super::error::Error;
use super::slots::Slots;
use crate::env::{Disk, File};
use files::Files;
use fold::SegmentState;
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, Membership, Payload, Persist, SnapshotMeta,
};
use record::{Kind, Seed, Stamp, record_bytes};
use segment::{BLOCK_BYTES, Start};
use shape::LogShape;
use std::collections::VecDeque;
use std::sync::Arc;
use watermark::WatermarkCopy;

/// Default length of a segment file.
pub const SEGMENT_BYTES: u32 = 16 << 20;
/// Smallest length of a segment file: a header and one block.
pub const SEGMENT_BYTES_MIN: u32 = 8192;
/// A busy log writes its commit hint and the copy of its watermark about this often; an idle one
/// at once.
const HINT_EVERY: u64 = 1024;
const COPY_EVERY_SYNCS: u32 = 64;
/// Every segment keeps room for its seal.
const SEAL_BYTES: u32 = record_bytes(0) as u32;

/// How a log is kept. Start from [`WalOptions::new`].
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Which log this is: the data directory's ID. Bytes of another one never validate.
    pub log_id: [u8; 16],
    /// Which start of the member this is; must be above that of all earlier starts (W7).
    pub incarnation: u64,
    /// Whether this directory has been a member's: then a log must be there, and none is created.
    pub was_member: bool,
    /// Length of a segment file, at least [`SEGMENT_BYTES_MIN`]; a longer record gets a longer
    /// file.
    pub segment_bytes: u32,
    /// Number of the planted bug to run with, 0 for none. Only in builds that test the tester.
    #[cfg(planted)]
    pub planted: u32,
}

impl WalOptions {
    /// Default sizes.
    #[must_use]
    pub const fn new(log_id: [u8; 16], incarnation: u64) -> Self {
        Self {
            log_id,
            incarnation,
            was_member: false,
            segment_bytes: SEGMENT_BYTES,
            #[cfg(planted)]
            planted: 0,
        }
    }

    #[cfg(planted)]
    const fn planted(&self) -> u32 {
        self.planted
    }

    #[cfg(not(planted))]
    #[expect(
        clippy::unused_self,
        reason = "planted builds have a field to answer with"
    )]
    const fn planted(&self) -> u32 {
        0
    }
}

/// The open log.
pub struct Wal {
    options: WalOptions,
    files: Files,
    slots: Slots,
    copy: WatermarkCopy,
    /// The segment being written.
    file: Box<dyn File>,
    path: String,
    capacity: u32,
    stamp: Stamp,
    /// Checksum of the last record encoded.
    chain: u32,
    /// Where the next record goes; what lies before it in `buf` is not yet written.
    end: Position,
    buf: Vec<u8>,
    /// Bytes of records handed to the disk since the log was opened.
    written_bytes: u64,
    /// End of the last record that matters; marks do not.
    data_end: Position,
    /// The watermark that the last mark carries.
    marked: Position,
    syncs_since_copy: u32,
    /// All segments, oldest first; the last one is being written.
    segments: VecDeque<SegmentState>,
    /// Segments below this number go once the record that says so is durable.
    release: Option<(u32, Position)>,
    shape: LogShape,
    commit: LogIndex,
    commit_written: LogIndex,
    repairing: bool,
    stopped: bool,
}

impl Wal {
    /// Opens the log in `dir`, or creates it when there is none and there never was; judges what
    /// is there, repairs a torn end, and answers what was found. Everything recovered is durable.
    ///
    /// # Errors
    /// A refusal ([`Error::LostPromise`], [`Error::Foreign`]), before anything was changed. Fatal
    /// errors of the device. [`Error::NoSpace`] when the first segment finds no room.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        options: WalOptions,
    ) -> Result<(Self, Recovered), Error> {
        Self::examine(disk, dir, options)?.go_on()
    }

    /// Reads and judges the log in `dir` and changes nothing, so that the verdict may be refused;
    /// [`Examined::go_on`] opens it. What an earlier process left in the page cache is synced.
    ///
    /// # Errors
    /// As [`Wal::open`], except for want of space.
    pub fn examine(disk: Arc<dyn Disk>, dir: &str, options: WalOptions) -> Result<Examined, Error> {
        open::examine(disk, dir, options)
    }

    /// Writes a batch behind the log: hard state first (two slots, each synced; only the newest of
    /// the batch), then cuts and entries with one write. Not durable before [`Wal::sync`].
    ///
    /// # Errors
    /// [`Error::NoSpace`] and [`Error::TooLarge`]: nothing was written, the same batch may be tried
    /// again. Anything else is fatal.
    ///
    /// # Panics
    /// When entries do not continue the log: writing them would break it.
    pub fn append(&mut self, batch: &[Persist]) -> Result<Position, Error> {
        self.guarded(|wal| {
            wal.reserve(batch)?;
            let hard_state = batch.iter().rev().find_map(|persist| persist.hard_state);
            if let Some(hard_state) = hard_state {
                wal.slots.save(hard_state, wal.options.planted())?;
            }
            for persist in batch {
                wal.put_entries(&persist.entries)?;
            }
            if wal.commit.0 >= wal.commit_written.0 + HINT_EVERY {
                wal.put_mark()?;
            }
            wal.write()?;
            Ok(wal.end)
        })
    }

    /// Makes everything appended durable, with one `fdatasync`; answers up to where.
    ///
    /// # Errors
    /// Always fatal (W6): a failed sync is never retried.
    pub fn sync(&mut self) -> Result<Position, Error> {
        self.guarded(|wal| {
            wal.sync_file()?;
            wal.syncs_since_copy += 1;
            if wal.syncs_since_copy >= COPY_EVERY_SYNCS {
                wal.write_copy()?;
            }
            wal.drop_released()?;
            Ok(wal.stamp.synced)
        })
    }

    /// To be called after a sync when nothing is queued behind it: writes a mark that says what is
    /// synced (W2), in another block than what it covers, and the copy outside the segments.
    /// Nothing waits for it; it is synced with whatever comes next.
    ///
    /// # Errors
    /// Always fatal.
    pub fn note_idle(&mut self) -> Result<(), Error> {
        self.guarded(|wal| {
            let synced = wal.stamp.synced;
            if synced < wal.data_end || wal.marked >= wal.data_end {
                return Ok(());
            }
            wal.write_copy()?;
            wal.pad_to_block()?;
            // A full segment needs no mark: the next header carries the watermark.
            if wal.room() >= record_bytes(0) as u32 {
                wal.put_mark()?;
                wal.write()?;
            }
            wal.marked = synced;
            Ok(())
        })
    }

    /// Remembers a commit index, for a faster start. Written lazily, with later records.
    pub fn note_commit(&mut self, commit: LogIndex) {
        self.commit = self.commit.max(commit);
    }

    /// After a snapshot was installed (its data being durable): the log restarts behind it, unless
    /// it holds the snapshot's last entry; then it stays as it is. Durable on return.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::TooLarge`] for a membership beyond
    /// [`MEMBERSHIP_IDS_MAX`]. Anything else is fatal.
    pub fn save_base(&mut self, meta: &SnapshotMeta) -> Result<(), Error> {
        check_membership(&meta.membership)?;
        self.guarded(|wal| {
            if wal.shape.contains(meta.last) {
                return wal.sync_file();
            }
            let header = segment::header_bytes(codec::membership_bytes(&meta.membership));
            let bytes = segment_for(0, header);
            wal.files.provide(&[wal.options.segment_bytes.max(bytes)])?;
            wal.roll(bytes, Start::Reset, meta.clone())?;
            wal.shape = LogShape::new(meta.clone());
            for segment in &mut wal.segments {
                segment.highest = LogIndex(0);
            }
            Ok(())
        })
    }

    /// Gives back the segments that hold nothing above `up_to`: entries up to there must be applied
    /// and synced by the state machine, or contained in an installed snapshot. The files are
    /// recycled after the next sync. While the log is under repair, nothing is released.
    ///
    /// # Errors
    /// Always fatal.
    pub fn release(&mut self, up_to: LogIndex) -> Result<(), Error> {
        self.guarded(|wal| {
            let Some(oldest) = wal.releasable(up_to) else {
                return Ok(());
            };
            if wal.room() < record_bytes(0) as u32 {
                // The segment is full; the next one takes the record.
                return Ok(());
            }
            wal.put(Kind::Release, at(u64::from(oldest)), |_| {})?;
            wal.write()?;
            wal.data_end = wal.end;
            wal.release = Some((oldest, wal.end));
            Ok(())
        })
    }

    /// Ends a repair: the leader has filled or overwritten every entry in doubt, and the log is
    /// whole up to its commit index. Durable on return; only then may this member vote again.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. Anything else is fatal.
    pub fn repaired(&mut self) -> Result<(), Error> {
        self.guarded(|wal| {
            if !wal.repairing {
                return Ok(());
            }
            wal.reserve(&[])?;
            wal.put(Kind::Repaired, at(0), |_| {})?;
            wal.write()?;
            wal.data_end = wal.end;
            wal.sync_file()?;
            wal.repairing = false;
            Ok(())
        })
    }

    /// Allocates the next segment ahead of need, when there is none in reserve. Takes as long as
    /// writing its zeros; to be called when there is nothing else to do.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. Anything else is fatal.
    pub fn prepare(&mut self) -> Result<(), Error> {
        self.guarded(|wal| wal.files.provide(&[wal.options.segment_bytes]))
    }

    /// Up to where everything is durable.
    #[must_use]
    pub const fn synced(&self) -> Position {
        self.stamp.synced
    }

    /// Where the next record goes.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.end
    }

    /// Term and vote, as durable.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.slots.hard_state()
    }

    /// The last entry appended, or the base of an empty log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.shape.last()
    }

    /// Whether entries are in doubt: no vote, no acknowledgement before [`Wal::repaired`].
    #[must_use]
    pub const fn is_repairing(&self) -> bool {
        self.repairing
    }

    /// How many segments the log has, without those in reserve.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of records handed to the disk since the log was opened; for metrics.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Runs one operation; a fatal error ends the log for good.
    fn guarded<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        let result = operation(self);
        if let Err(error) = &result {
            self.stopped = error.is_fatal();
        }
        result
    }
}

/// The seed that this start of the member writes with.
fn seed_for(options: &WalOptions, segment: u32) -> Seed {
    // Planted bug 65: the segment's number is left out, so that older lives of a file validate.
    let segment = if options.planted() == 65 { 0 } else { segment };
    Seed::new(&options.log_id, segment, options.incarnation)
}

/// The ID of a record that is no entry.
const fn at(index: u64) -> EntryId {
    EntryId {
        term: quorate_raft::Term(0),
        index: LogIndex(index),
    }
}

/// Length of a file that holds one record of this size besides its header and seal.
const fn segment_for(bytes: u32, header: usize) -> u32 {
    let bytes = header as u32 + bytes + SEAL_BYTES;
    // Room for the small record that may precede it.
    (bytes + record_bytes(0) as u32).next_multiple_of(BLOCK_BYTES as u32)
}

fn checked_payload_bytes(entry: &Entry) -> Result<usize, Error> {
    if let Payload::Membership { membership, .. } = &entry.payload {
        check_membership(membership)?;
    }
    let (_, bytes) = record::entry_shape(entry);
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "an entry",
            bytes,
            bytes_max: PAYLOAD_BYTES_MAX,
        });
    }
    Ok(bytes)
}

fn check_membership(membership: &Membership) -> Result<(), Error> {
    let ids = codec::membership_ids(membership);
    if ids > MEMBERSHIP_IDS_MAX {
        let (bytes, bytes_max) = (8 * ids, 8 * MEMBERSHIP_IDS_MAX);
        return Err(Error::TooLarge {
            what: "a membership",
            bytes,
            bytes_max,
        });
    }
    let (bytes, bytes_max) = (membership.leave_context.len(), LEAVE_CONTEXT_BYTES_MAX);
    if bytes > bytes_max {
        return Err(Error::TooLarge {
            what: "the context of a membership",
            bytes,
            bytes_max,
        });
    }
    Ok(())
}
