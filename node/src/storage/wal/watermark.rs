//! The copy of the watermark outside the segments (W2).
//!
//! Written without a sync: its claim is true whenever it lands. Two places are written in turn, so
//! that an interrupted write leaves the older claim.

use super::record::Position;
use crate::env::{Disk, File, OpenMode, read_full};
use crate::storage::codec::Cursor;
use crate::storage::error::{Error, IoContext};
use std::io::ErrorKind;

/// Name of the file inside the log's directory.
pub(crate) const WATERMARK_FILE: &str = "watermark";
const STRIDE: u64 = 4096;
const RECORD_BYTES: usize = 48;
const MAGIC: [u8; 8] = *b"QRT-MRK1";

/// The open file.
pub(crate) struct WatermarkCopy {
    file: Box<dyn File>,
    path: String,
    log_id: [u8; 16],
    turn: u64,
}

impl WatermarkCopy {
    /// Opens or creates the file; its name becomes durable with the directory.
    pub(crate) fn open(disk: &dyn Disk, dir: &str, log_id: [u8; 16]) -> Result<Self, Error> {
        let path = format!("{dir}/{WATERMARK_FILE}");
        let shown = disk.display(&path);
        let file = disk
            .open(&path, OpenMode::OpenOrCreate)
            .context("open", || shown.clone())?;
        Ok(Self {
            file,
            path: shown,
            log_id,
            turn: 0,
        })
    }

    /// Notes that everything before `synced` is synced.
    pub(crate) fn write(&mut self, synced: Position) -> Result<(), Error> {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.log_id);
        bytes[24..28].copy_from_slice(&synced.segment.to_le_bytes());
        bytes[28..32].copy_from_slice(&synced.offset.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..RECORD_BYTES - 4]);
        bytes[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        let offset = self.turn * STRIDE;
        self.turn = 1 - self.turn;
        self.file
            .write_all_at(&bytes, offset)
            .context("write", || self.path.clone())
    }
}

/// The highest claim in the file; `None` without a good one, which proves nothing.
///
/// # Errors
/// [`Error::Io`] for a directory in its place: the file could not be written later.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &str,
    log_id: &[u8; 16],
) -> Result<Option<Position>, Error> {
    let path = format!("{dir}/{WATERMARK_FILE}");
    let Ok(file) = disk.open(&path, OpenMode::ReadOnly) else {
        return Ok(None);
    };
    let mut claim = None;
    for turn in 0..2 {
        let mut bytes = [0; RECORD_BYTES];
        match read_full(&*file, &mut bytes, turn * STRIDE) {
            Ok(_) => claim = claim.max(decode(&bytes, log_id)),
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                return Err(Error::io("read", disk.display(&path), error));
            }
            // What cannot be read claims nothing.
            Err(_) => {}
        }
    }
    Ok(claim)
}

fn decode(bytes: &[u8; RECORD_BYTES], log_id: &[u8; 16]) -> Option<Position> {
    if bytes[RECORD_BYTES - 4..] != crc32c::crc32c(&bytes[..RECORD_BYTES - 4]).to_le_bytes() {
        return None;
    }
    let mut cursor = Cursor::new(bytes);
    if cursor.array::<8>().ok()? != MAGIC || cursor.array::<16>().ok()? != *log_id {
        return None;
    }
    Some(Position {
        segment: cursor.u32().ok()?,
        offset: cursor.u32().ok()?,
    })
}
