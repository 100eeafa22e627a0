//! Leaders: what a leader does with each message, each tick and each completed write.
//!
//! The leader's own disk is one voter among others: its log counts only as far as it is durable,
//! though its appends leave while it is being written (thesis §10.2.1).
//! Elsewhere: how entries travel (`replicate.rs`), changes of the membership (`change.rs`), reads
//! (`read.rs`), handing over the office (`transfer.rs`).

use crate::common::{Common, Need};
use crate::error::ProposeError;
use crate::message::{Entry, Envelope, Message, Payload};
use crate::node::Turn;
use crate::output::{Output, PeerStatus, RoleChange};
use crate::progress::{Flow, Progress};
use crate::quorum;
use crate::read::Reads;
use crate::transfer::Transfer;
use crate::types::{EntryId, LogIndex, MemberId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a leader knows beyond what every role does.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// One for each member but ourselves.
    pub peers: BTreeMap<MemberId, Progress>,
    /// Our first entry. Once it is committed, so is all before it, and we know what is committed.
    pub term_start: LogIndex,
    /// Number of the last heartbeat round.
    pub round: u64,
    pub reads: Reads,
    pub transfer: Option<Transfer>,
    ticks_since_heartbeat: u32,
    /// Everything after this entry is uncommitted, or not durable here.
    tail_start: LogIndex,
    /// Payload bytes after `tail_start`.
    tail_bytes: usize,
}

impl Leader {
    /// Takes office. The empty entry opens commit and reads: until it is committed we do not know
    /// which of the inherited entries are (thesis §3.6.2, §6.4).
    pub fn begin(common: &mut Common, out: &mut Output) -> (Self, Turn) {
        assert!(
            common.hard_state_is_durable() || common.planted(11) || common.planted(1),
            "won term {} before the vote for ourselves was on disk: {:?}",
            common.term(),
            common.hard_state,
        );
        let last = common.log.last().index;
        let tail_start = common.commit().min(common.log.durable());
        let mut leader = Self {
            peers: BTreeMap::new(),
            term_start: last.next(),
            round: 0,
            reads: Reads::default(),
            transfer: None,
            ticks_since_heartbeat: 0,
            tail_start,
            tail_bytes: common.log.bytes_between(tail_start, last),
        };
        common.set_leader(Some(common.id()), out);
        leader.track_members(common);
        let turn = leader.append(common, [Payload::Empty], out);
        (leader, turn)
    }

    /// A message of our term, or a request for a vote.
    pub fn step(&mut self, common: &mut Common, envelope: Envelope, out: &mut Output) -> Turn {
        let Envelope {
            from,
            to: _,
            term,
            message,
        } = envelope;
        match message {
            Message::PreVote { last } => common.answer_pre_vote(from, term, last, out),
            Message::Vote { last, transfer: _ } => common.answer_vote(from, last, out),
            // Late answers to the campaign that we have won (A10).
            Message::PreVoteResponse { granted: _ } | Message::VoteResponse { granted: _ } => {}
            // There is no second leader of our term: node.rs has asserted it.
            Message::Append { .. } | Message::Heartbeat { .. } => {}
            Message::AppendResponse { outcome } => {
                return self.append_response(common, from, outcome, out);
            }
            Message::HeartbeatResponse { round } => {
                self.heartbeat_response(common, from, round, out);
            }
            Message::ReadIndex { read } => self.remote_read(common, from, read, out),
            // We ask nobody for a floor; this answers a question from before we led.
            Message::ReadIndexResponse { read: _, floor: _ } => {}
            Message::TimeoutNow => common.ignore(from, "timeout-now: leading already", out),
        }
        Turn::Stay
    }

