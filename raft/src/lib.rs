//! Consensus as a function: Raft without clock, disk, network, randomness or logging.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod membership;
mod message;
mod output;
mod types;

pub use membership::{Change, Membership};
pub use message::{AppendOutcome, Entry, Envelope, Message, Payload, SnapshotMeta};
pub use output::{
    Notice, Output, PeerStatus, Persist, ReadFloor, ReadOutcome, Refusal, RoleChange, RoleKind,
    SnapshotWanted, Status,
};
pub use types::{EntryId, HardState, LogIndex, MemberId, PersistId, ReadId, Term};
