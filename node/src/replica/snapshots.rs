//! Snapshots between members.

use super::handle::Shared;
use super::shell::{Ended, Shell};
use crate::transport::FrameReader;
use quorate_raft::{SnapshotMeta, SnapshotWanted, Term};
use std::net::TcpStream;

/// A whole snapshot, verified and durable, that waits to be installed.
pub(super) struct ReceivedSnapshot {
    pub(super) from: u64,
    pub(super) term: Term,
    pub(super) meta: SnapshotMeta,
}

pub(super) fn receive(
    _shared: &Shared,
    _from: u64,
    _reader: &mut FrameReader<&TcpStream>,
    _writer: &TcpStream,
) {
}

impl Shell {
    pub(super) fn send_snapshot(&mut self, wanted: SnapshotWanted) {
        tracing::warn!(to = %wanted.to, "snapshot wanted");
        self.core
            .raft
            .snapshot_sent(wanted.to, Err(()), &mut self.core.out);
    }

    pub(super) fn install(&mut self, snapshot: ReceivedSnapshot) -> Result<(), Ended> {
        let _ = (snapshot.from, snapshot.term, snapshot.meta);
        Ok(())
    }
}
