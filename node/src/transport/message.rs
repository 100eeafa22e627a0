//! What members say to each other besides Raft, and all of it as frame bodies.
//!
//! Kinds and variants are numbered for the protocol: never renumber. Decoding is bounded and
//! total: any bytes give a message or a [`DecodeError`]. Must not know: sockets.

use super::frame::put_frame;
use super::hello::{put_urls, urls};
use super::raft_codec;
use super::wire::{DecodeError, Put, Take};
use quorate_raft::{Envelope, LogIndex, Term};
use std::sync::Arc;

/// Numbers of the frames.
pub(super) mod kind {
    pub const HELLO: u8 = 1;
    pub const HELLO_REPLY: u8 = 2;
    pub const RAFT: u8 = 3;
    pub const FORWARD: u8 = 4;
    pub const FORWARD_REFUSED: u8 = 5;
    pub const CALL: u8 = 6;
    pub const CALL_REPLY: u8 = 7;
    pub const PING: u8 = 8;
    pub const PONG: u8 = 9;
    pub const MEMBERSHIP: u8 = 10;
    pub const SNAPSHOT_OFFER: u8 = 11;
    pub const SNAPSHOT_WANTED: u8 = 12;
    pub const SNAPSHOT_CHUNK: u8 = 13;
    pub const SNAPSHOT_END: u8 = 14;
}

/// Why forwarded proposals were not proposed. None of them was, so each may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardRefusal {
    /// The receiver does not lead, or leads in another term.
    NotLeader,
    /// Leadership is being handed over, or too much waits to be committed.
    Busy,
    /// The receiver cannot read them, or a peer may not ask for them. Another try would end alike.
    Inadmissible,
}

/// A membership change that a follower asks of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Add a member.
    Add {
        /// Its ID.
        id: u64,
        /// Where it is reached.
        peer_urls: Vec<String>,
        /// As a learner.
        learner: bool,
        /// Compare-and-set; with it, a change that is in force already counts as done.
        expected: Option<u64>,
    },
    /// Learner to voter.
    Promote {
        /// Whom.
        id: u64,
        /// Compare-and-set.
        expected: Option<u64>,
    },
    /// Remove for good.
    Remove {
        /// Whom.
        id: u64,
        /// Compare-and-set.
        expected: Option<u64>,
    },
    /// Replace peer URLs.
    Update {
        /// Whose.
        id: u64,
        /// All of them.
        peer_urls: Vec<String>,
    },
}

/// Why a [`Call`] was refused; mirrors the replica's admin errors that a leader can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRefusal {
    /// The receiver does not lead (any more).
    NotLeader,
    /// Compare-and-set failed; the current index.
    ConfigChanged(u64),
    /// Another change is under way.
    Pending,
    /// No such member.
    MemberNotFound,
    /// The ID is in use.
    MemberIdExists,
    /// The ID was removed.
    MemberIdRemoved,
    /// A peer URL is in use.
    PeerUrlExists,
    /// Not a learner.
    NotLearner,
    /// The learner lags.
    LearnerNotReady,
    /// Too many learners.
    TooManyLearners,
    /// Too few started members.
    NotEnoughStarted,
    /// Too few connected members.
    Unhealthy,
    /// The change makes no sense (no voter would be left, URLs missing).
    Invalid,
}

impl CallRefusal {
    /// One word, as a label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotLeader => "NotLeader",
            Self::ConfigChanged(_) => "ConfigChanged",
            Self::Pending => "Pending",
            Self::MemberNotFound => "MemberNotFound",
            Self::MemberIdExists => "MemberIdExists",
            Self::MemberIdRemoved => "MemberIdRemoved",
            Self::PeerUrlExists => "PeerUrlExists",
            Self::NotLearner => "NotLearner",
            Self::LearnerNotReady => "LearnerNotReady",
            Self::TooManyLearners => "TooManyLearners",
            Self::NotEnoughStarted => "NotEnoughStarted",
            Self::Unhealthy => "Unhealthy",
            Self::Invalid => "Invalid",
        }
    }
}

