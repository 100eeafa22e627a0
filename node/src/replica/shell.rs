//! The thread that owns the replica: waits for inputs, runs turns of the core, carries out its
//! effects in order.
//!
//! A turn costs one wake-up, one append for all proposals, one read round, and one write per peer.
//! Must not know: Raft's rules, what commands mean.

use super::compaction::CompactionThread;
use super::core::{Core, Effects};
use super::disk::{DiskJob, DiskThread, NOTHING_WAITS};
use super::handle::Shared;
use super::inbox::WakeOn;
use super::input::Input;
use super::lifecycle;
use super::owner::LifeError;
use super::types::{ReplicaStatus, RequestError};
use crate::env::Disk;
use crate::metrics::{ApplyTimes, Metrics};
use crate::storage::revision_log::Options;
use crate::transport::{HelloRefusal, Local, PeerMessage, Sent, Transport};
use quorate_raft::{LogIndex, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Rounds of applying within a turn before the inbox is looked at again.
const APPLY_ROUNDS_MAX: usize = 4;
/// Ticks made up for after a pause; more would only start needless elections.
const TICKS_LATE_MAX: u64 = 3;
/// A leader that wakes so much later than it meant to has sent a heartbeat too late, as etcd counts
/// them.
const HEARTBEAT_LATE_TICKS: u64 = lifecycle::TICKS_PER_HEARTBEAT;
/// A sync that hangs for so long, or five election timeouts, ends the process.
const STALL_MS_MAX: u64 = 5000;
/// Longest graceful stop, as etcd's.
const STOP_MS_MAX: u64 = 6500;
/// How long a removed member goes on, so that others learn of it from the log.
const REMOVED_MS: u64 = 300;

/// How the life of a running member ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Asked to stop; everything is handed over.
    Stopped,
    /// Removed from the cluster for good.
    Removed,
    /// A peer knows a later life of this member, or another directory: it must not take part.
    Stale,
    /// The data directory turns out to be refused.
    Refused(Box<LifeError>),
    /// The process must stop; the text says why and what to do.
    Failed(String),
}

struct Stopping {
    since_ms: u64,
    done: Option<oneshot::Sender<()>>,
}

/// Where the state machine's history lives, and who we are to a peer that is sent a part of it.
pub(super) struct History {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) local: Local,
    /// The end of the log when it was opened.
    pub(super) log_found: LogIndex,
}

/// A running member.
pub(super) struct Shell {
    pub(super) core: Core,
    pub(super) disk: DiskThread,
    pub(super) transport: Transport,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) history: History,
    /// Absent only while a snapshot is being installed.
    pub(super) compaction: Option<CompactionThread>,
    /// Peers that a snapshot is being sent to, and since when.
    pub(super) sending: BTreeMap<u64, u64>,
    pub(super) apply_times: ApplyTimes,
    /// Addresses that peers told us, for those whose addition is not applied here yet.
    hints: BTreeMap<u64, Vec<String>>,
    gone: BTreeSet<u64>,
    next_ping_ms: u64,
    next_tick_ns: u64,
    tick_ns: u64,
    noted_commit: LogIndex,
    stall_handled: bool,
    removed_since_ms: Option<u64>,
    stopping: Option<Stopping>,
    published: Option<ReplicaStatus>,
}

impl Shell {
    pub(super) fn new(
        core: Core,
        disk: DiskThread,
        transport: Transport,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
        history: History,
    ) -> Self {
        let tick_ns = core.config.tick_ms * 1_000_000;
        let now_ns = shared.clock.monotonic_ns();
        let apply_times = metrics.replica.apply_times();
        Self {
            core,
            apply_times,
            disk,
            transport,
            shared,
            metrics,
            history,
            compaction: None,
            sending: BTreeMap::new(),
            next_ping_ms: 0,
            hints: BTreeMap::new(),
            gone: BTreeSet::new(),
            next_tick_ns: now_ns + tick_ns,
            tick_ns,
            noted_commit: LogIndex(0),
            stall_handled: false,
            removed_since_ms: None,
            stopping: None,
            published: None,
        }
    }

    /// Runs until the member ends.
    pub(super) fn run(&mut self) -> Ended {
        if let Err(ended) = self.serve_state() {
            return ended;
        }
        let mut batch = Vec::new();
        let mut more = true;
        let ended = loop {
            let wait = if more {
                Duration::ZERO
            } else {
                self.until_tick()
            };
            let wake_on = self.wake_on();
            self.shared
                .inbox
                .wait_and_drain_on(&mut batch, wait, wake_on);
            match self.turn(&mut batch) {
                Ok(again) => more = again,
                Err(ended) => break ended,
            }
        };
        self.end(&ended);
        ended
    }

