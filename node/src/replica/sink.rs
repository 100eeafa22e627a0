//! What transport's threads tell the replica: messages, connections, and who may connect at all.
//!
//! Must not know: what messages mean.

use super::handle::Shared;
use super::inbox::INBOX_MAX;
use super::input::Input;
use crate::env::Disk;
use crate::storage::{PeerDecision, PeerLife, PeersSeen};
use crate::transport::{FrameReader, HelloRefusal, PeerMessage, Sink};
use parking_lot::Mutex;
use quorate_raft::MemberId;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;

/// The replica, as transport sees it.
pub(super) struct PeerSink {
    shared: Arc<Shared>,
    seen: Mutex<PeersSeen>,
    /// The last life of each peer that was refused: reported once, not at every attempt.
    reported: Mutex<BTreeMap<u64, PeerLife>>,
    disk: Arc<dyn Disk>,
    /// Held while a snapshot arrives: one at a time.
    receiving: Mutex<()>,
}

impl PeerSink {
    pub(super) fn new(shared: Arc<Shared>, seen: PeersSeen, disk: Arc<dyn Disk>) -> Self {
        Self {
            shared,
            seen: Mutex::new(seen),
            reported: Mutex::default(),
            disk,
            receiving: Mutex::new(()),
        }
    }

    fn push(&self, input: Input) {
        // Raft repeats what is dropped here.
        let _ = self.shared.inbox.push(input, INBOX_MAX);
    }
}

impl Sink for PeerSink {
    fn deliver(&self, from: u64, messages: Vec<PeerMessage>) {
        self.push(Input::Peer { from, messages });
    }

    fn admit(&self, peer: u64, life: PeerLife) -> Result<(), HelloRefusal> {
        let reader = self.shared.reader.load();
        if reader
            .as_ref()
            .is_some_and(|reader| reader.members().removed.contains(&peer))
        {
            return Err(HelloRefusal::Removed);
        }
        match self.seen.lock().introduce(MemberId(peer), life) {
            Ok(PeerDecision::Accept | PeerDecision::AcceptNew) => Ok(()),
            Ok(PeerDecision::Refuse(why)) => {
                // Only members of the cluster get here, so the map stays small.
                if self.reported.lock().insert(peer, life) != Some(life) {
                    tracing::error!(
                        peer = %MemberId(peer),
                        %why,
                        "refused a peer: its data directory is an older copy, a second one, or a \
                         new one under an old ID; remove that member and add a new one"
                    );
                }
                Err(HelloRefusal::Stale)
            }
            Err(error) => {
                tracing::error!(%error, "cannot remember the life of a peer");
                Err(HelloRefusal::Busy)
            }
        }
    }

    fn refused(&self, by: u64, why: HelloRefusal) {
        self.push(Input::PeerRefused { by, why });
    }

    fn connected(&self, peer: u64, peer_urls: &[String]) {
        self.push(Input::PeerConnected {
            peer,
            peer_urls: peer_urls.to_vec(),
        });
    }

    fn membership(&self) -> Option<Vec<u8>> {
        let reader = self.shared.reader.load();
        reader.as_ref().map(|reader| reader.members().encode())
    }

    fn receive_snapshot(
        &self,
        from: u64,
        reader: &mut FrameReader<&TcpStream>,
        writer: &TcpStream,
    ) {
        let Some(_one) = self.receiving.try_lock() else {
            return;
        };
        super::snapshots::receive(&self.shared, &self.disk, from, reader, writer);
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.monotonic_ns() / 1_000_000
    }
}
