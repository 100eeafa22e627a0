//! How entries travel from a leader to one peer: probing, pipelining, falling back to a snapshot.
//!
//! ```text
//!            accepted                     refused
//!   Probe ─────────────▶ Replicate ─────────────────▶ Probe
//!     │                                                 ▲
//!     └──▶ Snapshot (what it needs is trimmed) ─────────┘ (sent, or failed)
//! ```
//! Must not know: quorums. Committing is the caller's next step.

use crate::common::{Common, Need};
use crate::leader::Leader;
use crate::message::{AppendOutcome, Envelope, Message};
use crate::node::Turn;
use crate::output::{Output, SnapshotWanted};
use crate::progress::{Flow, Progress};
use crate::types::{EntryId, LogIndex, MemberId};

/// How far back in an output to look for an append that can carry a newer commit index: about the
/// messages of one step. Looking further would cost more than a message saved.
const ANNOUNCE_LOOK_BACK: usize = 16;

impl Leader {
    /// Sends every peer what its window allows.
    pub fn replicate_to_all(&mut self, common: &Common, out: &mut Output) {
        for (id, peer) in &mut self.peers {
            replicate(common, *id, peer, out);
        }
    }

    /// Sends what the window allows; if that is nothing, asks with an empty append whether what
    /// was sent has arrived. Without it, a lost append at the end of a burst, or a full window of
    /// lost ones, would wait for ever (B13).
    pub fn replicate_or_check(&mut self, common: &Common, to: MemberId, out: &mut Output) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let sent = replicate(common, to, peer, out);
        if !sent && peer.flow == Flow::Replicate && peer.awaits_answers() {
            // What came before the lost appends may be trimmed: ask about the oldest we know then.
            let mut index = peer.next.previous();
            // Planted bug 101: what is trimmed is not asked about.
            if !common.planted(101) {
                index = index.max(common.log.base().index);
            }
            if let Some(term) = common.log.term_at(index) {
                send_append(common, to, peer, EntryId { term, index }, 0, out);
            } else if !common.planted(101) {
                // What was in flight was lost, and is trimmed by now: no append can ask for it.
                ask_for_snapshot(common, to, peer, LogIndex(0), out);
            }
        }
    }

    /// What became of an append, or of a snapshot.
    pub fn append_response(
        &mut self,
        common: &mut Common,
        from: MemberId,
        outcome: AppendOutcome,
        out: &mut Output,
    ) -> Turn {
        let last = common.log.last().index;
        let Some(peer) = self.peers.get_mut(&from) else {
            common.ignore(from, "append answer: not a member", out);
            return Turn::Stay;
        };
        match outcome {
            AppendOutcome::Matched { last: matched } => {
                if matched > last {
                    common.ignore(from, "append answer: beyond our log", out);
                    return Turn::Stay;
                }
                peer.silent_ticks = 0;
                peer.repairing = false;
                let news = peer.matched_to(matched, common.log.base().index);
                let turn = if news {
                    self.advance(common, out)
                } else {
                    Turn::Stay
                };
                if turn == Turn::Stay {
                    self.replicate(common, from, out);
                    self.maybe_hand_over(common, from, out);
                }
                turn
            }
            AppendOutcome::Conflict { refused, hint } => {
                // The peer accepts us; only its log does not agree yet (A14).
                peer.silent_ticks = 0;
                peer.repairing = false;
                let agree = common.log.newest_before(hint.index, hint.term);
                let stale = !peer.refused(refused, agree.index);
                if stale && common.planted(23) {
                    peer.forget_matched(outcome);
                } else if !stale {
                    self.replicate(common, from, out);
                }
                Turn::Stay
            }
            AppendOutcome::Repairing {
                hint,
                commit,
                needs_snapshot,
            } => {
                peer.silent_ticks = 0;
                let first_kept = common.log.base().index;
                // What is trimmed cannot be looked up: behind that, only a snapshot goes on.
                let agree = if hint.index < first_kept {
                    hint.index
                } else {
                    common.log.newest_before(hint.index, hint.term).index
                };
                if !peer.repairs_from(agree.next(), first_kept, needs_snapshot) {
                    return Turn::Stay;
                }
                if needs_snapshot {
                    ask_for_snapshot(common, from, peer, commit, out);
                } else if agree < last || common.commit().min(agree) > commit {
                    self.replicate(common, from, out);
                }
                // When it has all that we have there is nothing to send: its next answer to a
                // heartbeat, or our next entry, goes on.
                Turn::Stay
            }
        }
    }

    /// The transfer of a snapshot to a peer has ended, with the last index it contained.
    pub fn snapshot_sent(&mut self, to: MemberId, outcome: Result<LogIndex, ()>) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        if peer.flow != Flow::Snapshot {
            return;
        }
        // Wait for its acknowledgement or for a heartbeat answer before asking: the snapshot may
        // still be on its way into the peer's state machine, or the peer may be gone.
        let held = outcome.map_or(peer.matched, |last| last.max(peer.matched));
        peer.probe(held.next(), true);
    }

    /// Sends a peer what its window allows.
    fn replicate(&mut self, common: &Common, to: MemberId, out: &mut Output) {
        if let Some(peer) = self.peers.get_mut(&to) {
            replicate(common, to, peer, out);
        }
    }
}

