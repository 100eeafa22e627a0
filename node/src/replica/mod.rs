//! The driver: one owner of the Raft core, the log and the state machine, and the handle through
//! which the rest of the node speaks to it.
//!
//! Must not know: HTTP, gRPC.

mod inbox;
mod types;

pub use inbox::{INBOX_MAX, INBOX_REQUESTS_MAX};
pub use types::{
    AdminError, Bootstrap, CanStop, Join, Member, MemberAdd, MembershipView, PeerView, Phase,
    ReplicaStatus, RequestError, Role,
};