    /// Lets readers see the state machine, and the background work on it.
    pub(super) fn serve_state(&mut self) -> Result<(), Ended> {
        let store = self.core.store();
        // Under repair nothing is served: what is here may be behind what was acknowledged.
        let reader = (!self.core.is_repairing()).then(|| Arc::new(store.reader()));
        self.shared.reader.store(reader);
        let (clock, inbox) = (Arc::clone(&self.shared.clock), self.shared.inbox.clone());
        let failed = |error| Ended::Failed(format!("cannot start the compaction thread: {error}"));
        let compaction =
            CompactionThread::start(store.compactor(), clock, inbox, Arc::clone(&self.metrics))
                .map_err(failed)?;
        self.compaction = Some(compaction);
        Ok(())
    }

    /// The peer connections, for the next phase of the node's life.
    pub(super) fn into_transport(self) -> Transport {
        self.transport
    }

    /// While a round of reads is in flight, further ones can only join the next, which the end of
    /// this one begins.
    fn wake_on(&self) -> WakeOn {
        if self.core.reads.has_room() {
            WakeOn::Anything
        } else {
            WakeOn::Urgent
        }
    }

    fn until_tick(&self) -> Duration {
        let now_ns = self.shared.clock.monotonic_ns();
        Duration::from_nanos(self.next_tick_ns.saturating_sub(now_ns))
    }

    fn turn(&mut self, batch: &mut Vec<Input>) -> Result<bool, Ended> {
        let now_ns = self.shared.clock.monotonic_ns();
        self.core.set_now(now_ns / 1_000_000);
        if !batch.is_empty() {
            self.metrics.replica.inbox_batch.observe(batch.len() as f64);
        }
        for input in batch.drain(..) {
            self.input(input)?;
        }
        self.ticks(now_ns)?;
        self.core.end_intake();
        let mut more = false;
        for _ in 0..APPLY_ROUNDS_MAX {
            let some = self.core.collect();
            self.carry_out()?;
            more = self.apply()?;
            if !some && !more {
                break;
            }
        }
        self.core.maybe_end_repair();
        self.carry_out()?;
        self.count(now_ns);
        self.publish();
        self.maybe_end()?;
        Ok(more)
    }

    fn input(&mut self, input: Input) -> Result<(), Ended> {
        match input {
            Input::Persisted(up_to) => {
                self.disk.completed(up_to, self.core.now_ms);
                self.core.input(Input::Persisted(up_to));
            }
            Input::PeerConnected { peer, peer_urls } => {
                if self.hints.get(&peer) != Some(&peer_urls) {
                    self.hints.insert(peer, peer_urls);
                    self.core.effects.peers_changed = true;
                }
            }
            Input::SnapshotReceived(snapshot) => self.install(*snapshot)?,
            Input::Failed(reason) => return Err(Ended::Failed(reason)),
            Input::PeerRefused {
                member,
                by,
                why: HelloRefusal::Stale,
            } if member == self.core.id() => {
                tracing::error!(by = %MemberId(by), "a peer refused this member as stale");
                return Err(Ended::Stale);
            }
            Input::Stop { done } => self.begin_stop(done),
            Input::Propose { .. }
            | Input::Read { .. }
            | Input::Admin(_)
            | Input::Peer { .. }
            | Input::Inadmissible { .. }
            | Input::PeerRefused { .. } => self.core.input(input),
            Input::SnapshotSent { to, outcome } => {
                let counters = self.metrics.network.peer(self.core.id(), to);
                counters.snapshot_sends_inflight.set(0);
                if let Some(since_ns) = self.sending.remove(&to) {
                    let took_ns = self.shared.clock.monotonic_ns().saturating_sub(since_ns);
                    let took = Duration::from_nanos(took_ns);
                    counters.snapshot_send_seconds.observe(took.as_secs_f64());
                }
                match outcome {
                    Ok(_) => counters.snapshot_sends.inc(),
                    Err(()) => counters.snapshot_send_failures.inc(),
                }
                self.core.input(Input::SnapshotSent { to, outcome });
            }
        }
        Ok(())
    }

