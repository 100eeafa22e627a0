//! An open file of the simulated disk, and what happens to its sectors.
//!
//! A write is pending until a sync; a crash keeps, loses or tears each pending sector on its own.

use super::{Fault, Inode, SECTOR_BYTES, SimDisk, State, failed, sector_range};
use crate::tape::Tape;
use quorate_node::env::File;
use std::io::{self, ErrorKind};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

impl Inode {
    pub(super) fn mark_dirty(&mut self, offset: usize, count: usize) {
        if count > 0 {
            let sectors = offset / SECTOR_BYTES..=(offset + count - 1) / SECTOR_BYTES;
            self.dirty.extend(sectors.clone());
            for sector in sectors {
                self.unreadable.remove(&sector);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.pending.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, self.pending.len());
            self.durable[range.clone()].copy_from_slice(&self.pending[range]);
        }
    }

    /// The pages count as clean now, and hold either content.
    pub(super) fn fail_sync(&mut self, rng: &mut Tape) {
        self.durable.resize(self.pending.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            if rng.below(2) == 0 {
                let range = sector_range(sector, self.pending.len());
                self.pending[range.clone()].copy_from_slice(&self.durable[range]);
            }
        }
    }

    pub(super) fn drop_clean(&mut self) {
        for sector in 0..self.pending.len().div_ceil(SECTOR_BYTES) {
            let range = sector_range(sector, self.pending.len());
            if !self.dirty.contains(&sector) && range.end <= self.durable.len() {
                self.pending[range.clone()].copy_from_slice(&self.durable[range]);
            }
        }
    }

    pub(super) fn crash(&mut self, rng: &mut Tape) {
        let mut after = self.durable.clone();
        // The length is metadata: it may land without the data, and the data without it.
        if self.pending.len() != self.durable.len() && rng.below(2) == 0 {
            after.resize(self.pending.len(), 0);
        }
        for &sector in &self.dirty {
            let range = sector_range(sector, after.len().min(self.pending.len()));
            let kept = match rng.below(8) {
                0 | 1 => 0,
                2 => rng.below(range.len() as u64 + 1) as usize,
                // Devices move words, and what is written in words is torn between two of them.
                3 => rng.below(range.len() as u64 / 8 + 1) as usize * 8,
                _ => range.len(),
            };
            let range = range.start..range.start + kept;
            after[range.clone()].copy_from_slice(&self.pending[range]);
        }
        self.pending.clone_from(&after);
        self.durable = after;
        self.dirty.clear();
        self.locked = false;
    }
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: u64,
    pub(super) life: u64,
    pub(super) may_write: bool,
    pub(super) holds_lock: AtomicBool,
}

impl SimFile {
    /// The disk, while this handle is alive.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life != self.life {
            return Err(failed("the process that opened this file is dead"));
        }
        Ok(state)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.may_write {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.state()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if self.holds_lock.load(Ordering::Relaxed)
            && state.life == self.life
            && let Some(inode) = state.inodes.get_mut(&self.inode)
        {
            inode.locked = false;
        }
    }
}

fn inode(state: &mut State, number: u64) -> &mut Inode {
    state
        .inodes
        .get_mut(&number)
        .expect("inodes live as long as the handles of one life")
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let short = state
            .take_fault(|fault| *fault == Fault::ShortRead)
            .is_some();
        let inode = inode(&mut state, self.inode);
        let offset = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(inode.pending.len());
        let mut count = buf.len().min(inode.pending.len() - offset);
        if short && count > 1 {
            count /= 2;
        }
        let sectors = offset / SECTOR_BYTES..(offset + count).div_ceil(SECTOR_BYTES);
        if inode.unreadable.range(sectors).next().is_some() {
            return Err(failed("input/output error"));
        }
        buf[..count].copy_from_slice(&inode.pending[offset..offset + count]);
        Ok(count)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.operate(false)?;
        let fault = state.take_fault(|fault| {
            matches!(
                fault,
                Fault::WriteFails | Fault::WriteIsLost | Fault::WriteIsMisdirected(_)
            )
        });
        let (buf, offset) = match fault {
            Some(Fault::WriteIsLost) => return Ok(()),
            Some(Fault::WriteIsMisdirected(by)) => (buf, offset + by),
            Some(_) => (&buf[..buf.len() / 2], offset),
            None => (buf, offset),
        };
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
        let end = offset + buf.len();
        let length = inode(&mut state, self.inode).pending.len();
        state.check_room(end.saturating_sub(length) as u64)?;
        let inode = inode(&mut state, self.inode);
        inode.pending.resize(length.max(end), 0);
        inode.pending[offset..end].copy_from_slice(buf);
        inode.mark_dirty(offset, buf.len());
        if fault == Some(Fault::WriteFails) {
            Err(failed("input/output error"))
        } else {
            Ok(())
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.operate(true)?;
        if state
            .take_fault(|fault| *fault == Fault::SyncFails)
            .is_some()
        {
            let mut rng = state.rng.clone();
            inode(&mut state, self.inode).fail_sync(&mut rng);
            state.rng = rng;
            return Err(failed("input/output error"));
        }
        inode(&mut state, self.inode).sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.operate(false)?;
        let have = inode(&mut state, self.inode).pending.len();
        let len = usize::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
        if have < len {
            state.check_room((len - have) as u64)?;
            let inode = inode(&mut state, self.inode);
            inode.pending.resize(len, 0);
            inode.mark_dirty(have, len - have);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.operate(false)?;
        let len = usize::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
        let inode = inode(&mut state, self.inode);
        let have = inode.pending.len();
        inode.pending.resize(len, 0);
        inode.mark_dirty(have.min(len), have.max(len) - have.min(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        Ok(inode(&mut state, self.inode).pending.len() as u64)
    }

    fn drop_cache(&self, _offset: u64, _len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        inode(&mut state, self.inode).drop_clean();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        let inode = inode(&mut state, self.inode);
        if inode.locked {
            return Ok(self.holds_lock.load(Ordering::Relaxed));
        }
        inode.locked = true;
        self.holds_lock.store(true, Ordering::Relaxed);
        Ok(true)
    }
}
