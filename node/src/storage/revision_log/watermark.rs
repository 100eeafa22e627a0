//! The watermark: a lazy copy of "durable up to here", outside the segments (W2).
//!
//! Written after each sync and never synced itself: the claim is true whenever it lands. Two slots
//! are written in turn, so that a torn one leaves the other.
//! Must not know: what the claim is used for (`recover.rs` tells torn from damaged by it).

use super::error::Error;
use super::frame::{u32_at, u64_at};
use crate::env::{Disk, File, OpenMode, read_full};

/// Bytes of a slot; each lies in a disk block of its own.
const SLOT_BYTES: usize = 32;
/// Distance of the slots.
const SLOT_STEP: u64 = 4096;
/// First bytes of a slot.
const MAGIC: [u8; 4] = *b"QRWM";

/// What is claimed: the nonce of a segment, and how many of its bytes are durable.
pub(super) type Claim = (u64, u64);

/// The newest claim of a log.
pub(super) struct Watermark {
    file: Box<dyn File>,
    path: String,
    generation: u64,
}

impl Watermark {
    /// Opens or creates the file, and answers what it claims: nonce of a segment, and the offset
    /// up to which that segment was durable.
    pub fn open(disk: &dyn Disk, dir: &str) -> Result<(Self, Option<Claim>), Error> {
        let path = format!("{dir}/WATERMARK");
        let file = disk
            .open(&path, OpenMode::OpenOrCreate)
            .map_err(Error::write("open", &path))?;
        let newest = read_newest(file.as_ref(), &path)?;
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((
            Self {
                file,
                path,
                generation,
            },
            newest.map(|(_, claim)| claim),
        ))
    }

    /// Claims that `end` bytes of the segment with this nonce are durable, which must be so.
    pub fn claim(&mut self, nonce: u64, end: u64) -> Result<(), Error> {
        self.generation += 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..4].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&self.generation.to_le_bytes());
        slot[16..24].copy_from_slice(&nonce.to_le_bytes());
        slot[24..].copy_from_slice(&end.to_le_bytes());
        let crc = crc32c::crc32c(&slot);
        slot[4..8].copy_from_slice(&crc.to_le_bytes());
        let at = self.generation % 2 * SLOT_STEP;
        self.file
            .write_all_at(&slot, at)
            .map_err(Error::write("write", &self.path))
    }
}

/// The claim of an existing file, for inspection.
pub(super) fn read(disk: &dyn Disk, dir: &str) -> Result<Option<Claim>, Error> {
    let path = format!("{dir}/WATERMARK");
    if !disk.exists(&path).map_err(Error::read(&path))? {
        return Ok(None);
    }
    let file = disk
        .open(&path, OpenMode::ReadOnly)
        .map_err(Error::read(&path))?;
    Ok(read_newest(file.as_ref(), &path)?.map(|(_, claim)| claim))
}

/// The whole slot with the highest generation.
fn read_newest(file: &dyn File, path: &str) -> Result<Option<(u64, Claim)>, Error> {
    let mut newest = None;
    for at in [0, SLOT_STEP] {
        let mut slot = [0; SLOT_BYTES];
        let read = read_full(file, &mut slot, at).map_err(Error::read(path))?;
        let crc = u32_at(&slot, 4);
        slot[4..8].fill(0);
        if read == SLOT_BYTES && slot[..4] == MAGIC && crc32c::crc32c(&slot) == crc {
            newest = newest.max(Some((
                u64_at(&slot, 8),
                (u64_at(&slot, 16), u64_at(&slot, 24)),
            )));
        }
    }
    Ok(newest)
}
