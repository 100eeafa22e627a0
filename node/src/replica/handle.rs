//! The replica as its callers see it: requests in, results out, from any thread.
//!
//! A request is encoded on the caller's thread, travels through the inbox and comes back through
//! a oneshot. Must not know: which role this member has, disks, sockets.

use super::inbox::{INBOX_REQUESTS_MAX, Inbox, Refused};
use super::input::{AdminCall, Input};
use super::types::{
    AdminError, Bootstrap, CanStop, Join, MemberAdd, MembershipView, Recover, ReplicaStatus,
    RequestError,
};
use crate::env::Clock;
use crate::kv::{self, Command, RequestId};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// What the handle and the owner of the replica share.
pub(super) struct Shared {
    pub(super) inbox: Inbox<Input>,
    pub(super) status: ArcSwap<ReplicaStatus>,
    pub(super) reader: ArcSwapOption<kv::Reader>,
    /// Random, new at every start: tells our requests from those of an earlier life.
    pub(super) boot_nonce: u64,
    pub(super) next_request: AtomicU64,
    pub(super) request_bytes_max: usize,
    pub(super) clock: Arc<dyn Clock>,
}

/// Access to the replica of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Proposes a change of the state and waits until this member has applied it. Any member
    /// takes proposals; a follower hands them to its leader.
    ///
    /// # Errors
    /// [`RequestError`]; its `outcome_unknown` tells whether the change may have happened.
    pub async fn propose(&self, op: kv::Op) -> Result<kv::Applied, RequestError> {
        let request = RequestId {
            member: self.shared.boot_nonce,
            counter: self.shared.next_request.fetch_add(1, Ordering::Relaxed),
        };
        let command = Command { request, op }.encode();
        if command.len() > self.shared.request_bytes_max {
            return Err(RequestError::TooLarge {
                bytes: command.len(),
                bytes_max: self.shared.request_bytes_max,
            });
        }
        let (reply, answer) = oneshot::channel();
        self.request(Input::Propose {
            counter: request.counter,
            command,
            reply,
        })?;
        answer.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// Waits until this member has applied everything that was committed when the call was made
    /// (ReadIndex, batched). A read of [`Handle::reader`] afterwards is linearizable.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn read_barrier(&self) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        let pushed = self
            .shared
            .inbox
            .push_patient(Input::Read { reply }, INBOX_REQUESTS_MAX);
        taken(pushed)?;
        answer.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// The state machine for reading; `None` until this node is a member with a whole state.
    #[must_use]
    pub fn reader(&self) -> Option<Arc<kv::Reader>> {
        self.shared.reader.load_full()
    }

    /// Where the replica stands; replaced after every turn of its loop that changed something.
    #[must_use]
    pub fn status(&self) -> Arc<ReplicaStatus> {
        self.shared.status.load_full()
    }

    /// Makes this node the only member of a new cluster. Repeating the same call succeeds.
    ///
    /// # Errors
    /// [`AdminError::AlreadyJoined`] when the directory belongs to another member or cluster.
    pub async fn bootstrap(&self, bootstrap: Bootstrap) -> Result<(), AdminError> {
        self.admin(|reply| AdminCall::Bootstrap { bootstrap, reply })
            .await
    }

    /// Makes this node the member that `MemberAdd` recorded. Repeating the same call succeeds.
    ///
    /// # Errors
    /// [`AdminError::AlreadyJoined`] when the directory belongs to another member or cluster.
    pub async fn join(&self, join: Join) -> Result<(), AdminError> {
        self.admin(|reply| AdminCall::Join { join, reply }).await
    }

    /// Makes this node, whose directory is of an earlier epoch than it was started with, the only
    /// member of its cluster in that epoch. What its log holds is kept; what only others held is
    /// lost. Durable on return. Repeating the same call succeeds.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] when the node is not in that position; the text says why.
    pub async fn recover(&self, recover: Recover) -> Result<(), AdminError> {
        self.admin(|reply| AdminCall::Recover { recover, reply })
            .await
    }

    /// Adds a member; returns its ID and the membership after the change.
    ///
    /// # Errors
    /// [`AdminError`], one variant per refusal of the etcd table and of compare-and-set.
    pub async fn member_add(&self, add: MemberAdd) -> Result<(u64, MembershipView), AdminError> {
        let unix_ms = self.shared.clock.unix_ms();
        let id = add
            .id
            .unwrap_or_else(|| super::ids::added_member_id(&add.peer_urls, unix_ms));
        let view = self
            .admin(|reply| AdminCall::MemberAdd { id, add, reply })
            .await?;
        Ok((id, view))
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn member_promote(
        &self,
        id: u64,
        expected: Option<u64>,
    ) -> Result<MembershipView, AdminError> {
        self.admin(|reply| AdminCall::MemberPromote {
            id,
            expected,
            reply,
        })
        .await
    }

    /// Removes a member for good. A voter is demoted first.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn member_remove(
        &self,
        id: u64,
        expected: Option<u64>,
    ) -> Result<MembershipView, AdminError> {
        self.admin(|reply| AdminCall::MemberRemove {
            id,
            expected,
            reply,
        })
        .await
    }

    /// Replaces the peer URLs of a member.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<MembershipView, AdminError> {
        self.admin(|reply| AdminCall::MemberUpdate {
            id,
            peer_urls,
            reply,
        })
        .await
    }

    /// Hands leadership to `to`, or to the best voter; returns who leads then.
    ///
    /// # Errors
    /// [`AdminError::NotLeader`] on a follower, [`AdminError::BadTransferee`],
    /// [`AdminError::TransferTimeout`].
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64, AdminError> {
        self.admin(|reply| AdminCall::TransferLeader { to, reply })
            .await
    }

    /// Whether a member may stop without costing the quorum.
    ///
    /// # Errors
    /// [`AdminError::NotLeader`] on a follower: only the leader knows.
    pub async fn can_stop(&self, id: u64) -> Result<CanStop, AdminError> {
        self.admin(|reply| AdminCall::CanStop { id, reply }).await
    }

    /// The membership; a linearizable one includes every change that was answered before the call.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    pub async fn membership(&self, linearizable: bool) -> Result<MembershipView, AdminError> {
        if linearizable {
            self.read_barrier().await?;
        }
        self.admin(|reply| AdminCall::Membership { reply }).await
    }

    async fn admin<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, AdminError>>) -> AdminCall,
    ) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.request(Input::Admin(call(reply)))?;
        answer
            .await
            .unwrap_or(Err(AdminError::Request(RequestError::Stopped)))
    }

    fn request(&self, input: Input) -> Result<(), RequestError> {
        taken(self.shared.inbox.push(input, INBOX_REQUESTS_MAX))
    }
}

fn taken(pushed: Result<(), Refused>) -> Result<(), RequestError> {
    match pushed {
        Ok(()) => Ok(()),
        Err(Refused::Full) => Err(RequestError::TooManyRequests),
        Err(Refused::Closed) => Err(RequestError::Stopped),
    }
}
