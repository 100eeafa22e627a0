//! `Join`: how a node becomes a member that has been added, in an empty directory or in that of a
//! removed member or of one whose epoch has ended.
//!
//! Must not know: who asked, HTTP, gRPC.

use super::genesis::{FIRST_EPOCH, HISTORY_DIR, NewMember, WAL_DIR};
use super::lifecycle::{Life, ask};
use super::recover::is_fenced;
use super::types::{AdminError, Join, RequestError};
use crate::{kv, storage};

impl Life {
    /// `Join`: the seeds are asked who they are, so that a wrong address is an error now and not a
    /// silence later. One that agrees is enough; none that answers is no reason to refuse, since
    /// the leader dials us.
    pub(super) fn join(&mut self, join: &Join) -> Result<(), AdminError> {
        let (cluster_uuid, member_id) = (join.cluster_uuid, join.member_id);
        self.check_displaced(join)?;
        let mut cluster = kv::ClusterInfo {
            uuid: cluster_uuid,
            id: 0,
        };
        let mut epoch = self.config.epoch.max(FIRST_EPOCH);
        let fenced = self.fenced_member();
        for seed in &join.seeds {
            let Ok((found, theirs)) = ask(std::slice::from_ref(seed), self.peer_tls.as_ref())
            else {
                continue;
            };
            if theirs < self.config.epoch {
                return Err(AdminError::Invalid(format!(
                    "seed {seed:?} is of epoch {theirs}, which has ended: this node is told to take \
                     part in epoch {}; ask a member of that one",
                    self.config.epoch
                )));
            }
            if found.cluster.uuid != cluster_uuid {
                return Err(AdminError::Invalid(format!(
                    "seed {seed:?} belongs to another cluster; ask the members of the right one"
                )));
            }
            if found.removed.contains(&member_id) {
                return Err(AdminError::MemberIdRemoved);
            }
            // Only a member that has started has a name (W7).
            let known = found.members.get(&member_id);
            if known.is_some_and(|member| !member.name.is_empty()) {
                return Err(AdminError::Invalid(format!(
                    "member {member_id:x} has run before, with a data directory that is not this \
                     one: remove it, add a new member, and join under the new ID"
                )));
            }
            if fenced.is_some_and(|old| found.removed.contains(&old)) {
                self.dir
                    .mark_removed()
                    .map_err(|error| AdminError::Invalid(error.to_string()))?;
            }
            (cluster, epoch) = (found.cluster, theirs);
            break;
        }
        if let Some(old) = self.dir.identity() {
            let invalid = |error: storage::Error| AdminError::Invalid(error.to_string());
            let parts = [WAL_DIR, HISTORY_DIR];
            let aside = self.dir.displace(old.member_id, &parts).map_err(invalid)?;
            tracing::warn!(member = %old.member_id, aside, "a removed member's data is moved aside");
        }
        self.become_member(&NewMember {
            cluster,
            member_id,
            epoch,
            first_entry: None,
        })
    }

    /// The member of an ended epoch whose directory this is.
    fn fenced_member(&self) -> Option<u64> {
        let identity = self.dir.identity()?;
        is_fenced(&identity, self.config.epoch).then_some(identity.member_id.0)
    }

    /// A directory that is not empty may be displaced only when it is that of the removed member
    /// the caller names, of the same cluster.
    fn check_displaced(&self, join: &Join) -> Result<(), AdminError> {
        let Some(old) = self.dir.identity() else {
            return Ok(());
        };
        if !old.removed && self.fenced_member().is_none() {
            return Err(AdminError::Request(RequestError::Stale));
        }
        let named = join.displaces == Some(old.member_id.0);
        if !named || old.cluster_uuid != join.cluster_uuid {
            return Err(AdminError::AlreadyJoined {
                member_id: old.member_id.0,
                cluster: uuid::Uuid::from_bytes(old.cluster_uuid).to_string(),
            });
        }
        if join.member_id == old.member_id.0 {
            return Err(AdminError::MemberIdRemoved);
        }
        Ok(())
    }
}
