//! Raft envelopes as bytes. Numbers of variants are part of the protocol: never renumber.
//!
//! Must not know: sockets, frames.

use super::wire::{DecodeError, Put, Take};
use quorate_raft::{
    AppendOutcome, Entry, EntryId, Envelope, LogIndex, MemberId, Membership, Message, Payload,
    ReadId, SnapshotMeta, Term,
};
use std::collections::BTreeSet;

/// Most members of one membership on the wire; far above any sensible cluster.
const MEMBERS_MAX: u64 = 1024;
/// Smallest entry: its ID and the kind of payload.
const ENTRY_BYTES_MIN: usize = 17;

mod kind {
    pub(super) const PRE_VOTE: u8 = 1;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 2;
    pub(super) const VOTE: u8 = 3;
    pub(super) const VOTE_RESPONSE: u8 = 4;
    pub(super) const APPEND: u8 = 5;
    pub(super) const APPEND_RESPONSE: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 8;
    pub(super) const READ_INDEX: u8 = 9;
    pub(super) const READ_INDEX_RESPONSE: u8 = 10;
    pub(super) const TIMEOUT_NOW: u8 = 11;
}

/// Appends the encoding of `envelope`.
pub fn encode(envelope: &Envelope, to: &mut Vec<u8>) {
    to.put_u64(envelope.from.0);
    to.put_u64(envelope.to.0);
    to.put_u64(envelope.term.0);
    match &envelope.message {
        Message::PreVote { last } => {
            to.put_u8(kind::PRE_VOTE);
            put_entry_id(*last, to);
        }
        Message::PreVoteResponse { granted } => {
            to.put_u8(kind::PRE_VOTE_RESPONSE);
            to.put_bool(*granted);
        }
        Message::Vote { last, transfer } => {
            to.put_u8(kind::VOTE);
            put_entry_id(*last, to);
            to.put_bool(*transfer);
        }
        Message::VoteResponse { granted } => {
            to.put_u8(kind::VOTE_RESPONSE);
            to.put_bool(*granted);
        }
        Message::Append {
            prev,
            entries,
            commit,
        } => {
            to.put_u8(kind::APPEND);
            put_entry_id(*prev, to);
            to.put_u64(commit.0);
            to.put_len(entries.len());
            entries.iter().for_each(|entry| put_entry(entry, to));
        }
        Message::AppendResponse { outcome } => {
            to.put_u8(kind::APPEND_RESPONSE);
            put_outcome(*outcome, to);
        }
        Message::Heartbeat { commit, round } => {
            to.put_u8(kind::HEARTBEAT);
            to.put_u64(commit.0);
            to.put_u64(*round);
        }
        Message::HeartbeatResponse { round } => {
            to.put_u8(kind::HEARTBEAT_RESPONSE);
            to.put_u64(*round);
        }
        Message::ReadIndex { read } => {
            to.put_u8(kind::READ_INDEX);
            to.put_u64(read.0);
        }
        Message::ReadIndexResponse { read, floor } => {
            to.put_u8(kind::READ_INDEX_RESPONSE);
            to.put_u64(read.0);
            to.put_bool(floor.is_some());
            to.put_u64(floor.map_or(0, |floor| floor.0));
        }
        Message::TimeoutNow => to.put_u8(kind::TIMEOUT_NOW),
    }
}

/// Reads one envelope.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let mut take = Take(bytes);
    let envelope = Envelope {
        from: MemberId(take.u64("from")?),
        to: MemberId(take.u64("to")?),
        term: Term(take.u64("term")?),
        message: message(&mut take)?,
    };
    take.finish()?;
    Ok(envelope)
}

fn message(take: &mut Take<'_>) -> Result<Message, DecodeError> {
    let message = match take.u8("message kind")? {
        kind::PRE_VOTE => Message::PreVote {
            last: entry_id(take)?,
        },
        kind::PRE_VOTE_RESPONSE => Message::PreVoteResponse {
            granted: take.bool("granted")?,
        },
        kind::VOTE => Message::Vote {
            last: entry_id(take)?,
            transfer: take.bool("transfer")?,
        },
        kind::VOTE_RESPONSE => Message::VoteResponse {
            granted: take.bool("granted")?,
        },
        kind::APPEND => append(take)?,
        kind::APPEND_RESPONSE => Message::AppendResponse {
            outcome: outcome(take)?,
        },
        kind::HEARTBEAT => Message::Heartbeat {
            commit: LogIndex(take.u64("commit")?),
            round: take.u64("round")?,
        },
        kind::HEARTBEAT_RESPONSE => Message::HeartbeatResponse {
            round: take.u64("round")?,
        },
        kind::READ_INDEX => Message::ReadIndex {
            read: ReadId(take.u64("read")?),
        },
        kind::READ_INDEX_RESPONSE => {
            let read = ReadId(take.u64("read")?);
            let known = take.bool("has floor")?;
            let floor = LogIndex(take.u64("floor")?);
            Message::ReadIndexResponse {
                read,
                floor: known.then_some(floor),
            }
        }
        kind::TIMEOUT_NOW => Message::TimeoutNow,
        other => {
            let value = u64::from(other);
            return Err(DecodeError::UnknownVariant {
                what: "message kind",
                value,
            });
        }
    };
    Ok(message)
}