/// Sends `to` what its window allows, and a newer commit index. Returns whether anything was sent.
fn replicate(common: &Common, to: MemberId, peer: &mut Progress, out: &mut Output) -> bool {
    let last = sendable(common, to);
    let mut sent = false;
    while peer.has_room(&common.config) {
        let probing = matches!(peer.flow, Flow::Probe { .. });
        if peer.next > last && !probing {
            break;
        }
        let index = peer.next.previous();
        let Some(term) = common.log.term_at(index) else {
            return ask_for_snapshot(common, to, peer, LogIndex(0), out) || sent;
        };
        let bytes_max = common.config.append_bytes_max;
        send_append(common, to, peer, EntryId { term, index }, bytes_max, out);
        sent = true;
    }
    let news = common.commit().min(peer.next.previous()) > peer.commit_sent;
    if peer.flow == Flow::Replicate && peer.next > last && news {
        announce_commit(common, to, peer, out);
        sent = true;
    }
    sent
}

/// The last entry that `to` may be sent: all, unless it loses its vote. The entry that takes the
/// vote away, and what follows, is withheld from it until it is committed. It may not campaign with
/// that entry, and would vote for nobody without it; but should we crash, the rest may still need
/// its vote to elect one of them (C6).
/// ```text
///   {1,2,3} -> {1,3}, learner 2      1: a x     2: a x     3: a
///   1 dies: 2 may not campaign, 3 needs the vote of 2 and its log is behind. Nobody can win.
/// ```
fn sendable(common: &Common, to: MemberId) -> LogIndex {
    let (last, change) = (common.log.last().index, common.log.membership_index());
    let settled = change <= common.commit();
    if settled || common.log.membership().is_voter(to) {
        return last;
    }
    let voted = common
        .log
        .membership_before()
        .is_some_and(|before| before.is_voter(to));
    if voted { change.previous() } else { last }
}

/// Sends one append after `prev`, with as many entries as fit; with `bytes_max` 0, an empty one.
fn send_append(
    common: &Common,
    to: MemberId,
    peer: &mut Progress,
    prev: EntryId,
    bytes_max: usize,
    out: &mut Output,
) {
    let (entries, bytes) = if bytes_max == 0 {
        Default::default()
    } else {
        common
            .log
            .slice(prev.index.next(), sendable(common, to), bytes_max)
    };
    let end = entries.last().map_or(prev.index, |entry| entry.id.index);
    assert!(
        entries
            .first()
            .is_none_or(|first| first.id.index == prev.index.next()),
        "an append after {prev} begins with {:?}",
        entries.first().map(|first| first.id),
    );
    let commit = common.commit().min(end);
    peer.commit_sent = peer.commit_sent.max(commit);
    if bytes_max > 0 {
        peer.sent(end, bytes);
    }
    common.send(
        to,
        Message::Append {
            prev,
            entries,
            commit,
        },
        Need::Nothing,
        out,
    );
}

/// Tells a peer that needs no entries what is committed (B14): on an append that is about to leave
/// anyway, or on an empty one.
fn announce_commit(common: &Common, to: MemberId, peer: &mut Progress, out: &mut Output) {
    let recent = out.messages.iter_mut().rev().take(ANNOUNCE_LOOK_BACK);
    for Envelope {
        to: receiver,
        term,
        message,
        ..
    } in recent
    {
        if *receiver != to || *term != common.term() {
            continue;
        }
        if let Message::Append {
            prev,
            entries,
            commit,
        } = message
        {
            let end = entries.last().map_or(prev.index, |entry| entry.id.index);
            let news = common.commit().min(end);
            if end.next() == peer.next && news > *commit {
                *commit = news;
                peer.commit_sent = peer.commit_sent.max(news);
                return;
            }
            break;
        }
    }
    let index = peer.next.previous();
    if let Some(term) = common.log.term_at(index) {
        send_append(common, to, peer, EntryId { term, index }, 0, out);
    }
}

/// What the peer needs next is trimmed: never name a previous entry that is not in the log (B8). A
/// peer that is silent would not receive a snapshot either. It must reach as far as `known`, which
/// the peer knows to be committed.
fn ask_for_snapshot(
    common: &Common,
    to: MemberId,
    peer: &mut Progress,
    known: LogIndex,
    out: &mut Output,
) -> bool {
    if peer.silent_ticks >= common.config.election_ticks {
        return false;
    }
    peer.await_snapshot();
    let (term, at_least) = (common.term(), common.log.base().index.max(known));
    out.snapshots.push(SnapshotWanted { to, term, at_least });
    true
}
