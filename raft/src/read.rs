//! Linearizable reads without writing (ReadIndex, thesis §6.4).
//!
//! A read waits until the leader has (1) committed an entry of its own term, (2) noted its commit
//! index as the read's floor, and (3) heard from a quorum in a heartbeat round that *began after*
//! the read was registered. An answer to an older round proves nothing: another leader may have
//! committed since, before the read began (E2). So reads that arrive while a round is in flight
//! wait, together, for the next one.

use crate::common::{Common, Need};
use crate::error::ReadError;
use crate::leader::Leader;
use crate::message::Message;
use crate::output::{Output, ReadFloor, ReadOutcome};
use crate::quorum;
use crate::types::{LogIndex, MemberId, ReadId};
use alloc::collections::VecDeque;

/// The reads of one leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// Registered after the last round began.
    waiting: VecDeque<Read>,
    /// Part of a round, in the order of rounds.
    confirming: VecDeque<Confirming>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    /// The follower that asked; `None` for our own.
    origin: Option<MemberId>,
    read: ReadId,
}

#[derive(Clone, Copy, Debug)]
struct Confirming {
    read: Read,
    round: u64,
    floor: LogIndex,
}

impl Leader {
    /// Registers a read of our own.
    pub fn local_read(
        &mut self,
        common: &mut Common,
        read: ReadId,
        out: &mut Output,
    ) -> Result<(), ReadError> {
        if self.reads_pending() >= common.config.pending_reads_max {
            return Err(ReadError::TooManyReads);
        }
        self.register(common, Read { origin: None, read }, out);
        Ok(())
    }

    /// Registers the read of a follower.
    pub fn remote_read(
        &mut self,
        common: &mut Common,
        from: MemberId,
        read: ReadId,
        out: &mut Output,
    ) {
        let read = Read {
            origin: Some(from),
            read,
        };
        if self.reads_pending() >= common.config.pending_reads_max {
            answer(common, read, None, out);
        } else {
            self.register(common, read, out);
        }
    }

    /// An entry of our term may have been committed: the reads that waited for it go on.
    pub fn begin_waiting_reads(&mut self, common: &mut Common, out: &mut Output) {
        let may_begin = self.knows_commit(common) && self.reads.confirming.is_empty();
        if may_begin && !self.reads.waiting.is_empty() {
            self.begin_round(common, out);
        }
    }

    /// A round begins: all registered reads are part of it, once the commit index is known (E1).
    pub fn assign_waiting_reads(&mut self, common: &Common) {
        if !self.knows_commit(common) && !common.planted(55) {
            return;
        }
        let (round, floor) = (self.round, common.commit());
        let waiting = self.reads.waiting.drain(..);
        self.reads
            .confirming
            .extend(waiting.map(|read| Confirming { read, round, floor }));
    }

    /// Answers the reads whose round a quorum has confirmed, of both halves while joint.
    pub fn confirm_reads(&mut self, common: &mut Common, out: &mut Output) {
        if self.reads.confirming.is_empty() {
            return;
        }
        let confirmed = quorum::reached(common.log.membership(), |id| {
            if id == common.id() {
                self.round
            } else {
                self.peers.get(&id).map_or(0, |p| p.round)
            }
        });
        while let Some(Confirming { read, round, floor }) = self.reads.confirming.front().copied() {
            if round > confirmed {
                return;
            }
            assert!(
                floor <= common.commit(),
                "floor {floor} > commit {}",
                common.commit()
            );
            self.reads.confirming.pop_front();
            answer(common, read, Some(floor), out);
        }
        self.begin_waiting_reads(common, out);
    }

    /// Leadership is lost: every read ends (E3).
    pub fn drop_reads(&mut self, common: &Common, out: &mut Output) {
        let confirming = self
            .reads
            .confirming
            .drain(..)
            .map(|confirming| confirming.read);
        for read in confirming.chain(self.reads.waiting.drain(..)) {
            answer(common, read, None, out);
        }
    }

    fn reads_pending(&self) -> usize {
        self.reads.waiting.len() + self.reads.confirming.len()
    }

    fn register(&mut self, common: &mut Common, read: Read, out: &mut Output) {
        if common.planted(56) && self.round > 0 && self.knows_commit(common) {
            let (round, floor) = (self.round, common.commit());
            self.reads
                .confirming
                .push_back(Confirming { read, round, floor });
            self.confirm_reads(common, out);
            return;
        }
        self.reads.waiting.push_back(read);
        if common.planted(55) && self.reads.confirming.is_empty() {
            self.begin_round(common, out);
        }
        self.begin_waiting_reads(common, out);
    }
}

/// Ends a read.
fn answer(common: &Common, read: Read, floor: Option<LogIndex>, out: &mut Output) {
    let Read { origin, read } = read;
    match origin {
        None => {
            let outcome = floor.map_or(ReadOutcome::Dropped, ReadOutcome::Floor);
            out.reads.push(ReadFloor { read, outcome });
        }
        Some(follower) => {
            let message = Message::ReadIndexResponse { read, floor };
            common.send(follower, message, Need::HardState, out);
        }
    }
}