    /// One tick passes.
    pub fn tick(&mut self, common: &mut Common, out: &mut Output) -> Turn {
        for peer in self.peers.values_mut() {
            peer.silent_ticks = peer.silent_ticks.saturating_add(1);
        }
        if !self.hears_a_quorum(common) {
            return Turn::Follow(RoleChange::QuorumLost);
        }
        self.tick_transfer(common, out);
        self.ticks_since_heartbeat += 1;
        if self.ticks_since_heartbeat >= common.config.heartbeat_ticks {
            self.begin_round(common, out);
        }
        self.leave_joint(common, out)
    }

    /// Appends `commands` in one go.
    pub fn propose(
        &mut self,
        common: &mut Common,
        commands: &mut Vec<Arc<[u8]>>,
        out: &mut Output,
    ) -> Result<(EntryId, Turn), ProposeError> {
        if let Some(transfer) = &self.transfer {
            return Err(ProposeError::Transferring(transfer.to));
        }
        let bytes: usize = commands.iter().map(|command| command.len()).sum();
        let tail = self.tail_bytes.saturating_add(bytes);
        // What is larger than the limit by itself still passes, alone.
        if self.tail_bytes > 0 && tail > common.config.uncommitted_bytes_max {
            return Err(ProposeError::TooMuchUncommitted);
        }
        let first = EntryId {
            term: common.term(),
            index: common.log.last().index.next(),
        };
        let turn = self.append(common, commands.drain(..).map(Payload::Command), out);
        Ok((first, turn))
    }

    /// Adds entries of our term to the log and sends them; a membership is in force at once.
    pub fn append(
        &mut self,
        common: &mut Common,
        payloads: impl IntoIterator<Item = Payload>,
        out: &mut Output,
    ) -> Turn {
        assert!(
            common.leader() == Some(common.id()),
            "a follower of {:?} appends",
            common.leader()
        );
        for payload in payloads {
            let id = EntryId {
                term: common.term(),
                index: common.log.last().index.next(),
            };
            let entry = Entry { id, payload };
            self.tail_bytes = self.tail_bytes.saturating_add(entry.payload_bytes());
            common.log.push(entry);
        }
        self.replicate_to_all(common, out);
        // Our own copy does not count before it is durable. A membership may have changed who
        // counts.
        self.advance(common, out)
    }

    /// Commits what a quorum holds, and does what a commit allows.
    pub fn advance(&mut self, common: &mut Common, out: &mut Output) -> Turn {
        let raised = self.raise_commit(common);
        self.shrink_tail(common);
        if !raised {
            return Turn::Stay;
        }
        self.replicate_to_all(common, out);
        self.begin_waiting_reads(common, out);
        self.membership_committed(common, out)
    }

    fn raise_commit(&self, common: &mut Common) -> bool {
        let index = LogIndex(self.quorum_holds(common));
        // Count only entries of our own term (Raft §5.4.2). In figure 8 an entry of an older term
        // sits on a majority and is still overwritten by a later leader (B1).
        let own_term = index >= self.term_start || common.planted(20);
        if index <= common.commit() || !own_term {
            return false;
        }
        assert!(
            common.log.term_at(index) == Some(common.term()) || common.planted(20),
            "committed {index} by counting, but it is of term {:?}",
            common.log.term_at(index),
        );
        common.commit_to(index);
        true
    }

    /// The highest index that is durable at a quorum.
    fn quorum_holds(&self, common: &Common) -> u64 {
        let membership = common.log.membership();
        let held = |id| self.held_by(common, id).0;
        if common.planted(16) {
            let everybody: BTreeSet<_> = membership.members().collect();
            return quorum::reached_by_majority(&everybody, held);
        }
        if common.planted(38) {
            return quorum::reached_by_majority(&membership.voters, held);
        }
        quorum::reached(membership, held)
    }

    /// What `id` is known to hold durably.
    pub fn held_by(&self, common: &Common, id: MemberId) -> LogIndex {
        if id == common.id() {
            // Appends leave before our disk has them, but a copy is a copy once it is durable
            // (B11).
            if common.planted(30) {
                common.log.last().index
            } else {
                common.log.durable()
            }
        } else {
            self.peers.get(&id).map_or(LogIndex(0), |peer| peer.matched)
        }
    }

