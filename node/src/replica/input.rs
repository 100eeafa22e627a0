//! All that can wake the replica, as one closed list.
//!
//! Must not know: who produces an input.

use super::room::Held;
use super::snapshots::ReceivedSnapshot;
use super::types::{
    AdminError, Bootstrap, CanStop, Join, MemberAdd, MembershipView, Recover, RequestError,
};
use crate::kv;
use crate::transport::{HelloRefusal, PeerMessage};
use quorate_raft::{LogIndex, PersistId, Term};
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
    /// Messages of one peer, in order.
    Peer {
        /// Who speaks.
        from: u64,
        /// What is said.
        messages: Vec<PeerMessage>,
        /// Room that the messages take until they are handled.
        held: Held,
    },
    /// A peer wants something proposed that no member would be able to apply, or that only the
    /// leader may propose.
    Inadmissible {
        /// Which.
        from: u64,
        /// Of the forward.
        term: Term,
        /// The peer's own counters of the commands.
        counters: Vec<u64>,
    },
    /// A peer has connected to us and says where it is reached.
    PeerConnected {
        /// Which.
        peer: u64,
        /// Its peer URLs.
        peer_urls: Vec<String>,
    },
    /// A peer does not want to hear from us.
    PeerRefused {
        /// Who we were then: a directory that joins anew is another member.
        member: u64,
        /// Which peer.
        by: u64,
        /// Why not.
        why: HelloRefusal,
    },
    /// Every persist up to here is durable.
    Persisted(PersistId),
    /// A snapshot transfer to a peer has ended.
    SnapshotSent {
        /// To whom.
        to: u64,
        /// The last index it contained, if it got there.
        outcome: Result<LogIndex, ()>,
    },
    /// A whole snapshot has arrived and waits to be installed.
    SnapshotReceived(Box<ReceivedSnapshot>),
    /// Something in the background failed for good: the process must stop.
    Failed(String),
    /// Stop in good order.
    Stop {
        /// Told when everything has been handed over.
        done: oneshot::Sender<()>,
    },
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
    /// Begin a later epoch alone.
    Recover {
        recover: Recover,
        reply: AdminReply<()>,
    },
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

impl AdminCall {
    /// Answers that the call cannot be served.
    pub(super) fn refuse(self, error: &AdminError) {
        // Whoever asked may have gone away.
        match self {
            Self::Bootstrap { reply, .. }
            | Self::Join { reply, .. }
            | Self::Recover { reply, .. } => {
                drop(reply.send(Err(error.clone())));
            }
            Self::MemberAdd { reply, .. }
            | Self::MemberPromote { reply, .. }
            | Self::MemberRemove { reply, .. }
            | Self::MemberUpdate { reply, .. }
            | Self::Membership { reply } => drop(reply.send(Err(error.clone()))),
            Self::TransferLeader { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::CanStop { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}
