//! Consensus as a function: Raft without clock, disk, network, randomness or logging.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod config;
mod error;
mod membership;
mod message;
mod node;
mod output;
mod types;

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
