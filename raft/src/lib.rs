//! Consensus as a function: Raft without clock, disk, network, randomness or logging.
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
mod timer;
mod transfer;
mod types;
mod vote;

pub use config::{Config, Restored};
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
