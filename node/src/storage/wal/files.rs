//! The segment files of a log: begun, recycled, kept in reserve (W8, W9).
//!
//! A file in reserve is fully allocated and holds zeros or an older life's records, which never
//! validate again. It gets its header before it gets its name, so that a visible segment is whole.

use super::WalOptions;
use super::segment::{self, SegmentHeader};
use crate::env::{Disk, File, OpenMode};
use crate::storage::error::{Error, IoContext};
use std::io::ErrorKind;
use std::sync::Arc;

/// Files kept in reserve; beyond it they are removed.
const SPARES_MAX: usize = 4;
const SPARE_PREFIX: &str = "spare-";
const TEMPORARY: &str = "spare.new";

/// A new segment, durable and visible, without records.
pub(crate) struct Begun {
    /// Its file.
    pub file: Box<dyn File>,
    /// For messages.
    pub path: String,
    /// Its header, with the capacity filled in.
    pub header: SegmentHeader,
    /// The header's checksum, where its chain begins.
    pub chain: u32,
}

struct Spare {
    number: u32,
    bytes: u64,
}

/// The directory of a log.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    dir: String,
    spares: Vec<Spare>,
    next_spare: u32,
    next_id: u32,
    standard_bytes: u64,
}

impl Files {
    /// Takes over a directory with these names in it; the next segment will be `next_id`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &str,
        names: &[String],
        next_id: u32,
        standard_bytes: u32,
    ) -> Result<Self, Error> {
        let mut files = Self {
            disk,
            dir: dir.to_owned(),
            spares: Vec::new(),
            next_spare: 1,
            next_id,
            standard_bytes: u64::from(standard_bytes),
        };
        for number in names.iter().filter_map(|name| parse_spare(name)) {
            let path = files.path(&spare_name(number));
            let bytes = files
                .disk
                .open(&path, OpenMode::Existing)
                .and_then(|file| file.len())
                .context("open", || files.disk.display(&path))?;
            files.next_spare = files.next_spare.max(number.saturating_add(1));
            files.spares.push(Spare { number, bytes });
        }
        Ok(files)
    }

    /// The number of the next segment.
    pub(crate) const fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Has files of at least these lengths in reserve, all of them at once.
    pub(crate) fn provide(&mut self, wanted: &[u32]) -> Result<(), Error> {
        let mut free: Vec<u64> = self.spares.iter().map(|spare| spare.bytes).collect();
        for &bytes in wanted {
            let bytes = u64::from(bytes);
            let fitting = free.iter().enumerate().filter(|(_, have)| **have >= bytes);
            if let Some((found, _)) = fitting.min_by_key(|(_, have)| **have) {
                free.swap_remove(found);
            } else {
                self.allocate(bytes)?;
            }
        }
        Ok(())
    }

    /// Allocates one more file in reserve. Without room nothing has changed.
    fn allocate(&mut self, bytes: u64) -> Result<(), Error> {
        let temporary = self.path(TEMPORARY);
        let shown = || self.disk.display(&temporary);
        let file = self
            .disk
            .open(&temporary, OpenMode::OpenOrCreate)
            .context("create", shown)?;
        let allocated = file.set_len(0).and_then(|()| file.allocate_zeroed(bytes));
        if let Err(error) = allocated {
            let full = matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            );
            if !full {
                return Err(Error::io("allocate", shown(), error));
            }
            // The file has no name that anything looks for: failing to remove it costs only room,
            // and the next attempt starts it over.
            drop(file);
            let _ = self.disk.remove(&temporary);
            return Err(Error::NoSpace {
                path: self.disk.display(&self.dir),
                bytes,
            });
        }
        file.sync_all().context("sync", shown)?;
        drop(file);
        let number = self.next_spare;
        self.rename(TEMPORARY, &spare_name(number))?;
        self.next_spare += 1;
        self.spares.push(Spare { number, bytes });
        Ok(())
    }

    /// Makes the next segment out of a file in reserve. On return it is durable and visible.
    /// Having no room here is fatal: callers make sure of it before they write anything.
    pub(crate) fn begin(
        &mut self,
        options: &WalOptions,
        at_least: u32,
        mut header: SegmentHeader,
    ) -> Result<Begun, Error> {
        assert_eq!(
            header.id, self.next_id,
            "segments are numbered without holes"
        );
        let wanted = at_least.max(options.segment_bytes);
        self.provide(&[wanted]).map_err(|error| match error {
            Error::NoSpace { path, .. } => {
                Error::io("allocate a segment in", path, ErrorKind::StorageFull.into())
            }
            other => other,
        })?;
        let spare = self.take(wanted);
        header.capacity = u32::try_from(spare.bytes).expect("spares are taken by a 32-bit length");
        let name = spare_name(spare.number);
        let path = self.path(&name);
        let shown = || self.disk.display(&path);
        let file = self
            .disk
            .open(&path, OpenMode::Existing)
            .context("open", shown)?;
        let (block, chain) = header.encode();
        file.write_all_at(&block, 0).context("write", shown)?;
        file.sync_all().context("sync", shown)?;
        let named = segment::file_name(header.id);
        self.rename(&name, &named)?;
        // Planted bug 66: the new name is not made durable.
        if options.planted() != 66 {
            self.disk
                .sync_dir(&self.dir)
                .context("sync", || self.disk.display(&self.dir))?;
        }
        self.next_id += 1;
        let path = self.disk.display(&self.path(&named));
        Ok(Begun {
            file,
            path,
            header,
            chain,
        })
    }

    fn take(&mut self, wanted: u32) -> Spare {
        let fits =
            |spare: &Spare| spare.bytes >= u64::from(wanted) && u32::try_from(spare.bytes).is_ok();
        let fitting = self
            .spares
            .iter()
            .enumerate()
            .filter(|(_, spare)| fits(spare));
        let (found, _) = fitting
            .min_by_key(|(_, spare)| (spare.bytes, spare.number))
            .expect("a fitting file was provided right before");
        self.spares.swap_remove(found)
    }

    /// Puts a segment's file into reserve, or removes it. The name need not be durable: a segment
    /// that reappears after a crash is older than the log says it is.
    pub(crate) fn recycle(&mut self, id: u32) -> Result<(), Error> {
        let name = segment::file_name(id);
        let path = self.path(&name);
        let shown = || self.disk.display(&path);
        if !self.disk.exists(&path).context("look for", shown)? {
            return Ok(());
        }
        let bytes = self
            .disk
            .open(&path, OpenMode::Existing)
            .and_then(|file| file.len())
            .context("open", shown)?;
        if self.spares.len() >= SPARES_MAX || bytes != self.standard_bytes {
            return self.disk.remove(&path).context("remove", shown);
        }
        let number = self.next_spare;
        self.rename(&name, &spare_name(number))?;
        self.next_spare += 1;
        self.spares.push(Spare { number, bytes });
        Ok(())
    }

    /// Path of a file in this directory.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let from = self.path(from);
        self.disk
            .rename(&from, &self.path(to))
            .context("rename", || self.disk.display(&from))
    }
}

fn spare_name(number: u32) -> String {
    format!("{SPARE_PREFIX}{number:08x}")
}

fn parse_spare(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix(SPARE_PREFIX)?, 16).ok()
}
