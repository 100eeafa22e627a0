//! Followers: appending what the leader sends, and asking it for read floors.
//!
//! Every answer waits for the disk (thesis §10.2.1): an acknowledgement of entries for those
//! entries, any answer for the term it carries. Must not know: how a leader uses the answers.

use crate::common::{Common, Need, Repairing};
use crate::message::{AppendOutcome, Entry, Envelope, Message, SnapshotMeta};
use crate::node::Turn;
use crate::output::{Notice, Output, RoleChange};
use crate::types::{EntryId, LogIndex, MemberId, Term};
use alloc::vec::Vec;

/// A message of our term, or a request for a vote, to a follower.
pub(crate) fn step(common: &mut Common, envelope: Envelope, out: &mut Output) -> Turn {
    let Envelope {
        from,
        to: _,
        term,
        message,
    } = envelope;
    match message {
        Message::PreVote { last } => common.answer_pre_vote(from, term, last, out),
        Message::Vote { last, transfer: _ } => common.answer_vote(from, last, out),
        // Followers do not campaign: these answer a campaign we have already left.
        Message::PreVoteResponse { granted: _ } | Message::VoteResponse { granted: _ } => {}
        Message::Append {
            prev,
            entries,
            commit,
        } => {
            append(common, from, prev, entries, commit, out);
        }
        Message::Heartbeat { commit, round } => heartbeat(common, from, commit, round, out),
        // We led this term until we lost the quorum; nothing is counted any more.
        Message::AppendResponse { outcome: _ } | Message::HeartbeatResponse { round: _ } => {}
        Message::ReadIndex { read } => {
            let answer = Message::ReadIndexResponse { read, floor: None };
            common.send(from, answer, Need::HardState, out);
        }
        Message::ReadIndexResponse { read, floor } => common.end_forwarded(read, floor, out),
        Message::TimeoutNow => return timeout_now(common, from, out),
    }
    Turn::Stay
}

/// Appends `entries` after `prev`, or says where the logs may agree.
fn append(
    common: &mut Common,
    from: MemberId,
    prev: EntryId,
    entries: Vec<Entry>,
    commit: LogIndex,
    out: &mut Output,
) {
    if !is_well_formed(prev, &entries, common.term()) {
        common.ignore(from, "append: entries out of order", out);
        return;
    }
    if let Some(repair) = common.repair.filter(|repair| repair.state_is_lost) {
        return answer_repairing(common, from, repair, Need::HardState, out);
    }
    if let Some(ours) = common.log.term_at(prev.index)
        && prev.index <= common.commit()
    {
        assert!(
            ours == prev.term,
            "entry {} is committed here with term {ours}, and the leader of term {} has it with \
             term {}: one of the two has lost its data",
            prev.index,
            common.term(),
            prev.term,
        );
    }
    // Whatever is committed agrees, even where the log no longer reaches back to it (B5).
    if prev.index > common.commit() && !common.log.contains(prev) {
        // Skip over all that cannot agree: everything behind `prev`, and our terms newer than its.
        let limit = prev.index.previous().min(common.log.last().index);
        let hint = common.log.newest_before(limit, prev.term);
        let outcome = AppendOutcome::Conflict {
            refused: prev.index,
            hint,
        };
        answer(common, from, outcome, Need::HardState, out);
        return;
    }
    let end = entries.last().map_or(prev.index, |entry| entry.id.index);
    store(common, entries, out);
    // Below our commit index every leader's log equals ours (thesis §3.6.3).
    let last = end.max(common.commit());
    common.commit_to(commit.min(last));
    let need = if common.planted(60) {
        Need::Nothing
    } else {
        Need::Log(last)
    };
    let outcome = AppendOutcome::Matched { last };
    answer(common, from, outcome, need, out);
}

/// Answers an append. Under repair the leader learns the same, in a way that counts nowhere: it
/// must not take our copies for a quorum's, nor our contact for a voter's.
fn answer(
    common: &mut Common,
    from: MemberId,
    outcome: AppendOutcome,
    need: Need,
    out: &mut Output,
) {
    let Some(mut repair) = common.repair else {
        return common.send(from, Message::AppendResponse { outcome }, need, out);
    };
    match outcome {
        AppendOutcome::Matched { last: index } => {
            let term = common.log.term_at(index);
            repair.hint = term.map_or(common.log.base(), |term| EntryId { term, index });
        }
        AppendOutcome::Conflict { refused: _, hint } => repair.hint = hint,
        AppendOutcome::Repairing { .. } => {}
    }
    common.repair = Some(repair);
    answer_repairing(common, from, repair, need, out);
}

fn answer_repairing(
    common: &Common,
    from: MemberId,
    repair: Repairing,
    need: Need,
    out: &mut Output,
) {
    let outcome = AppendOutcome::Repairing {
        hint: repair.hint,
        commit: common.commit(),
        needs_snapshot: repair.state_is_lost,
    };
    common.send(from, Message::AppendResponse { outcome }, need, out);
}

