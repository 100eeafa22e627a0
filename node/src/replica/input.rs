//! All that can wake the replica, as one closed list.
//!
//! Must not know: who produces an input.

use super::types::{AdminError, Bootstrap, CanStop, Join, MemberAdd, MembershipView, RequestError};
use crate::kv;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the answer to a proposal goes.
pub(super) type ProposeReply = oneshot::Sender<Result<kv::Applied, RequestError>>;
/// Where the answer to a read goes.
pub(super) type ReadReply = oneshot::Sender<Result<(), RequestError>>;
/// Where the answer to an admin call goes.
pub(super) type AdminReply<T> = oneshot::Sender<Result<T, AdminError>>;

/// Something for the replica to do.
pub(super) enum Input {
    /// A client of this node proposes.
    Propose {
        /// Our own counter in the command's request ID.
        counter: u64,
        /// The encoded command.
        command: Arc<[u8]>,
        /// Who waits.
        reply: ProposeReply,
    },
    /// A client of this node wants a linearizable point.
    Read {
        /// Who waits.
        reply: ReadReply,
    },
    /// A call of the admin service or of etcd's Cluster service.
    Admin(AdminCall),
}

/// Calls about identity and membership.
pub(super) enum AdminCall {
    /// Form a new cluster.
    Bootstrap {
        bootstrap: Bootstrap,
        reply: AdminReply<()>,
    },
    /// Become an added member.
    Join { join: Join, reply: AdminReply<()> },
    /// Add a member.
    MemberAdd {
        id: u64,
        add: MemberAdd,
        reply: AdminReply<MembershipView>,
    },
    /// Learner to voter.
    MemberPromote {
        id: u64,
        expected: Option<u64>,
        reply: AdminReply<MembershipView>,
    },
    /// Remove for good.
    MemberRemove {
        id: u64,
        expected: Option<u64>,
        reply: AdminReply<MembershipView>,
    },
    /// Replace peer URLs.
    MemberUpdate {
        id: u64,
        peer_urls: Vec<String>,
        reply: AdminReply<MembershipView>,
    },
    /// Hand over leadership.
    TransferLeader {
        to: Option<u64>,
        reply: AdminReply<u64>,
    },
    /// May a member stop?
    CanStop { id: u64, reply: AdminReply<CanStop> },
    /// The membership as applied here.
    Membership { reply: AdminReply<MembershipView> },
}
