//! How the log writes: room before anything is put, records into one buffer, one write, segments
//! one after the other (W8).
//!
//! Everything here may leave the log half-way when the device fails; [`Wal::guarded`] then ends it
//! for good. Must not know: who waits for what.

use super::Position;
use super::files;
use super::record::{self, Kind, record_bytes};
use super::segment::{self, BLOCK_BYTES, Start};
use super::{
    SEAL_BYTES, SegmentState, Stamp, Wal, at, checked_payload_bytes, seed_for, segment_for,
};
use crate::storage::codec;
use crate::storage::error::{Error, IoContext};
use quorate_raft::{Entry, EntryId, LogIndex, Payload, Persist, SnapshotMeta};

impl Wal {
    /// Makes sure that a batch fits: checks its sizes, and allocates what it needs beyond the
    /// current segment. Fails before anything is written (W9).
    pub(super) fn reserve(&mut self, batch: &[Persist]) -> Result<(), Error> {
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
    pub(super) fn next_header_bytes(&self, batch: &[Persist]) -> usize {
        let entries = batch.iter().flat_map(|persist| &persist.entries);
        let new = entries.filter_map(|entry| match &entry.payload {
            Payload::Membership { membership, .. } => Some(codec::membership_bytes(membership)),
            Payload::Empty | Payload::Command(_) => None,
        });
        segment::header_bytes(new.fold(self.shape.membership_bytes(), usize::max))
    }

    pub(super) fn put_entries(&mut self, entries: &[Entry]) -> Result<(), Error> {
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

    pub(super) fn put_mark(&mut self) -> Result<(), Error> {
        self.put(Kind::Mark, at(self.commit.0), |_| {})?;
        self.commit_written = self.commit;
        Ok(())
    }

    /// Encodes one record behind the others.
    pub(super) fn put(
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

    pub(super) fn make_room(&mut self, payload_bytes: usize) -> Result<(), Error> {
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
    pub(super) fn pad_to_block(&mut self) -> Result<(), Error> {
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
    pub(super) const fn room(&self) -> u32 {
        self.capacity - SEAL_BYTES - self.end.offset
    }

    pub(super) fn write(&mut self) -> Result<(), Error> {
        if self.buf.is_empty() {
            return Ok(());
        }
        let offset = u64::from(self.end.offset) - self.buf.len() as u64;
        self.file
            .write_all_at(&self.buf, offset)
            .context("write", || self.path.clone())?;
        self.written_bytes += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    pub(super) fn sync_file(&mut self) -> Result<(), Error> {
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

    pub(super) fn write_copy(&mut self) -> Result<(), Error> {
        self.syncs_since_copy = 0;
        self.copy.write(self.stamp.synced)
    }

    /// The segment that the log could begin with, when everything ahead of it may go.
    pub(super) fn releasable(&self, up_to: LogIndex) -> Option<u32> {
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

    pub(super) fn drop_released(&mut self) -> Result<(), Error> {
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
    pub(super) fn roll(
        &mut self,
        at_least: u32,
        start: Start,
        base: SnapshotMeta,
    ) -> Result<(), Error> {
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
    pub(super) fn enter(&mut self, begun: files::Begun) {
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