/// Adds what is new of `entries`. The log is cut only where an entry contradicts it: a late or
/// repeated append, which ends earlier than the log, removes nothing (B5).
fn store(common: &mut Common, entries: Vec<Entry>, out: &mut Output) {
    let before = common.log.membership_index();
    let mut cut = None;
    for entry in entries {
        let EntryId { term, index } = entry.id;
        if index < common.log.base().index || common.log.term_at(index) == Some(term) {
            continue;
        }
        if index <= common.log.last().index {
            assert!(
                index > common.commit(),
                "entry {index} is committed here with term {:?}, and the leader of term {} has it \
                 with term {term}: one of the two has lost its data",
                common.log.term_at(index),
                common.term(),
            );
            let keep_memberships = common.planted(42);
            common.log.cut(index, keep_memberships);
            cut = Some(index);
        }
        common.log.push(entry);
    }
    if let Some(from) = cut {
        out.notices.push(Notice::LogCut { from });
    }
    let rolled_back = cut.is_some_and(|from| before >= from);
    let index = common.log.membership_index();
    if rolled_back || index != before {
        // One that a cut removed and the new entries replaced was rolled back first.
        out.notices
            .push(Notice::MembershipChanged { index, rolled_back });
    }
}

fn is_well_formed(prev: EntryId, entries: &[Entry], term: Term) -> bool {
    let mut last = prev;
    let in_order = entries.iter().all(|entry| {
        let follows =
            last.index.0.checked_add(1) == Some(entry.id.index.0) && entry.id.term >= last.term;
        last = entry.id;
        follows && entry.brings_a_usable_membership()
    });
    in_order && last.term <= term && (prev.index.0 == 0) == (prev.term.0 == 0)
}

fn heartbeat(common: &mut Common, from: MemberId, commit: LogIndex, round: u64, out: &mut Output) {
    if let Some(repair) = common.repair {
        // The commit index rests on acknowledgements of entries that we may have lost: what stands
        // in their places may be older, and only an append tells.
        return answer_repairing(common, from, repair, Need::HardState, out);
    }
    // It carries what we have acknowledged, at most (B6); more would be about another log.
    if commit <= common.log.last().index {
        common.commit_to(commit);
    } else {
        common.ignore(from, "heartbeat: commit index beyond our log", out);
    }
    common.send(
        from,
        Message::HeartbeatResponse { round },
        Need::HardState,
        out,
    );
}

/// The leader hands over its office: campaign at once, without asking first. The flag of the
/// campaign tells the voters that their leader has agreed (A17).
fn timeout_now(common: &Common, from: MemberId, out: &mut Output) -> Turn {
    if common.leader() != Some(from) {
        common.ignore(from, "timeout-now: not from our leader", out);
        return Turn::Stay;
    }
    if !common.may_campaign() {
        common.ignore(from, "timeout-now: not a voter", out);
        return Turn::Stay;
    }
    Turn::Campaign { transfer: true }
}

/// One tick passes.
pub(crate) fn tick(common: &mut Common, out: &mut Output) -> Turn {
    common.age_forwarded(out);
    if !common.timer.tick() {
        return Turn::Stay;
    }
    if common.may_campaign() {
        return Turn::Ask(RoleChange::ElectionTimeout);
    }
    // Whoever may not campaign still stops asking a leader that is silent.
    common.timer.restart();
    common.set_leader(None, out);
    Turn::Stay
}

/// Whether a snapshot holds anything that is not here.
pub(crate) fn is_news(common: &Common, meta: &SnapshotMeta) -> bool {
    let (index, commit) = (meta.last.index, common.commit());
    index > commit || (common.lacks_state() && index == commit)
}

/// Tells the leader how far we are for certain, so that it need not wait for the next append.
pub(crate) fn acknowledge_commit(common: &Common, leader: MemberId, out: &mut Output) {
    let last = common.commit();
    let outcome = AppendOutcome::Matched { last };
    let answer = Message::AppendResponse { outcome };
    common.send(leader, answer, Need::Log(last), out);
}

/// Takes over a snapshot that is durable here, log and state machine. Returns whether it held
/// anything new.
pub(crate) fn install(
    common: &mut Common,
    from: MemberId,
    meta: &SnapshotMeta,
    out: &mut Output,
) -> bool {
    let news = is_news(common, meta);
    if news {
        let before = common.log.membership_index();
        let first_cut = common.log.base().index.next();
        if common.log.install(meta) {
            out.notices.push(Notice::LogCut { from: first_cut });
        }
        common.restart_after(meta.last.index);
        common.repair = common.repair.map(|_| Repairing {
            hint: meta.last,
            state_is_lost: false,
        });
        out.notices
            .push(Notice::SnapshotInstalled { last: meta.last });
        let index = common.log.membership_index();
        if index != before {
            out.notices.push(Notice::MembershipChanged {
                index,
                rolled_back: index < before,
            });
        }
    } else if let Some(ours) = common.log.term_at(meta.last.index) {
        // Both are said to be committed; going on would spread the difference (D6).
        assert!(
            ours == meta.last.term,
            "the snapshot of member {from} ends at {}, but entry {} is committed here with term \
             {ours}: one of the two has lost its data",
            meta.last,
            meta.last.index,
        );
    }
    // If it held nothing new, the leader learns how far we are instead (D2).
    let last = common.commit();
    let outcome = AppendOutcome::Matched { last };
    answer(common, from, outcome, Need::Log(last), out);
    news
}
