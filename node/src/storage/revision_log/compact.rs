//! Compaction: rewriting sealed segments without the records that nobody needs any more.
//!
//! A run of neighbouring segments becomes one new segment in their place, so that the order of
//! history stays. The new segment is written and synced, the manifest is swapped, locations are
//! moved in the key index, and the old files go when no reader's pin is left. Work is done in steps
//! of a byte budget, which the caller paces; nothing else waits for it.
//!
//! Three traps, and what keeps out of each:
//! - *What is dropped must be obsolete durably.* The index may know of a compaction, or of a newer
//!   row, that a crash would undo. So the swap waits until every compaction appended so far is
//!   durable, and a row goes only when its successor is durable.
//! - *A tombstone outlives what it hides.* Dropped while an older put of the key is still in an
//!   earlier segment, it would bring the key back at the next start. So it goes only when every
//!   earlier segment is free of what a compaction at its revision made obsolete (`compacted_at`).
//! - *A location may be looked up just before it moves.* Readers pin first and look up then;
//!   segments retired since a pin was taken stay readable until it is dropped.
//!
//! Must not know: which versions are obsolete (the predicate does), how fast to go.

use super::choose::{Choice, choose};
use super::error::Error;
use super::manifest::Listed;
use super::record::{Location, Recovered, Revision};
use super::recover;
use super::rewrite::{Output, Run};
use super::seal::{self, Opened};
use super::segment::{self, HEADER_BYTES, Segment};
use super::shared::Shared;
use crate::env::OpenMode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// There is nothing worth rewriting.
    Idle,
    /// Something was done; there is more.
    Worked,
    /// Something must become durable first: try again after the flusher has worked.
    Waiting,
}

/// A version of a key that stands elsewhere now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The version.
    pub mod_rev: Revision,
    /// Where it stood.
    pub from: Location,
    /// Where it stands.
    pub to: Location,
}

/// What the key index tells and is told.
pub struct KeyIndex<'a> {
    /// The index holds nothing any more that a compaction at this revision made obsolete.
    pub compacted: u64,
    /// Whether the index still holds this version of the key.
    pub is_live: &'a dyn Fn(&[u8], Revision) -> bool,
    /// Moves a location; false when the index does not hold the version any more.
    pub relocate: &'a mut dyn FnMut(&Moved<'_>) -> bool,
}

/// Rewrites segments, step by step. One per log.
pub struct Compactor {
    shared: Arc<Shared>,
    run: Option<Run>,
}