/// One message of the stream between two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Raft.
    Raft(Envelope),
    /// A follower hands proposals to the leader of `term`; in another term they are refused, which
    /// is what lets the follower know when one can never be applied any more.
    Forward {
        /// The leader's term as the follower knows it.
        term: Term,
        /// Encoded commands, each with the follower's own counter, by which a refusal names it.
        commands: Vec<(u64, Arc<[u8]>)>,
    },
    /// The leader did not propose these.
    ForwardRefused {
        /// From the forward that is refused: one that was sent again in a later term is another
        /// matter, and may have been proposed.
        term: Term,
        /// Why.
        why: ForwardRefusal,
        /// The receiver's own counters of the commands.
        counters: Vec<u64>,
    },
    /// A follower asks the leader for a membership change.
    Call {
        /// The asker's name for the call.
        call: u64,
        /// What is asked.
        request: Call,
    },
    /// The answer.
    CallReply {
        /// The asker's name for the call.
        call: u64,
        /// The index of the entry that carried the change, or why not.
        outcome: Result<LogIndex, CallRefusal>,
    },
    /// Measures the round trip.
    Ping {
        /// The sender's clock, ns; comes back unchanged.
        sent_ns: u64,
    },
    /// Answer to a ping.
    Pong {
        /// From the ping.
        sent_ns: u64,
    },
}

impl PeerMessage {
    /// Appends the message as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raft(envelope) => {
                put_frame(out, kind::RAFT, |to| raft_codec::encode(envelope, to))
            }
            Self::Forward { term, commands } => put_frame(out, kind::FORWARD, |to| {
                to.put_u64(term.0);
                to.put_len(commands.len());
                for (counter, command) in commands {
                    to.put_u64(*counter);
                    to.put_bytes(command);
                }
            }),
            Self::ForwardRefused {
                term,
                why,
                counters,
            } => put_frame(out, kind::FORWARD_REFUSED, |to| {
                to.put_u64(term.0);
                to.put_u8(match why {
                    ForwardRefusal::NotLeader => 1,
                    ForwardRefusal::Busy => 2,
                    ForwardRefusal::Inadmissible => 3,
                });
                to.put_len(counters.len());
                counters.iter().for_each(|counter| to.put_u64(*counter));
            }),
            Self::Call { call, request } => put_frame(out, kind::CALL, |to| {
                to.put_u64(*call);
                put_call(request, to);
            }),
            Self::CallReply { call, outcome } => put_frame(out, kind::CALL_REPLY, |to| {
                to.put_u64(*call);
                put_call_outcome(outcome, to);
            }),
            Self::Ping { sent_ns } => put_frame(out, kind::PING, |to| to.put_u64(*sent_ns)),
            Self::Pong { sent_ns } => put_frame(out, kind::PONG, |to| to.put_u64(*sent_ns)),
        }
    }

    /// Reads the body of a frame of the message stream.
    ///
    /// # Errors
    /// [`DecodeError`]; also for kinds that do not belong into the stream.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let mut take = Take(body);
        let message = match kind {
            kind::RAFT => return raft_codec::decode(body).map(Self::Raft),
            kind::FORWARD => {
                let term = Term(take.u64("term")?);
                let count = take.count(12, "number of commands")?;
                let commands = (0..count)
                    .map(|_| Ok((take.u64("counter")?, take.shared("command")?)))
                    .collect::<Result<_, _>>()?;
                Self::Forward { term, commands }
            }
            kind::FORWARD_REFUSED => {
                let term = Term(take.u64("term")?);
                let why = match take.u8("refusal")? {
                    1 => ForwardRefusal::NotLeader,
                    2 => ForwardRefusal::Busy,
                    3 => ForwardRefusal::Inadmissible,
                    other => return Err(unknown("refusal", other)),
                };
                let count = take.count(8, "number of counters")?;
                let counters = (0..count)
                    .map(|_| take.u64("counter"))
                    .collect::<Result<_, _>>()?;
                Self::ForwardRefused {
                    term,
                    why,
                    counters,
                }
            }
            kind::CALL => Self::Call {
                call: take.u64("call")?,
                request: call(&mut take)?,
            },
            kind::CALL_REPLY => Self::CallReply {
                call: take.u64("call")?,
                outcome: call_outcome(&mut take)?,
            },
            kind::PING => Self::Ping {
                sent_ns: take.u64("time")?,
            },
            kind::PONG => Self::Pong {
                sent_ns: take.u64("time")?,
            },
            other => return Err(unknown("frame kind", other)),
        };
        take.finish()?;
        Ok(message)
    }
}

