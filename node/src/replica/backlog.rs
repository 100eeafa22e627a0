//! What is committed and not applied yet, with its size: applying may pause while the state on
//! disk catches up, and nothing may grow without bound meanwhile.
//!
//! Must not know: why applying pauses.

use quorate_raft::{Entry, LogIndex, Payload};
use std::collections::VecDeque;

/// Committed entries not applied yet beyond which new proposals are refused, as in etcd.
pub(super) const APPLY_LAG_MAX: usize = 5000;
/// Their payload bytes beyond which new proposals are refused.
pub(super) const APPLY_LAG_BYTES_MAX: usize = 64 << 20;
/// Payload bytes beyond which a follower takes no more entries from its leader: what is dropped
/// comes again, and the leader's window to this follower closes meanwhile.
pub(super) const BACKLOG_BYTES_MAX: usize = 128 << 20;
/// As [`BACKLOG_BYTES_MAX`], in entries, which cost memory also when they are empty.
pub(super) const BACKLOG_ENTRIES_MAX: usize = 1 << 20;

/// Committed entries in log order.
#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So far behind that new proposals would only wait.
    pub(super) fn is_long(&self) -> bool {
        self.entries.len() > APPLY_LAG_MAX || self.bytes > APPLY_LAG_BYTES_MAX
    }

    /// So far behind that further entries of a leader have no room.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BACKLOG_ENTRIES_MAX || self.bytes >= BACKLOG_BYTES_MAX
    }

    pub(super) fn extend(&mut self, entries: Vec<Entry>) {
        self.bytes += entries.iter().map(payload_bytes).sum::<usize>();
        self.entries.extend(entries);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= payload_bytes(&entry);
        Some(entry)
    }

    /// Forgets everything up to `last`: a snapshot contains it.
    pub(super) fn skip_to(&mut self, last: LogIndex) {
        while let Some(entry) = self.entries.front()
            && entry.id.index <= last
        {
            self.pop();
        }
    }
}

/// Bytes that an entry carries.
pub(super) fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Empty => 0,
        Payload::Command(command) => command.len(),
        Payload::Membership { context, .. } => context.len(),
    }
}