    fn ticks(&mut self, now_ns: u64) -> Result<(), Ended> {
        if now_ns < self.next_tick_ns {
            return Ok(());
        }
        let late = (now_ns - self.next_tick_ns) / self.tick_ns;
        // Heartbeats leave with ticks.
        if late >= HEARTBEAT_LATE_TICKS && self.core.leads() {
            self.metrics.replica.heartbeat_send_failures.inc();
        }
        for _ in 0..=late.min(TICKS_LATE_MAX) {
            self.core.tick();
        }
        self.next_tick_ns += (late + 1) * self.tick_ns;
        self.refresh_connected();
        self.ping();
        let commit = self.core.raft.commit();
        if commit > self.noted_commit {
            self.noted_commit = commit;
            self.disk.push(DiskJob::Commit(commit));
        }
        if let Some(failure) = self.core.store().log().failure() {
            return Err(Ended::Failed(failure.to_owned()));
        }
        self.watch_disk()
    }

    /// Says something to every peer now and then, so that both ends notice a connection that is
    /// gone, also between members that have nothing to tell each other. A member that is stopping
    /// wants to know at once who else has left.
    fn ping(&mut self) {
        if self.core.now_ms < self.next_ping_ms && self.stopping.is_none() {
            return;
        }
        self.next_ping_ms = self.core.now_ms + self.core.config.election_ms / 2;
        let sent_ns = self.shared.clock.monotonic_ns();
        let peers: Vec<u64> = self.core.connected.keys().copied().collect();
        for peer in peers {
            self.core.send(peer, PeerMessage::Ping { sent_ns });
        }
    }

    fn refresh_connected(&mut self) {
        let ids = self.core.members.iter().map(|member| member.id);
        let hinted = self.hints.keys().copied();
        let ids: BTreeSet<u64> = ids.chain(hinted).collect();
        let since = |id| {
            self.transport
                .connected_since_ms(id)
                .map(|since| (id, since))
        };
        self.core.connected = ids.into_iter().filter_map(since).collect();
    }

    /// A leader whose disk hangs would lead for ever on its followers' syncs (F12): it hands over,
    /// and a disk that stays stuck ends the process.
    fn watch_disk(&mut self) -> Result<(), Ended> {
        let since = self.disk.waiting_since_ms.load(Ordering::Relaxed);
        if since == NOTHING_WAITS {
            self.stall_handled = false;
            return Ok(());
        }
        let election_ms = self.core.config.election_ms;
        let stalled_ms = self.core.now_ms.saturating_sub(since);
        if stalled_ms > STALL_MS_MAX.max(5 * election_ms) {
            return Err(Ended::Failed(format!(
                "the log has not been synced for {stalled_ms} ms: the disk of the data directory \
                 hangs or is full; replace it or free space, then start the member again"
            )));
        }
        if stalled_ms > election_ms && !self.stall_handled && self.core.leads() {
            self.stall_handled = true;
            tracing::error!(
                stalled_ms,
                "a sync of the log hangs; handing leadership over"
            );
            self.hand_over();
        }
        Ok(())
    }

