//! Term and vote, together in one record, twice on disk (W5, A2).
//!
//! The two slots are written one after the other, each synced; what depends on the value leaves
//! after both. So one bad slot is always safe: either the other holds the same generation, or
//! nothing relied on the bad one yet. Which slots may be trusted is decided by a table in
//! [`super::recovery`].

use super::codec::Cursor;
use super::error::{Error, IoContext};
use crate::env::{Disk, File, OpenMode, read_full};
use quorate_raft::{HardState, MemberId, Term};

/// Name of the file inside the log's directory.
pub(crate) const SLOTS_FILE: &str = "vote";
const SLOTS_TEMPORARY: &str = "vote.new";
/// The slots lie in different blocks.
const SLOT_STRIDE: u64 = 4096;
const SLOT_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"QRT-VOT1";

/// One slot's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Grows with every change.
    pub generation: u64,
    /// Term and vote.
    pub hard_state: HardState,
}

/// What the file holds: the two slots, `None` where one is damaged.
pub(crate) type SlotPair = [Option<Slot>; 2];

/// The file and what it holds.
pub(crate) type SlotsRead = (Box<dyn File>, SlotPair);

/// The open file, with both slots equal to `current`.
pub(crate) struct Slots {
    file: Box<dyn File>,
    path: String,
    log_id: [u8; 16],
    current: Slot,
}

impl Slots {
    /// Creates the file with term 0 and no vote; durable on return.
    pub(crate) fn create(disk: &dyn Disk, dir: &str, log_id: [u8; 16]) -> Result<Self, Error> {
        let temporary = format!("{dir}/{SLOTS_TEMPORARY}");
        let path = format!("{dir}/{SLOTS_FILE}");
        let shown = || disk.display(&path);
        let file = disk
            .open(&temporary, OpenMode::OpenOrCreate)
            .context("create", shown)?;
        let first = Slot {
            generation: 1,
            hard_state: HardState::default(),
        };
        let slots = Self {
            file,
            path: disk.display(&path),
            log_id,
            current: first,
        };
        slots.write(0, &first)?;
        slots.write(1, &first)?;
        slots.file.sync_all().context("sync", shown)?;
        disk.rename(&temporary, &path).context("rename", shown)?;
        disk.sync_dir(dir).context("sync", || disk.display(dir))?;
        Ok(slots)
    }

    /// Reads both slots from the device; `None` when there is no file.
    pub(crate) fn read(
        disk: &dyn Disk,
        dir: &str,
        log_id: Option<[u8; 16]>,
        mode: OpenMode,
    ) -> Result<Option<SlotsRead>, Error> {
        let path = format!("{dir}/{SLOTS_FILE}");
        let shown = || disk.display(&path);
        if !disk.exists(&path).context("look for", shown)? {
            return Ok(None);
        }
        let file = disk.open(&path, mode).context("open", shown)?;
        if mode == OpenMode::Existing {
            file.sync().context("sync", shown)?;
        }
        file.drop_cache(0, 0).context("read", shown)?;
        let mut pair = [None, None];
        for (number, slot) in pair.iter_mut().enumerate() {
            let mut bytes = [0; SLOT_BYTES];
            // A slot that cannot be read is a damaged slot: the other one decides.
            if read_full(&*file, &mut bytes, number as u64 * SLOT_STRIDE).is_ok() {
                *slot = decode(&bytes, log_id);
            }
        }
        Ok(Some((file, pair)))
    }

    /// Takes over an existing file and makes both slots equal to the newer good one.
    pub(crate) fn adopt(
        file: Box<dyn File>,
        path: String,
        log_id: [u8; 16],
        pair: SlotPair,
    ) -> Result<Self, Error> {
        let newest = newest(pair).expect("the recovery table adopts slots only when one is good");
        let slots = Self {
            file,
            path,
            log_id,
            current: newest,
        };
        for (number, slot) in pair.iter().enumerate() {
            if *slot != Some(newest) {
                slots.write(number, &newest)?;
                slots.sync()?;
            }
        }
        Ok(slots)
    }

    /// What is durable.
    pub(crate) const fn hard_state(&self) -> HardState {
        self.current.hard_state
    }

    /// Makes a new value durable in both slots. Any error is fatal (A3).
    pub(crate) fn save(&mut self, hard_state: HardState, planted: u32) -> Result<(), Error> {
        assert!(
            hard_state.term >= self.current.hard_state.term,
            "term must not go back from {} to {}",
            self.current.hard_state.term,
            hard_state.term
        );
        if planted == 2 {
            // Planted bug 2: first the vote, beside the old term; the new term in a later write.
            self.put(HardState {
                term: self.current.hard_state.term,
                vote: hard_state.vote,
            })?;
        }
        self.put(hard_state)
    }

    fn put(&mut self, hard_state: HardState) -> Result<(), Error> {
        let slot = Slot {
            generation: self.current.generation + 1,
            hard_state,
        };
        for number in 0..2 {
            self.write(number, &slot)?;
            self.sync()?;
        }
        self.current = slot;
        Ok(())
    }

    fn write(&self, number: usize, slot: &Slot) -> Result<(), Error> {
        let bytes = encode(slot, &self.log_id);
        let offset = number as u64 * SLOT_STRIDE;
        self.file
            .write_all_at(&bytes, offset)
            .context("write", || self.path.clone())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync().context("sync", || self.path.clone())
    }
}

/// The good slot of the highest generation.
pub(crate) fn newest(pair: SlotPair) -> Option<Slot> {
    pair.into_iter()
        .flatten()
        .max_by_key(|slot| slot.generation)
}

fn encode(slot: &Slot, log_id: &[u8; 16]) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(log_id);
    bytes[24..32].copy_from_slice(&slot.generation.to_le_bytes());
    bytes[32..40].copy_from_slice(&slot.hard_state.term.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&slot.hard_state.vote.map_or(0, |id| id.0).to_le_bytes());
    bytes[48] = u8::from(slot.hard_state.vote.is_some());
    let crc = crc32c::crc32c(&bytes[..SLOT_BYTES - 4]);
    bytes[SLOT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES], log_id: Option<[u8; 16]>) -> Option<Slot> {
    let crc = crc32c::crc32c(&bytes[..SLOT_BYTES - 4]);
    if bytes[SLOT_BYTES - 4..] != crc.to_le_bytes() {
        return None;
    }
    let mut cursor = Cursor::new(bytes);
    if cursor.array::<8>().ok()? != MAGIC {
        return None;
    }
    // A slot of another directory is no slot of ours.
    let written_for = cursor.array::<16>().ok()?;
    if log_id.is_some_and(|log_id| log_id != written_for) {
        return None;
    }
    let generation = cursor.u64().ok()?;
    let term = Term(cursor.u64().ok()?);
    let vote = MemberId(cursor.u64().ok()?);
    let vote = (cursor.u8().ok()? == 1).then_some(vote);
    Some(Slot {
        generation,
        hard_state: HardState { term, vote },
    })
}