fn append(take: &mut Take<'_>) -> Result<Message, DecodeError> {
    let prev = entry_id(take)?;
    let commit = LogIndex(take.u64("commit")?);
    let count = take.count(ENTRY_BYTES_MIN, "number of entries")?;
    let entries = (0..count).map(|_| entry(take)).collect::<Result<_, _>>()?;
    Ok(Message::Append {
        prev,
        entries,
        commit,
    })
}

fn put_outcome(outcome: AppendOutcome, to: &mut Vec<u8>) {
    match outcome {
        AppendOutcome::Matched { last } => {
            to.put_u8(1);
            to.put_u64(last.0);
        }
        AppendOutcome::Conflict { refused, hint } => {
            to.put_u8(2);
            to.put_u64(refused.0);
            put_entry_id(hint, to);
        }
        AppendOutcome::Repairing {
            hint,
            commit,
            needs_snapshot,
        } => {
            to.put_u8(3);
            put_entry_id(hint, to);
            to.put_u64(commit.0);
            to.put_u8(u8::from(needs_snapshot));
        }
    }
}

fn outcome(take: &mut Take<'_>) -> Result<AppendOutcome, DecodeError> {
    match take.u8("append outcome")? {
        1 => Ok(AppendOutcome::Matched {
            last: LogIndex(take.u64("matched")?),
        }),
        2 => Ok(AppendOutcome::Conflict {
            refused: LogIndex(take.u64("refused")?),
            hint: entry_id(take)?,
        }),
        3 => Ok(AppendOutcome::Repairing {
            hint: entry_id(take)?,
            commit: LogIndex(take.u64("commit")?),
            needs_snapshot: take.bool("whether it needs a snapshot")?,
        }),
        other => Err(DecodeError::UnknownVariant {
            what: "append outcome",
            value: u64::from(other),
        }),
    }
}

fn put_entry_id(id: EntryId, to: &mut Vec<u8>) {
    to.put_u64(id.term.0);
    to.put_u64(id.index.0);
}

fn entry_id(take: &mut Take<'_>) -> Result<EntryId, DecodeError> {
    Ok(EntryId {
        term: Term(take.u64("term")?),
        index: LogIndex(take.u64("index")?),
    })
}

fn put_entry(entry: &Entry, to: &mut Vec<u8>) {
    put_entry_id(entry.id, to);
    match &entry.payload {
        Payload::Empty => to.put_u8(0),
        Payload::Command(command) => {
            to.put_u8(1);
            to.put_bytes(command);
        }
        Payload::Membership {
            membership,
            context,
        } => {
            to.put_u8(2);
            put_membership(membership, to);
            to.put_bytes(context);
        }
    }
}

fn entry(take: &mut Take<'_>) -> Result<Entry, DecodeError> {
    let id = entry_id(take)?;
    let payload = match take.u8("payload kind")? {
        0 => Payload::Empty,
        1 => Payload::Command(take.shared("command")?),
        2 => Payload::Membership {
            membership: membership(take)?.into(),
            context: take.shared("context")?,
        },
        other => {
            let value = u64::from(other);
            return Err(DecodeError::UnknownVariant {
                what: "payload kind",
                value,
            });
        }
    };
    Ok(Entry { id, payload })
}

fn put_membership(membership: &Membership, to: &mut Vec<u8>) {
    let Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        leave_context,
    } = membership;
    for set in [voters, outgoing, learners, learners_next] {
        to.put_len(set.len());
        set.iter().for_each(|id| to.put_u64(id.0));
    }
    to.put_bytes(leave_context);
}

fn membership(take: &mut Take<'_>) -> Result<Membership, DecodeError> {
    Ok(Membership {
        voters: id_set(take)?,
        outgoing: id_set(take)?,
        learners: id_set(take)?,
        learners_next: id_set(take)?,
        leave_context: take.shared("leave context")?,
    })
}

fn id_set(take: &mut Take<'_>) -> Result<BTreeSet<MemberId>, DecodeError> {
    let count = take.count(8, "number of members")?;
    if count as u64 > MEMBERS_MAX {
        let value = count as u64;
        return Err(DecodeError::TooLarge {
            what: "number of members",
            value,
            max: MEMBERS_MAX,
        });
    }
    (0..count)
        .map(|_| take.u64("member").map(MemberId))
        .collect()
}

/// Appends the encoding of a snapshot's position.
pub(super) fn put_snapshot_meta(meta: &SnapshotMeta, to: &mut Vec<u8>) {
    put_entry_id(meta.last, to);
    to.put_u64(meta.membership_index.0);
    put_membership(&meta.membership, to);
}

pub(super) fn snapshot_meta(take: &mut Take<'_>) -> Result<SnapshotMeta, DecodeError> {
    let last = entry_id(take)?;
    let membership_index = LogIndex(take.u64("membership index")?);
    Ok(SnapshotMeta {
        last,
        membership: membership(take)?,
        membership_index,
    })
}
