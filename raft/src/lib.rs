//! Consensus as a function: Raft without clock, disk, network, randomness or logging.
//!
//! A [`Node`] is one member. Whatever happens to it is a call (a tick, a message, a proposal, a
//! completed write), and whatever it wants done is added to an [`Output`]. It holds no handle to
//! anything, so a test can replay it and a simulator can run a thousand of them.
//!
//! # The protocol
//!
//! Raft as in Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014), whose sections are
//! cited throughout, with these decisions where it leaves a choice:
//!
//! - **Elections** begin with a pre-vote (§9.6) and leaders step down when they hear from no quorum
//!   (§6.2). Both are always on. A voter that hears a leader neither votes nor adopts a term,
//!   except
//!   in a transfer, which the leader itself has begun.
//! - **Writing is asynchronous** (§10.2.1). A leader's appends leave while its own disk still
//!   writes;
//!   its copy is one vote among others and counts when durable. Several writes may be in flight and
//!   complete in any order; they count as far as no earlier one is missing.
//! - **A membership is in force when it is appended** (§4.1), on every member, and undone when its
//!   entry is cut. Changes of one voter are simple, others joint (§4.3); one at a time, and none
//!   before the leader has committed an entry of its own term.
//! - **An entry that takes away a vote** is withheld from the member that loses it until it is
//!   committed, and a leader outside the incoming voters lets another one leave a joint membership.
//!   A member may neither campaign with such an entry nor vote for a log without it, and the others
//!   could need its vote (`replicate.rs`, `change.rs`).
//! - **Reads** are confirmed by a heartbeat round that begins after them (§6.4), also for
//!   followers.
//!   There are no leases: no promise depends on a clock.
//!
//! # The contract
//!
//! The order in which the parts of an [`Output`] may be carried out is the documentation of its
//! fields, and it is all a driver must obey. In short: `messages` may leave at once; an element of
//! `after_persist` when its write and all before it are durable; `apply` and `reads` at once, in
//! order. A message may be lost, repeated, delayed and reordered. A write may not be lost once it
//! is reported by [`Node::persisted`], and the driver must stop when a write fails.
//!
//! What cannot be, if every member keeps this contract, panics with the values in question: a
//! member that finds another's data lost must not go on.
//!
//! # Reading order
//!
//! `types`, `membership`, `message`, `output`: the words. `node`: the entry points. `roles`: terms
//! and changes of role. `follower`, `candidate` (with `vote`), `leader`: what a role does. Then the
//! leader's parts, `replicate` (with `progress`), `change`, `read`, `transfer`; and what all stand
//! on, `common`, `log`, `quorum`, `timer`.
//!
//! # Caveats
//!
//! - A chain in which each member sees only its neighbours may elect nobody for long: that is
//!   beyond
//!   Raft. It stays safe.
//! - A member that was removed and never heard of it goes on asking for pre-votes. They are refused
//!   and change nothing.
//! - IDs must never be used twice, and a disk never rolled back. The core cannot see that; what
//!   identifies a disk is checked before a message reaches it.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]
extern crate alloc;

mod candidate;
mod change;
mod common;
mod config;
mod error;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod output;
mod progress;
pub mod quorum;
mod read;
mod replicate;
mod roles;
mod timer;
mod transfer;
mod types;
mod view;
mod vote;

pub use config::{Config, Repair, Restored};
pub use error::{
    ChangeError, InstallOutcome, InvalidChange, ProposeError, ReadError, StartError, TransferError,
};
pub use membership::{Change, Membership};
pub use message::{AppendOutcome, Entry, Envelope, Message, Payload, SnapshotMeta};
pub use node::Node;
pub use output::{
    Notice, Output, PeerStatus, Persist, ReadFloor, ReadOutcome, Refusal, RoleChange, RoleKind,
    SnapshotWanted, Status,
};
pub use types::{EntryId, HardState, LogIndex, MemberId, PersistId, ReadId, Term};