pub(super) fn unknown(what: &'static str, value: u8) -> DecodeError {
    DecodeError::UnknownVariant {
        what,
        value: u64::from(value),
    }
}

fn put_option(value: Option<u64>, to: &mut Vec<u8>) {
    to.put_bool(value.is_some());
    to.put_u64(value.unwrap_or(0));
}

fn option(take: &mut Take<'_>, what: &'static str) -> Result<Option<u64>, DecodeError> {
    let known = take.bool(what)?;
    let value = take.u64(what)?;
    Ok(known.then_some(value))
}

fn put_call(call: &Call, to: &mut Vec<u8>) {
    match call {
        Call::Add {
            id,
            peer_urls,
            learner,
            expected,
        } => {
            to.put_u8(1);
            to.put_u64(*id);
            put_urls(peer_urls, to);
            to.put_bool(*learner);
            put_option(*expected, to);
        }
        Call::Promote { id, expected } => {
            to.put_u8(2);
            to.put_u64(*id);
            put_option(*expected, to);
        }
        Call::Remove { id, expected } => {
            to.put_u8(3);
            to.put_u64(*id);
            put_option(*expected, to);
        }
        Call::Update { id, peer_urls } => {
            to.put_u8(4);
            to.put_u64(*id);
            put_urls(peer_urls, to);
        }
    }
}

fn call(take: &mut Take<'_>) -> Result<Call, DecodeError> {
    let number = take.u8("call")?;
    let id = take.u64("member")?;
    Ok(match number {
        1 => Call::Add {
            id,
            peer_urls: urls(take)?,
            learner: take.bool("learner")?,
            expected: option(take, "expected")?,
        },
        2 => Call::Promote {
            id,
            expected: option(take, "expected")?,
        },
        3 => Call::Remove {
            id,
            expected: option(take, "expected")?,
        },
        4 => Call::Update {
            id,
            peer_urls: urls(take)?,
        },
        other => return Err(unknown("call", other)),
    })
}

fn put_call_outcome(outcome: &Result<LogIndex, CallRefusal>, to: &mut Vec<u8>) {
    let (number, value) = match outcome {
        Ok(index) => (0, index.0),
        Err(CallRefusal::NotLeader) => (1, 0),
        Err(CallRefusal::ConfigChanged(current)) => (2, *current),
        Err(CallRefusal::Pending) => (3, 0),
        Err(CallRefusal::MemberNotFound) => (4, 0),
        Err(CallRefusal::MemberIdExists) => (5, 0),
        Err(CallRefusal::PeerUrlExists) => (6, 0),
        Err(CallRefusal::NotLearner) => (7, 0),
        Err(CallRefusal::LearnerNotReady) => (8, 0),
        Err(CallRefusal::TooManyLearners) => (9, 0),
        Err(CallRefusal::NotEnoughStarted) => (10, 0),
        Err(CallRefusal::Unhealthy) => (11, 0),
        Err(CallRefusal::Invalid) => (12, 0),
        Err(CallRefusal::MemberIdRemoved) => (13, 0),
    };
    to.put_u8(number);
    to.put_u64(value);
}

fn call_outcome(take: &mut Take<'_>) -> Result<Result<LogIndex, CallRefusal>, DecodeError> {
    let number = take.u8("call outcome")?;
    let value = take.u64("call outcome")?;
    Ok(Err(match number {
        0 => return Ok(Ok(LogIndex(value))),
        1 => CallRefusal::NotLeader,
        2 => CallRefusal::ConfigChanged(value),
        3 => CallRefusal::Pending,
        4 => CallRefusal::MemberNotFound,
        5 => CallRefusal::MemberIdExists,
        6 => CallRefusal::PeerUrlExists,
        7 => CallRefusal::NotLearner,
        8 => CallRefusal::LearnerNotReady,
        9 => CallRefusal::TooManyLearners,
        10 => CallRefusal::NotEnoughStarted,
        11 => CallRefusal::Unhealthy,
        12 => CallRefusal::Invalid,
        13 => CallRefusal::MemberIdRemoved,
        other => return Err(unknown("call outcome", other)),
    }))
}

/// What a member answers to a query: the replicated membership in the state machine's encoding.
pub fn put_membership(encoded: &[u8], out: &mut Vec<u8>) {
    put_frame(out, kind::MEMBERSHIP, |to| to.extend_from_slice(encoded));
}
