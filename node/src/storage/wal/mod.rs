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

pub use fold::DamagedRange;
pub use open::Recovered;
pub use record::{PAYLOAD_BYTES_MAX, Position};

pub(crate) use open::{Found, load};

use super::codec::{self, LEAVE_CONTEXT_BYTES_MAX, MEMBERSHIP_IDS_MAX};
use super::error::{Error, IoContext};
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
    /// Length of a segment file, at least [`SEGMENT_BYTES_MIN`]; a longer record gets a longer file.
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
        open::open(disk, dir, options)
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

    /// Makes sure that a batch fits: checks its sizes, and allocates what it needs beyond the
    /// current segment. Fails before anything is written (W9).
    fn reserve(&mut self, batch: &[Persist]) -> Result<(), Error> {
        let header = self.next_header_bytes(batch);
        let mut room = self.room();
        let mut wanted = Vec::new();
        let mut take = |bytes: usize| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            if bytes > room {
                let capacity = self.options.segment_bytes.max(segment_for(bytes, header));
                wanted.push(capacity);
                room = capacity - SEAL_BYTES - header as u32;
            }
            room -= bytes;
        };
        for persist in batch {
            // A cut, in case one is needed.
            take(record_bytes(0));
            for entry in &persist.entries {
                take(record_bytes(checked_payload_bytes(entry)?));
            }
        }
        // A mark, or the record that the caller has in mind.
        take(record_bytes(0));
        if wanted.is_empty() {
            Ok(())
        } else {
            self.files.provide(&wanted)
        }
    }

    /// The most that the header of a segment begun during this batch can take.
    fn next_header_bytes(&self, batch: &[Persist]) -> usize {
        let entries = batch.iter().flat_map(|persist| &persist.entries);
        let new = entries.filter_map(|entry| match &entry.payload {
            Payload::Membership { membership, .. } => Some(codec::membership_bytes(membership)),
            Payload::Empty | Payload::Command(_) => None,
        });
        segment::header_bytes(new.fold(self.shape.membership_bytes(), usize::max))
    }

    fn put_entries(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let from = first.id.index;
        let last = self.shape.last().index;
        assert!(
            from <= last.next(),
            "entry {} leaves a hole behind {last}",
            first.id
        );
        if from <= last {
            assert!(
                from > self.shape.base().last.index,
                "entry {} is below the base",
                first.id
            );
            self.put(Kind::Cut, at(from.0), |_| {})?;
            self.shape.cut(from);
            for segment in &mut self.segments {
                segment.base_was_cut |= segment.base >= from;
            }
        }
        for entry in entries {
            assert_eq!(
                entry.id.index,
                self.shape.last().index.next(),
                "entries are contiguous"
            );
            let (kind, payload_bytes) = record::entry_shape(entry);
            self.make_room(payload_bytes)?;
            self.put(kind, entry.id, |buf| record::put_entry_payload(buf, entry))?;
            self.shape.push(entry);
            let current = self
                .segments
                .back_mut()
                .expect("a log has a segment to write to");
            current.highest = current.highest.max(entry.id.index);
        }
        self.data_end = self.end;
        Ok(())
    }

    fn put_mark(&mut self) -> Result<(), Error> {
        self.put(Kind::Mark, at(self.commit.0), |_| {})?;
        self.commit_written = self.commit;
        Ok(())
    }

    /// Encodes one record behind the others.
    fn put(
        &mut self,
        kind: Kind,
        id: EntryId,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        // Records with a payload have made room before; the others need none but this.
        self.make_room(0)?;
        let before = self.buf.len();
        self.chain = record::push(
            &mut self.buf,
            &self.stamp,
            self.end.offset,
            self.chain,
            kind,
            id,
            fill,
        );
        self.end.offset += (self.buf.len() - before) as u32;
        Ok(())
    }

    fn make_room(&mut self, payload_bytes: usize) -> Result<(), Error> {
        let bytes = record_bytes(payload_bytes) as u32;
        if bytes <= self.room() {
            return Ok(());
        }
        let base = self.shape.meta();
        let header = segment::header_bytes(codec::membership_bytes(&base.membership));
        self.roll(segment_for(bytes, header), Start::Continues, base)
    }

    /// Fills the block up to its end, so that a mark lands in the next one; unless the segment has
    /// no next one.
    fn pad_to_block(&mut self) -> Result<(), Error> {
        let header = record_bytes(0) as u32;
        let block = BLOCK_BYTES as u32;
        let mut gap = self.end.offset.next_multiple_of(block) - self.end.offset;
        if gap > 0 && gap < header {
            gap += block;
        }
        if gap == 0 || gap + header > self.room() {
            return Ok(());
        }
        let payload = (gap - header) as usize;
        self.put(Kind::Pad, at(0), |buf| buf.resize(buf.len() + payload, 0))
    }

    /// Bytes of records that still fit into the segment, beside its seal.
    const fn room(&self) -> u32 {
        self.capacity - SEAL_BYTES - self.end.offset
    }

    fn write(&mut self) -> Result<(), Error> {
        if self.buf.is_empty() {
            return Ok(());
        }
        let offset = u64::from(self.end.offset) - self.buf.len() as u64;
        self.file
            .write_all_at(&self.buf, offset)
            .context("write", || self.path.clone())?;
        self.buf.clear();
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), Error> {
        self.write()?;
        let mut result = self.file.sync();
        if self.options.planted() == 62 && result.is_err() {
            // Planted bug 62: a failed sync is retried, and the retry is believed.
            result = self.file.sync();
        }
        result.context("sync", || self.path.clone())?;
        self.stamp.synced = self.end;
        Ok(())
    }

    fn write_copy(&mut self) -> Result<(), Error> {
        self.syncs_since_copy = 0;
        self.copy.write(self.stamp.synced)
    }

    /// The segment that the log could begin with, when everything ahead of it may go.
    fn releasable(&self, up_to: LogIndex) -> Option<u32> {
        if self.repairing || self.release.is_some() {
            return None;
        }
        let gone = self
            .segments
            .iter()
            .take_while(|segment| segment.highest <= up_to)
            .count();
        // The log may begin right behind what goes, or earlier, but never with the file of a base
        // that was cut.
        let candidates = self.segments.iter().take(gone + 1).skip(1);
        candidates
            .filter(|segment| !segment.base_was_cut)
            .map(|segment| segment.id)
            .next_back()
    }

    fn drop_released(&mut self) -> Result<(), Error> {
        let Some((oldest, durable_at)) = self.release else {
            return Ok(());
        };
        if durable_at > self.stamp.synced {
            return Ok(());
        }
        self.release = None;
        while let Some(front) = self.segments.front()
            && front.id < oldest
        {
            self.files.recycle(front.id)?;
            self.segments.pop_front();
        }
        if let Some(front) = self.segments.front() {
            self.shape.trim(front.base);
        }
        Ok(())
    }

    /// Goes over to a new segment, in the order of W8: the new one is whole, visible and durable
    /// before the old one is sealed, and takes no record before the seal is synced.
    fn roll(&mut self, at_least: u32, start: Start, base: SnapshotMeta) -> Result<(), Error> {
        self.sync_file()?;
        let next = self.files.next_id();
        let mut seal = Vec::with_capacity(SEAL_BYTES as usize);
        let id = at(u64::from(next));
        let seal_crc = record::push(
            &mut seal,
            &self.stamp,
            self.end.offset,
            self.chain,
            Kind::Seal,
            id,
            |_| {},
        );
        let begun = self.files.begin(
            &self.options,
            at_least,
            segment::SegmentHeader {
                log_id: self.options.log_id,
                id: next,
                capacity: 0,
                incarnation: self.options.incarnation,
                start,
                whole: !self.repairing,
                previous: if start == Start::Continues {
                    seal_crc
                } else {
                    0
                },
                oldest: self.segments.front().map_or(next, |segment| segment.id),
                synced: self.stamp.synced,
                base,
            },
        )?;
        let offset = u64::from(self.end.offset);
        self.file
            .write_all_at(&seal, offset)
            .context("write", || self.path.clone())?;
        self.file.sync().context("sync", || self.path.clone())?;
        self.enter(begun);
        self.write_copy()
    }

    /// Writes to a new segment from now on. Everything before it is synced.
    fn enter(&mut self, begun: files::Begun) {
        assert!(
            self.buf.is_empty(),
            "records of one segment are written before the next begins"
        );
        let files::Begun {
            file,
            path,
            header,
            chain,
        } = begun;
        self.end = Position {
            segment: header.id,
            offset: header.bytes() as u32,
        };
        self.stamp = Stamp {
            seed: seed_for(&self.options, header.id),
            incarnation: self.options.incarnation,
            synced: self.end,
        };
        self.file = file;
        self.path = path;
        self.capacity = header.capacity;
        self.chain = chain;
        self.data_end = self.end;
        self.marked = self.end;
        self.segments.push_back(SegmentState::new(&header));
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
