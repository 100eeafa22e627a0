//! The flusher: makes the memory tail durable, in the background and in order.
//!
//! It writes whole apply batches, up to the mark that the owner allows: never ahead of the local
//! WAL (W10). One sync serves all batches that wait. A failed write or sync is final (W6): the
//! error is remembered, and nothing is written any more.
//! Must not know: what is in a batch, what the WAL is.

use super::error::Error;
use super::manifest::Listed;
use super::seal::{self, Opened};
use super::shared::{MarkPoint, Progress, Shared};
use super::watermark::Watermark;
use super::{Flushed, segment};
use crate::env::File;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The segment being written.
pub(super) struct Flush {
    /// Its file.
    pub file: Box<dyn File>,
    /// Its number.
    pub id: u32,
    /// Its identity.
    pub nonce: u64,
    /// Bytes written and synced.
    pub written: u64,
    /// The claim of what is durable.
    pub watermark: Watermark,
}

/// Writes and syncs what may be written, once.
pub(super) fn step(shared: &Shared) -> Result<Flushed, Error> {
    let mut flush = shared.flush.lock();
    shared.check()?;
    let result = flush.step(shared);
    if let Err(error) = &result {
        shared.note_failure(error);
    }
    result
}

/// The background thread: steps until it is told to stop, and then until nothing is left.
pub(super) fn run(shared: &Shared) {
    loop {
        let stop = wait_for_work(shared);
        match step(shared) {
            Ok(Flushed::Worked) => {}
            Ok(Flushed::Idle) if stop => return,
            Ok(Flushed::Idle) => {}
            // The owner sees it by `failure`; the process stops.
            Err(_) => return,
        }
    }
}

/// Waits until something may be written, and then a little longer so that one sync serves more;
/// answers whether to stop.
fn wait_for_work(shared: &Shared) -> bool {
    let mut progress = shared.progress.lock();
    while !progress.stop && !progress.has_due() {
        progress.idle = true;
        shared.wake.wait(&mut progress);
    }
    progress.idle = false;
    let delay = Duration::from_millis(shared.options.flush_delay_ms);
    if !progress.stop && !progress.hurry {
        shared.wake.wait_for(&mut progress, delay);
    }
    progress.hurry = false;
    progress.stop
}

impl Progress {
    /// Whether a mark may be made durable.
    fn has_due(&self) -> bool {
        self.marks
            .front()
            .is_some_and(|mark| mark.said.applied.index <= self.allowed)
    }

    /// The last mark of `segment` that may be made durable.
    fn due(&self, segment: u32) -> Option<MarkPoint> {
        let of_segment = self.marks.iter().take_while(|mark| mark.segment == segment);
        of_segment
            .take_while(|mark| mark.said.applied.index <= self.allowed)
            .last()
            .copied()
    }
}

impl Flush {
    fn step(&mut self, shared: &Shared) -> Result<Flushed, Error> {
        let Some(mark) = shared.progress.lock().due(self.id) else {
            return Ok(Flushed::Idle);
        };
        self.write_up_to(shared, &mark)?;
        self.note_synced(shared, &mark)?;
        if let Some(next) = mark.next {
            self.roll(shared, mark.end, next)?;
        }
        Ok(Flushed::Worked)
    }

    /// Writes everything up to a mark and syncs it.
    fn write_up_to(&mut self, shared: &Shared, mark: &MarkPoint) -> Result<(), Error> {
        let path = segment::path(&shared.dir, self.id);
        let chunks = shared
            .view
            .write()
            .tail
            .share(self.id, self.written, mark.end);
        for chunk in chunks {
            assert!(
                chunk.start == self.written,
                "the tail has a gap at {}",
                self.written
            );
            let write = self.file.write_all_at(&chunk.bytes, chunk.start);
            write.map_err(Error::write("write", &path))?;
            self.written = chunk.end();
        }
        assert!(
            self.written == mark.end,
            "the tail ends before its mark at {}",
            mark.end
        );
        self.file.sync().map_err(Error::write("sync", &path))
    }

    /// Tells everybody that a mark is durable.
    fn note_synced(&mut self, shared: &Shared, mark: &MarkPoint) -> Result<(), Error> {
        {
            let mut view = shared.view.write();
            let segment = &view.segments[&self.id];
            segment.len.store(mark.end, Ordering::Release);
            segment.synced.store(mark.end, Ordering::Release);
            view.tail.release(self.id, mark.end);
        }
        {
            let mut progress = shared.progress.lock();
            let at = (mark.segment, mark.end);
            while progress
                .marks
                .front()
                .is_some_and(|m| (m.segment, m.end) <= at)
            {
                progress.marks.pop_front();
            }
            progress.synced = mark.said;
            progress.synced_compaction = mark.compacted;
        }
        self.watermark.claim(self.nonce, mark.end)
    }

    /// Seals the segment, which ends at `data_end`, and goes on in `next`. A crash at any point
    /// leaves the sealed segment last in the manifest, or the new one.
    fn roll(&mut self, shared: &Shared, data_end: u64, next: u32) -> Result<(), Error> {
        let disk = shared.disk.as_ref();
        let path = segment::path(&shared.dir, self.id);
        let opened = Opened {
            file: self.file.as_ref(),
            path: &path,
            id: self.id,
            nonce: self.nonce,
        };
        let (_, len) = seal::seal(&opened, data_end)?;
        let nonce = segment::nonce(shared.options.identity, next);
        let new_path = segment::path(&shared.dir, next);
        let file = segment::create(disk, &new_path, next, nonce)?;
        disk.sync_dir(&shared.dir)
            .map_err(Error::write("sync", &shared.dir))?;
        {
            let mut manifest = shared.manifest.lock();
            let sealed = manifest
                .segments
                .last_mut()
                .expect("the active segment is listed");
            assert!(
                sealed.id == self.id,
                "the manifest ends with segment {}",
                sealed.id
            );
            sealed.len = len;
            manifest.segments.push(Listed {
                id: next,
                nonce,
                len: 0,
                compacted_at: 0,
            });
            manifest.next_segment = shared.next_segment.load(Ordering::Acquire);
            manifest.write(disk, &shared.dir)?;
        }
        shared.view.read().segments[&self.id]
            .len
            .store(len, Ordering::Release);
        (self.file, self.id, self.nonce) = (file, next, nonce);
        self.written = segment::HEADER_BYTES;
        Ok(())
    }
}