    /// Whether an entry of our term is committed.
    pub fn knows_commit(&self, common: &Common) -> bool {
        common.commit() >= self.term_start
    }

    /// Whether a voter has accepted us as leader within the shortest election timeout (A14). One
    /// under repair would not vote, so its contact is worth nothing.
    pub fn is_alive(&self, common: &Common, id: MemberId) -> bool {
        let limit = common.config.election_ticks;
        id == common.id()
            || self
                .peers
                .get(&id)
                .is_some_and(|peer| !peer.repairing && peer.silent_ticks < limit)
    }

    fn hears_a_quorum(&self, common: &Common) -> bool {
        quorum::agrees(common.log.membership(), |id| self.is_alive(common, id))
    }

    /// A peer answers as one that accepts us.
    fn heartbeat_response(
        &mut self,
        common: &mut Common,
        from: MemberId,
        round: u64,
        out: &mut Output,
    ) {
        let this_round = self.round;
        let Some(peer) = self.peers.get_mut(&from) else {
            common.ignore(from, "heartbeat answer: not a member", out);
            return;
        };
        if round > this_round {
            common.ignore(from, "heartbeat answer: of no round of ours", out);
            return;
        }
        peer.silent_ticks = 0;
        peer.round = peer.round.max(round);
        peer.resume();
        if peer.matched < common.log.last().index || matches!(peer.flow, Flow::Probe { .. }) {
            self.replicate_or_check(common, from, out);
        }
        self.confirm_reads(common, out);
    }

    /// Begins a heartbeat round: it keeps us in office and confirms the reads registered so far.
    pub fn begin_round(&mut self, common: &mut Common, out: &mut Output) {
        self.ticks_since_heartbeat = 0;
        self.round += 1;
        for (id, peer) in &self.peers {
            // Never claim more than the peer is known to hold (B6).
            let commit = common.commit().min(peer.matched);
            let message = Message::Heartbeat {
                commit,
                round: self.round,
            };
            common.send(*id, message, Need::Nothing, out);
        }
        self.assign_waiting_reads(common);
        // A quorum of one has confirmed already.
        self.confirm_reads(common, out);
    }

    /// One [`Progress`] for each member of the membership in force but ourselves.
    pub fn track_members(&mut self, common: &Common) {
        let membership = common.log.membership();
        self.peers.retain(|id, _| membership.contains(*id));
        for id in membership.members().filter(|id| *id != common.id()) {
            let next = common.log.last().index.next();
            self.peers.entry(id).or_insert_with(|| Progress::new(next));
        }
    }

    /// The bounded tail (B16): what a crash here and now could cost in repeated work. A disk that
    /// stalls holds it as well as a quorum that is away.
    fn shrink_tail(&mut self, common: &Common) {
        let start = common
            .commit()
            .min(common.log.durable())
            .max(self.tail_start);
        self.tail_bytes -= common.log.bytes_between(self.tail_start, start);
        self.tail_start = start;
    }

    /// One row per member, for [`crate::Status`].
    pub fn peer_status(&self, common: &Common) -> Vec<PeerStatus> {
        let own = PeerStatus {
            id: common.id(),
            matched: common.log.durable(),
            next: common.log.last().index.next(),
            silent_ticks: 0,
            snapshotting: false,
        };
        let mut rows: Vec<_> = self
            .peers
            .iter()
            .map(|(id, peer)| PeerStatus {
                id: *id,
                matched: peer.matched,
                next: peer.next,
                silent_ticks: peer.silent_ticks,
                snapshotting: peer.flow == Flow::Snapshot,
            })
            .chain(core::iter::once(own))
            .collect();
        rows.sort_by_key(|row| row.id);
        rows
    }
}
