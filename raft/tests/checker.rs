//! Invariants of the whole cluster, checked after every step. Sees memory, disks and messages;
//! shares no code with the core.

use crate::cluster::{Disk, Member};
use quorate_raft::{
    AppendOutcome, Entry, EntryId, Envelope, HardState, LogIndex, MemberId, Membership, Message,
    Node, Payload, Persist, ReadFloor, ReadId, ReadOutcome, RoleKind, Term,
};
use std::collections::BTreeMap;

type Members = BTreeMap<MemberId, Member>;

/// What has been true at some time and must stay so.
#[derive(Default)]
pub struct Checker {
    /// Who led each term.
    leaders: BTreeMap<Term, MemberId>,
    /// Votes that have left, by voter and term.
    votes: BTreeMap<(MemberId, Term), MemberId>,
    /// Every entry that was ever written: its predecessor and its payload (log matching).
    entries: BTreeMap<EntryId, (EntryId, Payload)>,
    /// Every committed entry.
    pub committed: BTreeMap<LogIndex, Entry>,
    /// Where each running member has applied to.
    applied: BTreeMap<MemberId, LogIndex>,
    /// Who asked for each read, and what was committed then.
    reads: BTreeMap<ReadId, (MemberId, LogIndex)>,
}

impl Checker {
    /// A member runs again, from its disk.
    pub fn started(&mut self, id: MemberId, members: &Members) {
        let node = members[&id].node.as_ref().expect("it runs");
        assert_eq!(
            node.role(),
            RoleKind::Follower,
            "member {id} starts as a follower"
        );
        assert_eq!(
            node.membership(),
            members[&id].disk.membership(),
            "config-from-log at start"
        );
        self.applied.insert(id, node.status().applied);
    }

    /// A member's state machine is that of a snapshot.
    pub fn installed(&mut self, id: MemberId, last: LogIndex) {
        self.applied.insert(id, last);
    }

    /// A member hands out a write.
    pub fn written(&mut self, id: MemberId, persist: &Persist, before: &Node, members: &Members) {
        let log = &members[&id].written;
        let mut previous = persist.entries.first().map_or(EntryId::default(), |first| {
            let index = first.id.index.previous();
            let term = log.term_at(index);
            EntryId {
                term: term.unwrap_or_else(|| panic!("{id} writes with a gap")),
                index,
            }
        });
        if let Some(first) = persist.entries.first() {
            assert!(
                first.id.index > before.commit(),
                "committed-immutable: {id} cuts at {}",
                first.id
            );
            let leads = before.role() == RoleKind::Leader && before.term() == first.id.term;
            assert!(
                !leads || first.id.index > log.last().index,
                "leader-append-only: {id}"
            );
        }
        for entry in &persist.entries {
            assert_eq!(entry.id.index, previous.index.next(), "log-shape of {id}");
            assert!(entry.id.term >= previous.term, "log-shape of {id}");
            let fact = (previous, entry.payload.clone());
            let known = self.entries.entry(entry.id).or_insert_with(|| fact.clone());
            assert_eq!(
                *known, fact,
                "log-matching: {id} writes another {}",
                entry.id
            );
            previous = entry.id;
        }
        let node = members[&id].node.as_ref().expect("it runs");
        for entry in &persist.entries {
            if let Payload::Membership { membership, .. } = &entry.payload
                && node.role() == RoleKind::Leader
                && entry.id.term == node.term()
            {
                self.membership_proposed(entry.id, membership, log, node);
            }
        }
    }

    /// `one-pending-config` and `config-after-own-term`.
    fn membership_proposed(&self, at: EntryId, to: &Membership, log: &Disk, node: &Node) {
        let own = node.term_at(node.commit()) == Some(at.term);
        assert!(own, "config-after-own-term: {at}, commit {}", node.commit());
        let from = log.membership();
        let newest = log.entries.iter().rev().find(|entry| is_membership(entry));
        let settled = newest.is_none_or(|entry| entry.id.index <= node.commit());
        assert!(
            settled,
            "one-pending-config: {at} while {from:?} is pending"
        );
        if from.outgoing.is_empty() {
            let differ = from.voters.symmetric_difference(&to.voters).count();
            assert!(
                differ <= 1 || to.outgoing == from.voters,
                "config-chain: {from:?} -> {to:?}"
            );
        } else {
            assert_eq!(
                (&to.voters, to.outgoing.len()),
                (&from.voters, 0),
                "config-chain"
            );
        }
    }

