//! The driver: one owner of the Raft core, the log and the state machine, and the handle through
//! which the rest of the node speaks to it.
//!
//! Must not know: HTTP, gRPC.

mod handle;
pub mod ids;
mod inbox;
mod input;
#[cfg(test)]
pub(crate) mod solo;
mod types;

pub use crate::kv::Member;
pub use handle::Handle;
pub use inbox::{INBOX_MAX, INBOX_REQUESTS_MAX};
pub use types::{
    AdminError, Bootstrap, CanStop, Join, MemberAdd, MembershipView, PeerView, Phase,
    ReplicaStatus, RequestError, Role,
};