impl Compactor {
    /// A compactor of the log behind `shared`.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, run: None }
    }

    /// Does about `budget_bytes` of work.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a segment to be rewritten is damaged. [`Error::Aborted`] when the
    /// new segment could not be written, for lack of space perhaps: nothing has changed, and a
    /// later step starts over. Fatal ones when the manifest could not be replaced.
    pub fn step(
        &mut self,
        budget_bytes: u64,
        index: &mut KeyIndex<'_>,
    ) -> Result<Compacted, Error> {
        self.shared.check()?;
        self.reclaim()?;
        let Some(run) = &mut self.run else {
            return self.begin(index);
        };
        if !run.is_read() {
            let copied = run.copy(&self.shared, budget_bytes, index);
            return copied
                .map(|()| Compacted::Worked)
                .map_err(|error| self.abort(error));
        }
        {
            // Whatever the predicate has known, it was appended by now.
            let progress = self.shared.progress.lock();
            if progress.synced_compaction < progress.appended_compaction {
                return Ok(Compacted::Waiting);
            }
        }
        let run = self
            .run
            .take()
            .expect("a run is there, it was looked at above");
        self.finish(run, index)
            .inspect_err(|error| self.shared.note_failure(error))?;
        Ok(Compacted::Worked)
    }

    /// Removes retired segments that no pin needs any more.
    fn reclaim(&self) -> Result<(), Error> {
        let mut gone = Vec::new();
        {
            let mut view = self.shared.view.write();
            // In order of retirement: a pin of an older epoch needs the later ones too.
            while view
                .retired
                .front()
                .is_some_and(|(epoch, _)| Arc::strong_count(epoch) == 1)
            {
                let (_, ids) = view.retired.pop_front().expect("it was looked at above");
                gone.extend(ids.iter().filter_map(|id| view.segments.remove(id)));
            }
        }
        for segment in gone {
            self.shared.handles.close(segment.id);
            let removed = self.shared.disk.remove(&segment.path);
            // A file that stays is no harm: it is not listed, and the next start removes it.
            removed.map_err(|e| aborted(Error::write("remove", &segment.path)(e)))?;
        }
        Ok(())
    }

    /// Chooses what to rewrite.
    fn begin(&mut self, index: &KeyIndex<'_>) -> Result<Compacted, Error> {
        let manifest = self.shared.manifest.lock().clone();
        let range = match choose(&self.shared, &manifest, index.compacted) {
            Choice::Nothing => return Ok(Compacted::Idle),
            Choice::Rewrite(range) => range,
            Choice::Check(at) => {
                let listed = manifest.segments[at];
                if self.is_free_of_dead(&listed, index)? {
                    self.note_compacted_at(&listed, index.compacted);
                    return Ok(Compacted::Worked);
                }
                at..at + 1
            }
        };
        let floor = manifest.segments[..range.start]
            .iter()
            .map(|s| s.compacted_at)
            .min();
        let id = self.shared.allocate_segment();
        let nonce = segment::nonce(self.shared.options.identity, id);
        let path = segment::path(&self.shared.dir, id);
        let file = segment::create(self.shared.disk.as_ref(), &path, id, nonce).map_err(aborted)?;
        let inputs = manifest.segments[range].to_vec();
        let floor = floor.unwrap_or(u64::MAX).min(index.compacted);
        let output = Output::new(file, path, id, nonce);
        self.run = Some(Run::new(inputs, floor, index.compacted, output));
        Ok(Compacted::Worked)
    }

    /// Whether a segment holds no version that the index has dropped.
    fn is_free_of_dead(&self, listed: &Listed, index: &KeyIndex<'_>) -> Result<bool, Error> {
        let path = segment::path(&self.shared.dir, listed.id);
        let disk = self.shared.disk.as_ref();
        let file = recover::open_listed(disk, &path, listed, OpenMode::ReadOnly)?;
        let opened = Opened {
            file: file.as_ref(),
            path: &path,
            id: listed.id,
            nonce: listed.nonce,
        };
        let trailer = segment::read_trailer(file.as_ref(), &path, listed.nonce, listed.len)?;
        let trailer = trailer.ok_or_else(|| opened.corrupt(listed.len, "trailer"))?;
        let mut free = true;
        seal::visit_index(&opened, &trailer, &mut |found, _| {
            // A tombstone that the index dropped brings nothing back to life.
            if let Recovered::Put { key, mod_rev, .. } = found {
                free = free && (index.is_live)(key, mod_rev);
            }
        })?;
        Ok(free)
    }

    /// Notes that a segment holds nothing that a compaction made obsolete. Durable with the next
    /// manifest; lost before, it is found again.
    fn note_compacted_at(&self, listed: &Listed, compacted: u64) {
        let mut manifest = self.shared.manifest.lock();
        if let Some(entry) = manifest
            .segments
            .iter_mut()
            .find(|s| s.nonce == listed.nonce)
        {
            entry.compacted_at = entry.compacted_at.max(compacted);
        }
    }

    /// Gives the run up; nothing has changed. Damage stays damage, the rest may be tried again.
    fn abort(&mut self, error: Error) -> Error {
        if let Some(run) = self.run.take() {
            // What cannot be removed now is removed at the next start.
            let _ = self.shared.disk.remove(&run.output.path);
        }
        if error.is_corrupt() {
            error
        } else {
            aborted(error)
        }
    }

    /// Puts the new segment in the place of the old ones.
    fn finish(&mut self, mut run: Run, index: &mut KeyIndex<'_>) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let (id, nonce) = (run.output.id, run.output.nonce);
        let sealed = run.seal(&shared).map_err(|error| {
            let _ = shared.disk.remove(&run.output.path);
            if error.is_corrupt() {
                error
            } else {
                aborted(error)
            }
        })?;
        {
            let mut manifest = shared.manifest.lock();
            let first = manifest
                .segments
                .iter()
                .position(|s| s.nonce == run.inputs[0].nonce);
            let first = first.expect("only the compactor takes segments out of the manifest");
            let range = first..first + run.inputs.len();
            // The mark is not missed when something durable follows.
            let is_followed = range.end < manifest.sealed().len()
                || shared.synced_bytes(manifest.active().id) > HEADER_BYTES;
            let keep = !run.keeps_nothing() || !is_followed;
            let listed = Listed {
                id,
                nonce,
                len: sealed,
                compacted_at: run.compacted,
            };
            manifest.segments.splice(range, keep.then_some(listed));
            manifest.next_segment = shared.next_segment.load(Ordering::Acquire);
            if keep {
                let segment = Arc::new(Segment::new(&shared.dir, id, nonce, sealed));
                shared.view.write().segments.insert(id, segment);
            }
            manifest.write(shared.disk.as_ref(), &shared.dir)?;
            if !keep {
                shared
                    .disk
                    .remove(&run.output.path)
                    .map_err(Error::write("remove", "segment"))?;
            }
        }
        if !run.keeps_nothing() {
            run.relocate(&shared, sealed, index)?;
        }
        run.forget_rows(&shared);
        let mut view = shared.view.write();
        let ids: Vec<u32> = run.inputs.iter().map(|listed| listed.id).collect();
        ids.iter()
            .filter_map(|id| view.segments.get(id))
            .for_each(|segment| segment.retire());
        let epoch = std::mem::replace(&mut view.epoch, Arc::new(()));
        view.retired.push_back((epoch, ids));
        Ok(())
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            // What cannot be removed now is removed at the next start.
            let _ = self.shared.disk.remove(&run.output.path);
        }
    }
}

/// For errors before the manifest is touched: nothing has changed.
fn aborted(error: Error) -> Error {
    Error::Aborted {
        cause: error.to_string(),
    }
}
