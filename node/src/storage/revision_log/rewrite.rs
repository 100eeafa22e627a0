//! One rewrite: a run of sealed segments is copied, record by record, into a new one.
//!
//! What is dropped, what is kept for what it hides, and why, is in `compact.rs`.
//! Must not know: why these segments, what becomes of the old ones.

use super::compact::{KeyIndex, Moved};
use super::error::Error;
use super::frame::{self, Header, Kind};
use super::manifest::Listed;
use super::record::{AppliedMark, Location, MetaKind, Record, Recovered};
use super::recover::{self, Batch};
use super::scan::{Scanner, Step};
use super::seal::{self, Opened};
use super::segment::{self, HEADER_BYTES};
use super::shared::{Row, Shared};
use crate::env::{File, OpenMode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Output is written in pieces of this size.
const WRITE_BYTES: usize = 1 << 20;

/// Segments being rewritten.
pub(super) struct Run {
    /// What is rewritten, as listed.
    pub inputs: Vec<Listed>,
    /// Which of them is being read, and from where.
    reading: (usize, u64),
    /// Tombstones up to this revision may go: everything earlier is free of what they hide.
    floor: u64,
    /// The compaction that this run carries out at least.
    pub compacted: u64,
    /// The new segment.
    pub output: Output,
    /// Where each kept record stood, in the order of the new segment.
    kept: Vec<Kept>,
    /// How many records of which rows were left out.
    dropped: BTreeMap<(MetaKind, Box<[u8]>), u32>,
    /// The last mark of the inputs.
    mark: Option<AppliedMark>,
}

/// A record that was copied.
#[derive(Clone, Copy)]
struct Kept {
    from: Location,
    /// Kept only for what it hides: the index does not know it.
    hides: bool,
}

/// The segment being written.
pub(super) struct Output {
    file: Box<dyn File>,
    /// Its file.
    pub path: String,
    /// Its number.
    pub id: u32,
    /// Its identity.
    pub nonce: u64,
    /// Offset of the next frame.
    end: u64,
    /// Frames not yet written, which end at `end`.
    buffer: Vec<u8>,
    batch: Batch,
}

impl Run {
    /// A run that has not begun to read.
    pub fn new(inputs: Vec<Listed>, floor: u64, compacted: u64, output: Output) -> Self {
        let (reading, mark) = ((0, HEADER_BYTES), None);
        let (kept, dropped) = (Vec::new(), BTreeMap::new());
        Self {
            inputs,
            reading,
            floor,
            compacted,
            output,
            kept,
            dropped,
            mark,
        }
    }

    /// Whether all inputs are read.
    pub fn is_read(&self) -> bool {
        self.reading.0 == self.inputs.len()
    }

    /// Whether no record was worth keeping.
    pub fn keeps_nothing(&self) -> bool {
        self.kept.is_empty()
    }

    /// Copies what is to be kept, about `budget_bytes` of input.
    pub fn copy(
        &mut self,
        shared: &Shared,
        budget_bytes: u64,
        index: &KeyIndex<'_>,
    ) -> Result<(), Error> {
        let (at, from) = self.reading;
        let listed = self.inputs[at];
        let path = segment::path(&shared.dir, listed.id);
        let file = recover::open_listed(shared.disk.as_ref(), &path, &listed, OpenMode::ReadOnly)?;
        let opened = Opened {
            file: file.as_ref(),
            path: &path,
            id: listed.id,
            nonce: listed.nonce,
        };
        let trailer = segment::read_trailer(file.as_ref(), &path, listed.nonce, listed.len)?
            .ok_or_else(|| opened.corrupt(listed.len - segment::TRAILER_BYTES, "trailer"))?;
        let mut scanner = Scanner::new(file.as_ref(), &path, listed.nonce, from, trailer.data_end);
        while scanner.position() - from < budget_bytes {
            let position = scanner.position();
            match scanner.next()? {
                Step::End => {
                    self.reading = (at + 1, HEADER_BYTES);
                    return self.output.write(WRITE_BYTES);
                }
                Step::Bad { what } => return Err(opened.corrupt(position, what)),
                Step::Frame {
                    offset,
                    header,
                    bytes,
                } => {
                    let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
                    let len = u32::try_from(bytes.len()).expect("frames are below 4 GiB");
                    let from = Location::new(listed.id, offset, len);
                    self.take(shared, &header, body, from, index)
                        .ok_or_else(|| opened.corrupt(offset, "body of a record"))?;
                }
            }
            self.output.write(WRITE_BYTES)?;
        }
        self.reading = (at, scanner.position());
        Ok(())
    }

    /// Keeps or drops one record. `None` when its body is not what its kind promises.
    fn take(
        &mut self,
        shared: &Shared,
        header: &Header,
        body: &[u8],
        from: Location,
        index: &KeyIndex<'_>,
    ) -> Option<()> {
        if header.kind == Kind::Mark {
            self.mark = Some(frame::decode_mark(body)?.said);
            return Some(());
        }
        let record = frame::decode_record(header, body)?;
        let keep = match record {
            Record::Put { key, mod_rev, .. } => (index.is_live)(key, mod_rev).then_some(false),
            Record::Delete { key, mod_rev } => match (index.is_live)(key, mod_rev) {
                true => Some(false),
                false => (mod_rev.main > self.floor).then_some(true),
            },
            // An older one says less.
            Record::Compaction { revision } => {
                (revision >= shared.progress.lock().synced_compaction).then_some(true)
            }
            Record::Meta { kind, key, .. } => self.keep_row(shared, kind, key, from),
        };
        if let Some(hides) = keep {
            self.output.push(&record);
            self.kept.push(Kept { from, hides });
        }
        Some(())
    }

    /// Whether to keep a record of an opaque row, and whether only for what it hides.
    fn keep_row(
        &mut self,
        shared: &Shared,
        kind: MetaKind,
        key: &[u8],
        at: Location,
    ) -> Option<bool> {
        let id = (kind, Box::<[u8]>::from(key));
        let row = *shared
            .rows
            .lock()
            .get(&id)
            .expect("open and append note every row");
        if row.newest != at {
            // A crash must not take the newer one when the older one is gone already.
            if !shared.is_synced(row.newest) {
                return Some(false);
            }
        } else if !row.gone {
            return Some(false);
        } else if row.copies > 1 + self.dropped.get(&id).copied().unwrap_or(0) {
            return Some(true);
        }
        *self.dropped.entry(id).or_insert(0) += 1;
        None
    }

    /// Ends the new segment and makes it durable. Answers its length.
    pub fn seal(&mut self, shared: &Shared) -> Result<u64, Error> {
        let output = &mut self.output;
        if let Some(mark) = self.mark {
            output.push_mark(mark);
        }
        output.write(1)?;
        let Output {
            file,
            path,
            id,
            nonce,
            end,
            ..
        } = output;
        let opened = Opened {
            file: file.as_ref(),
            path,
            id: *id,
            nonce: *nonce,
        };
        let (_, len) = seal::seal(&opened, *end)?;
        shared
            .disk
            .sync_dir(&shared.dir)
            .map_err(Error::write("sync", &shared.dir))?;
        Ok(len)
    }

    /// Tells the key index and the rows where everything stands now.
    pub fn relocate(
        &self,
        shared: &Shared,
        len: u64,
        index: &mut KeyIndex<'_>,
    ) -> Result<(), Error> {
        let Output {
            file,
            path,
            id,
            nonce,
            ..
        } = &self.output;
        let segment = Arc::clone(&shared.view.read().segments[id]);
        let opened = Opened {
            file: file.as_ref(),
            path,
            id: *id,
            nonce: *nonce,
        };
        let trailer = segment::read_trailer(file.as_ref(), path, *nonce, len)?
            .ok_or_else(|| opened.corrupt(len - segment::TRAILER_BYTES, "trailer"))?;
        let mut kept = self.kept.iter();
        seal::visit_index(&opened, &trailer, &mut |found, to| {
            let Kept { from, hides } = *kept.next().expect("the index has an entry per record");
            let bytes = u64::from(to.disk_bytes());
            let is_needed = match found {
                Recovered::Delete { mod_rev, .. } if hides => {
                    // One beyond `compacted` cannot be freed by the floor: it is not counted.
                    if mod_rev.main <= self.compacted {
                        segment.hiding.fetch_add(bytes, Ordering::Relaxed);
                    }
                    true
                }
                Recovered::Put { key, mod_rev, .. } | Recovered::Delete { key, mod_rev, .. } => {
                    (index.relocate)(&Moved {
                        key,
                        mod_rev,
                        from,
                        to,
                    })
                }
                Recovered::Meta { kind, key, .. } => move_row(shared, kind, key, from, to),
                Recovered::Compaction { .. } => true,
            };
            if !is_needed {
                segment.dead.fetch_add(bytes, Ordering::Relaxed);
            }
        })
    }

    /// Forgets the records of rows that were left out.
    pub fn forget_rows(&mut self, shared: &Shared) {
        let mut rows = shared.rows.lock();
        for (id, dropped) in std::mem::take(&mut self.dropped) {
            if let Some(row) = rows.get_mut(&id) {
                row.copies -= dropped;
                let Row {
                    copies,
                    gone,
                    newest,
                } = *row;
                if copies == 0 {
                    rows.remove(&id);
                } else if copies == 1 && gone {
                    // It hides nothing any more.
                    shared.note_dead(newest);
                }
            }
        }
    }
}

/// Moves the newest record of a row; false when a newer one has come.
fn move_row(shared: &Shared, kind: MetaKind, key: &[u8], from: Location, to: Location) -> bool {
    let mut rows = shared.rows.lock();
    let row = rows
        .get_mut(&(kind, Box::from(key)))
        .filter(|row| row.newest == from);
    row.map(|row| row.newest = to).is_some()
}

impl Output {
    /// A new segment whose header is written.
    pub fn new(file: Box<dyn File>, path: String, id: u32, nonce: u64) -> Self {
        let (buffer, batch) = (Vec::new(), Batch::default());
        Self {
            file,
            path,
            id,
            nonce,
            end: HEADER_BYTES,
            buffer,
            batch,
        }
    }

    /// Appends a record.
    fn push(&mut self, record: &Record<'_>) {
        let before = self.buffer.len();
        let crc = frame::encode_record(&mut self.buffer, self.nonce, self.end, record);
        self.batch.add(crc);
        self.end += (self.buffer.len() - before) as u64;
    }

    /// Ends the records with the last mark of the inputs.
    fn push_mark(&mut self, said: AppliedMark) {
        let Batch {
            records,
            crc: batch_crc,
        } = self.batch;
        let mark = frame::Mark {
            said,
            synced: 0,
            records,
            batch_crc,
        };
        let before = self.buffer.len();
        frame::encode_mark(&mut self.buffer, self.nonce, self.end, &mark);
        self.end += (self.buffer.len() - before) as u64;
    }

    /// Writes what is gathered, if it is at least `bytes_min`.
    fn write(&mut self, bytes_min: usize) -> Result<(), Error> {
        if self.buffer.len() >= bytes_min {
            let at = self.end - self.buffer.len() as u64;
            let write = self.file.write_all_at(&self.buffer, at);
            write.map_err(Error::write("write", &self.path))?;
            self.buffer.clear();
        }
        Ok(())
    }
}