    /// A message leaves: `persist-before-send`, `vote-once`.
    pub fn sent(&mut self, envelope: &Envelope, members: &Members) {
        let Envelope {
            from,
            to,
            term,
            message,
        } = envelope;
        let disk = &members[from].disk;
        let HardState {
            term: durable_term,
            vote,
        } = disk.hard_state;
        let says = |what| panic!("persist-before-send: {what}: {envelope:?}, on disk {disk:?}");
        let promises_term = !matches!(
            message,
            Message::PreVote { .. } | Message::PreVoteResponse { .. }
        );
        if promises_term && durable_term < *term {
            says("the term");
        }
        match message {
            Message::Vote { .. } if durable_term == *term && vote != Some(*from) => {
                says("own vote");
            }
            Message::VoteResponse { granted: true } => {
                if durable_term == *term && vote != Some(*to) {
                    says("the vote");
                }
                let given = *self.votes.entry((*from, *term)).or_insert(*to);
                assert_eq!(given, *to, "vote-once: {from} in term {term}");
            }
            Message::AppendResponse {
                outcome: AppendOutcome::Matched { last },
            } if durable_term == *term && disk.last().index < *last => {
                says("the entries");
            }
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::Vote { .. }
            | Message::VoteResponse { .. }
            | Message::Append { .. }
            | Message::AppendResponse { .. }
            | Message::Heartbeat { .. }
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. }
            | Message::TimeoutNow => {}
        }
    }

    /// A member hands out committed entries.
    pub fn applied(&mut self, id: MemberId, before: &Node, apply: &[Entry], members: &Members) {
        let node = members[&id].node.as_ref().expect("it runs");
        for entry in apply {
            let index = entry.id.index;
            let applied = self.applied.insert(id, index).expect("it was started");
            assert_eq!(index, applied.next(), "apply-once: {id}");
            if let Some(known) = self.committed.get(&index) {
                assert_eq!(
                    known, entry,
                    "committed-immutable: {id} applies another {index}"
                );
            } else {
                assert_eq!(
                    node.role_or_before(before),
                    RoleKind::Leader,
                    "{id} commits {index}"
                );
                self.check_quorum(id, entry, before, node, members);
                self.committed.insert(index, entry.clone());
            }
        }
    }

    /// `committed-on-quorum` of durable images, `commit-current-term`.
    fn check_quorum(
        &self,
        id: MemberId,
        entry: &Entry,
        before: &Node,
        node: &Node,
        members: &Members,
    ) {
        // A joint entry commits with both halves. The leave entry may be appended in the same step,
        // and what stood behind the joint entry then counts with the incoming voters alone.
        let still_joint = before.membership().is_joint()
            && (node.membership().is_joint() || entry.id.index <= before.status().membership_index);
        let counted = if still_joint {
            before.membership()
        } else {
            node.membership()
        };
        let holds = |voter: &MemberId| {
            members
                .get(voter)
                // A copy that was lost after it was acknowledged may still be counted: safe, since
                // its member does not vote before it has it again.
                .is_some_and(|member| member.damaged || member.disk.holds(entry.id))
        };
        for voters in [&counted.voters, &counted.outgoing] {
            let copies = voters.iter().filter(|voter| holds(voter)).count();
            assert!(
                voters.is_empty() || copies > voters.len() / 2,
                "committed-on-quorum: {id} commits {} with {copies} durable copies in {voters:?}",
                entry.id
            );
        }
        assert_eq!(
            node.term_at(node.commit()),
            Some(node.term()),
            "commit-current-term: {id}"
        );
    }

    /// A read is about to be registered.
    pub fn read_began(&mut self, id: MemberId, read: ReadId) {
        let committed = self
            .committed
            .last_key_value()
            .map_or(LogIndex(0), |(index, _)| *index);
        self.reads.insert(read, (id, committed));
    }

    /// A read has ended: `read-floor`.
    pub fn read_ended(&mut self, ended: &ReadFloor) {
        let committed = self.reads.remove(&ended.read);
        let (_, committed) = committed.unwrap_or_else(|| panic!("{:?} ended twice", ended.read));
        if let ReadOutcome::Floor(floor) = ended.outcome {
            assert!(
                floor >= committed,
                "read-floor: {floor}, but {committed} was committed before"
            );
        }
    }

    /// A read was refused, so it never began.
    pub fn read_refused(&mut self, read: ReadId) {
        self.reads.remove(&read);
    }

    /// Whoever waits for the reads of a member that crashes learns it from the connection.
    pub fn crashed(&mut self, id: MemberId) {
        self.reads.retain(|_, (asked, _)| *asked != id);
    }

    /// Reads that nobody has answered.
    pub fn open_reads(&self) -> usize {
        self.reads.len()
    }

    /// A member has made a step.
    pub fn stepped(&mut self, id: MemberId, before: &Node, members: &Members) {
        let member = &members[&id];
        let node = member.node.as_ref().expect("it runs");
        assert!(node.term() >= before.term(), "term-monotone: {id}");
        assert!(node.commit() >= before.commit(), "commit-monotone: {id}");
        assert_eq!(
            node.membership(),
            member.written.membership(),
            "config-from-log: {id}"
        );
        assert_eq!(
            node.last(),
            member.written.last(),
            "the writes of {id} are its log"
        );
        let campaigns = matches!(node.role(), RoleKind::Candidate | RoleKind::PreCandidate);
        assert!(
            !campaigns || node.membership().is_voter(id),
            "no-learner-campaign: {id}"
        );
        if node.role() == RoleKind::Leader {
            self.check_leader(id, before, members);
        }
    }

    fn check_leader(&mut self, id: MemberId, before: &Node, members: &Members) {
        let node = members[&id].node.as_ref().expect("it runs");
        let first = *self.leaders.entry(node.term()).or_insert(id);
        assert_eq!(
            first,
            id,
            "one-leader-per-term: {first} and {id} in {}",
            node.term()
        );
        let status = node.status();
        if before.role() != RoleKind::Leader || before.term() != node.term() {
            for (index, entry) in &self.committed {
                let has = *index < status.first || node.term_at(*index) == Some(entry.id.term);
                assert!(
                    has,
                    "leader-completeness: {id} leads {} without {}",
                    node.term(),
                    entry.id
                );
            }
        }
        for peer in &status.peers {
            assert!(peer.next > peer.matched, "match-is-durable: next {peer:?}");
            let Some(member) = members.get(&peer.id) else {
                continue;
            };
            // Until we are told, we count what its disk has lost (N5).
            if member.damaged {
                continue;
            }
            // A member that has moved on to another term may have been overwritten since.
            let same_term = member.disk.hard_state.term <= node.term();
            if let Some(term) = node.term_at(peer.matched)
                && same_term
                && peer.matched > LogIndex(0)
            {
                let id = EntryId {
                    term,
                    index: peer.matched,
                };
                assert!(
                    member.disk.holds(id),
                    "match-is-durable: {peer:?} lacks {id}"
                );
            }
        }
    }
}

fn is_membership(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Membership { .. })
}

/// A leader that removed itself commits the removal and steps down in one step.
trait RoleOrBefore {
    fn role_or_before(&self, before: &Node) -> RoleKind;
}

impl RoleOrBefore for Node {
    fn role_or_before(&self, before: &Node) -> RoleKind {
        let (is, was) = (self.role(), before.role());
        if is == RoleKind::Leader { is } else { was }
    }
}