    /// Begins to hand leadership to the most suitable voter that is connected, if there is any.
    fn hand_over(&mut self) -> bool {
        let Some(to) = self.core.best_successor() else {
            return false;
        };
        match self.core.raft.transfer_leadership(to, &mut self.core.out) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "leadership is not handed over");
                false
            }
        }
    }

    /// Carries out effects in the order of their contract.
    pub(super) fn carry_out(&mut self) -> Result<(), Ended> {
        let Effects {
            persist,
            send,
            snapshots,
            release,
            peers_changed,
            repaired,
        } = self.core.take_effects();
        self.disk.persist(persist, self.core.now_ms);
        if peers_changed {
            self.set_peers()?;
        }
        self.send(send);
        for wanted in snapshots {
            self.send_snapshot(wanted);
        }
        if let Some(up_to) = release {
            self.disk.push(DiskJob::Release(up_to));
        }
        if repaired {
            self.end_repair()?;
        }
        Ok(())
    }

    fn send(&mut self, messages: Vec<(u64, PeerMessage)>) {
        let mut frames: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (to, message) in messages {
            let must_connect = matches!(
                message,
                PeerMessage::Forward { .. } | PeerMessage::Call { .. }
            );
            if !must_connect {
                message.put(frames.entry(to).or_default());
                continue;
            }
            let mut own = frames.remove(&to).unwrap_or_default();
            message.put(&mut own);
            if self.transport.send(to, own, true) == Sent::Disconnected {
                self.core.connected.remove(&to);
                self.core.not_sent(message);
            }
        }
        for (to, frames) in frames {
            self.transport.send(to, frames, false);
        }
    }

    /// Dials whoever belongs to the cluster, as far as addresses are known.
    fn set_peers(&mut self) -> Result<(), Ended> {
        let members = self.core.store().reader().members();
        // A member that was killed may have its membership in the log alone: what is known only
        // now is judged as if it had been known at the start. Later changes are legitimate.
        if self.core.applied().index <= self.history.log_found {
            let ours = &self.history.local.peer_urls;
            lifecycle::check_addresses(self.core.id(), ours, &members)
                .map_err(|error| Ended::Refused(Box::new(error)))?;
        }
        let mut peers = self.hints.clone();
        let known = members
            .members
            .values()
            .filter(|member| !member.peer_urls.is_empty());
        peers.extend(known.map(|member| (member.id, member.peer_urls.clone())));
        peers.retain(|id, _| *id != self.core.id() && !members.removed.contains(id));
        let gone: Vec<u64> = members.removed.difference(&self.gone).copied().collect();
        for id in gone {
            self.hints.remove(&id);
            self.transport.disconnect(id);
            self.metrics.network.forget(self.core.id(), id);
            self.gone.insert(id);
        }
        let failed = |error| {
            Ended::Failed(format!(
                "cannot start a thread for a peer connection: {error}"
            ))
        };
        self.transport.set_peers(&peers).map_err(failed)
    }

    fn publish(&mut self) {
        let status = self.core.status();
        if let Some(before) = &self.published
            && before.leader != status.leader
            && status.leader != 0
        {
            self.metrics.replica.leader_changes.inc();
        }
        if self.published.as_ref() != Some(&status) {
            self.shared.status.store(Arc::new(status.clone()));
            self.published = Some(status);
        }
    }

    fn begin_stop(&mut self, done: oneshot::Sender<()>) {
        if self.stopping.is_some() {
            return;
        }
        self.core.stopping = true;
        self.stopping = Some(Stopping {
            since_ms: self.core.now_ms,
            done: Some(done),
        });
        if self.core.leads() {
            self.hand_over();
        }
    }

    fn maybe_end(&mut self) -> Result<(), Ended> {
        let now_ms = self.core.now_ms;
        if self.core.removed {
            let since = *self.removed_since_ms.get_or_insert(now_ms);
            if now_ms >= since + REMOVED_MS {
                return Err(Ended::Removed);
            }
        }
        let Some(stopping) = &self.stopping else {
            return Ok(());
        };
        let late = now_ms >= stopping.since_ms + STOP_MS_MAX;
        if late || (self.has_handed_over() && self.is_drained()) {
            return Err(Ended::Stopped);
        }
        Ok(())
    }

    /// Whether this member, which is stopping, does not lead any more, or has nobody to lead on.
    ///
    /// The successor may be stopping as well. Once it has gone away the next one is asked, and when
    /// all have, waiting would serve nobody: without a quorum nothing can be committed either.
    fn has_handed_over(&mut self) -> bool {
        if !self.core.leads() {
            return true;
        }
        match self.core.raft.status().transferring_to {
            Some(to) if self.core.connected.contains_key(&to.0) => return false,
            Some(to) => {
                tracing::info!(%to, "the successor has gone away");
                self.core.raft.abandon_transfer(&mut self.core.out);
            }
            None => {}
        }
        !self.hand_over()
    }

    /// Whether nothing that was accepted is left to finish, or nothing of it can be: what waits is
    /// then answered with an error that leaves open whether it has happened.
    fn is_drained(&self) -> bool {
        let drained = self.core.proposals.len() == 0 && self.core.reads.len() == 0;
        drained || !self.core.reaches_quorum()
    }

    fn end(&mut self, ended: &Ended) {
        let error = match ended {
            Ended::Removed => RequestError::Removed,
            // What was accepted may have happened, also when this member turns out to be stale.
            Ended::Stopped | Ended::Stale | Ended::Refused(_) | Ended::Failed(_) => {
                RequestError::Stopped
            }
        };
        self.core.fail_all(&error);
        self.compaction = None;
        self.transport.identify(None);
        if !matches!(ended, Ended::Failed(_)) {
            self.disk.stop();
        }
        if let Some(done) = self
            .stopping
            .as_mut()
            .and_then(|stopping| stopping.done.take())
        {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }

    /// The member to whom a message for `id` would go.
    pub(super) fn urls_of(&self, id: MemberId) -> Vec<String> {
        let member = self.core.members.iter().find(|member| member.id == id.0);
        member
            .map(|member| member.peer_urls.clone())
            .filter(|urls| !urls.is_empty())
            .or_else(|| self.hints.get(&id.0).cloned())
            .unwrap_or_default()
    }
}
