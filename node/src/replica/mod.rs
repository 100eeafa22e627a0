//! The driver: one owner of the Raft core, the log and the state machine, and the handle through
//! which the rest of the node speaks to it.
//!
//! Must not know: HTTP, gRPC.

mod backlog;
mod changes;
mod compaction;
mod core;
mod counting;
mod disk;
mod genesis;
mod handle;
pub mod ids;
mod inbox;
mod input;
mod join;
mod lifecycle;
mod members;
mod owner;
mod pending;
mod ready;
mod recover;
mod repair;
mod room;
mod shell;
mod sink;
mod snapshots;
#[cfg(test)]
pub(crate) mod solo;
mod timed;
mod types;

#[cfg(test)]
use crate::kv;
pub use crate::kv::Member;
pub use genesis::GenesisError;
pub use handle::Handle;
pub use inbox::{INBOX_MAX, INBOX_REQUESTS_MAX};
/// A learner may vote when it holds all but this many committed entries (C13).
pub const PROMOTE_LAG_MAX: u64 = 1000;

pub use owner::{Doors, LifeError, Replica};
pub use types::{
    AdminError, Bootstrap, CanStop, Join, MemberAdd, MembershipView, PeerView, Phase, Recover,
    ReplicaStatus, RequestError, Role,
};

#[cfg(test)]
mod tests;
