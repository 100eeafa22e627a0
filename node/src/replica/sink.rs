//! What transport's threads tell the replica: messages, connections, and who may connect at all.
//!
//! What a peer wants proposed is checked here, on the connection's own thread: the log must hold
//! nothing that the members cannot apply. Must not know: what Raft's messages mean.

use super::handle::Shared;
use super::inbox::INBOX_MAX;
use super::input::Input;
use super::room::Room;
use crate::env::Disk;
use crate::kv::{self, Inadmissible};
use crate::metrics::{Metrics, PeerMetrics};
use crate::storage::{PeerDecision, PeerLife, PeersSeen};
use crate::transport::{FrameReader, HelloRefusal, PeerMessage, PeerStream, Sink};
use parking_lot::Mutex;
use quorate_raft::MemberId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is said that a peer sends what cannot be proposed.
const COMPLAINT_MS: u64 = 1000;

/// The replica, as transport sees it.
pub(super) struct PeerSink {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    /// The counters of each peer that has been connected.
    counters: Mutex<BTreeMap<u64, PeerMetrics>>,
    room: Room,
    seen: Mutex<PeersSeen>,
    /// The last life of each peer that was refused: reported once, not at every attempt.
    reported: Mutex<BTreeMap<u64, PeerLife>>,
    /// When it was last said that a peer sends what cannot be proposed, ms.
    complained: Mutex<BTreeMap<u64, u64>>,
    disk: Arc<dyn Disk>,
    /// Held while a snapshot arrives: one at a time.
    receiving: Mutex<()>,
}

impl PeerSink {
    pub(super) fn new(
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
        seen: PeersSeen,
        disk: Arc<dyn Disk>,
    ) -> Self {
        Self {
            shared,
            metrics,
            counters: Mutex::default(),
            room: Room::default(),
            seen: Mutex::new(seen),
            reported: Mutex::default(),
            complained: Mutex::default(),
            disk,
            receiving: Mutex::new(()),
        }
    }

    fn push(&self, input: Input) {
        // Raft repeats what is dropped here.
        if self.shared.inbox.push(input, INBOX_MAX).is_err() {
            self.metrics.replica.messages_dropped.inc();
        }
    }

    /// Takes out of a forward what cannot be proposed, and has the sender told so.
    fn check_forward(&self, from: u64, message: &mut PeerMessage) {
        let PeerMessage::Forward { term, commands } = message else {
            return;
        };
        let bytes_max = self.shared.request_bytes_max;
        let mut counters = Vec::new();
        commands.retain(|(counter, command)| {
            let refused = kv::admit(command, from, bytes_max).err();
            if let Some(why) = &refused {
                counters.push(*counter);
                self.complain(from, why);
            }
            refused.is_none()
        });
        if !counters.is_empty() {
            let term = *term;
            self.push(Input::Inadmissible {
                from,
                term,
                counters,
            });
        }
    }

    fn complain(&self, from: u64, why: &Inadmissible) {
        let now_ms = self.now_ms();
        let mut complained = self.complained.lock();
        // Only members of the cluster get here, so the map stays small.
        let again = complained
            .get(&from)
            .is_none_or(|before| before + COMPLAINT_MS <= now_ms);
        if again {
            complained.insert(from, now_ms);
            tracing::error!(
                peer = %MemberId(from),
                %why,
                "refused to propose a command of a peer: it runs another version or is faulty; \
                 nothing was proposed"
            );
        }
    }

    /// Notes how long a probe of ours took to come back.
    fn observe_round_trip(&self, from: u64, sent_ns: u64) {
        let now_ns = self.shared.clock.monotonic_ns();
        // Later than now, or from before this process: not ours.
        let Some(took_ns) = now_ns.checked_sub(sent_ns) else {
            return;
        };
        if let Some(counters) = self.counters.lock().get(&from) {
            let took = Duration::from_nanos(took_ns);
            counters.round_trip_seconds.observe(took.as_secs_f64());
        }
    }

    /// Remembers a life of a peer. When there is no room for another one, members that were
    /// removed make it: their IDs are fenced by the membership.
    fn introduce(&self, peer: u64, life: PeerLife) -> Result<PeerDecision, crate::storage::Error> {
        let mut seen = self.seen.lock();
        if seen.is_full()
            && let Some(reader) = self.shared.reader.load().as_ref()
        {
            let removed = &reader.members().removed;
            seen.forget(&removed.iter().copied().map(MemberId).collect())?;
        }
        seen.introduce(MemberId(peer), life)
    }
}

impl Sink for PeerSink {
    fn deliver(&self, from: u64, mut messages: Vec<PeerMessage>, bytes: usize) {
        messages.retain_mut(|message| {
            if let PeerMessage::Pong { sent_ns } = message {
                self.observe_round_trip(from, *sent_ns);
                return false;
            }
            self.check_forward(from, message);
            true
        });
        if messages.is_empty() {
            return;
        }
        let Some(held) = self.room.take(messages.len(), bytes) else {
            let dropped = messages.len() as u64;
            self.metrics.replica.messages_dropped.inc_by(dropped);
            return;
        };
        self.push(Input::Peer {
            from,
            messages,
            held,
        });
    }

    fn counters(&self, local: u64, peer: u64) -> PeerMetrics {
        let counters = self.metrics.network.peer(local, peer);
        self.counters.lock().insert(peer, counters.clone());
        counters
    }

    fn admit(&self, peer: u64, life: PeerLife) -> Result<(), HelloRefusal> {
        let reader = self.shared.reader.load();
        if reader
            .as_ref()
            .is_some_and(|reader| reader.members().removed.contains(&peer))
        {
            return Err(HelloRefusal::Removed);
        }
        match self.introduce(peer, life) {
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

    fn refused(&self, member: u64, by: u64, why: HelloRefusal) {
        self.push(Input::PeerRefused { member, by, why });
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
        reader: &mut FrameReader<&PeerStream>,
        writer: &PeerStream,
    ) {
        let Some(_one) = self.receiving.try_lock() else {
            return;
        };
        let local = self.shared.status.load().member_id;
        let counters = self.counters(local, from);
        let began_ns = self.shared.clock.monotonic_ns();
        counters.snapshot_receives_inflight.set(1);
        let whole = super::snapshots::receive(&self.shared, &self.disk, from, reader, writer);
        counters.snapshot_receives_inflight.set(0);
        let took = Duration::from_nanos(self.shared.clock.monotonic_ns() - began_ns);
        counters
            .snapshot_receive_seconds
            .observe(took.as_secs_f64());
        if whole {
            counters.snapshot_receives.inc();
        } else {
            counters.snapshot_receive_failures.inc();
        }
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.monotonic_ns() / 1_000_000
    }
}
