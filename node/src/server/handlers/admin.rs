//! `quorate.admin.v1`: what an operator asks of one node.
//!
//! Translates and makes changes idempotent: a change refused because it has already happened is
//! answered with success. Decides nothing about the membership itself.
//! Must not know: sockets.

use crate::replica::{self, AdminError, MembershipView, Phase, RequestError};
use crate::server::context::Context;
use crate::server::status::Status;
use crate::tls::Port;
use quorate_api::admin::v1 as pb;
use quorate_api::admin::v1::admin_server::Admin;
use quorate_api::admin::v1::change_response::Outcome;
use std::sync::Arc;
use tonic::{Code, Request, Response};
use uuid::Uuid;

type Answer<T> = Result<Response<T>, tonic::Status>;

/// The service, on the same context as the client port.
pub(in crate::server) struct AdminService(pub(in crate::server) Arc<Context>);

#[tonic::async_trait]
impl Admin for AdminService {
    async fn identity(&self, _: Request<pb::IdentityRequest>) -> Answer<pb::IdentityResponse> {
        Ok(Response::new(identity(&self.0)))
    }

    async fn membership(
        &self,
        request: Request<pb::MembershipRequest>,
    ) -> Answer<pb::MembershipResponse> {
        let linearizable = !request.into_inner().local;
        let view = self
            .0
            .handle
            .membership(linearizable)
            .await
            .map_err(Status::from)?;
        Ok(Response::new(membership(&self.0, &view)))
    }

    async fn bootstrap(
        &self,
        request: Request<pb::BootstrapRequest>,
    ) -> Answer<pb::BootstrapResponse> {
        let request = request.into_inner();
        let cluster_uuid = uuid_of("cluster_uuid", &request.cluster_uuid)?;
        let member_id = id_of("member_id", request.member_id)?;
        let already = self.is_member(cluster_uuid, member_id);
        let bootstrap = replica::Bootstrap {
            cluster_uuid,
            member_id,
            peer_urls: request.peer_urls,
        };
        self.0
            .handle
            .bootstrap(bootstrap)
            .await
            .map_err(Status::from)?;
        let replica = self.0.handle.status();
        Ok(Response::new(pb::BootstrapResponse {
            already,
            cluster_id: replica.cluster_id,
            config_index: replica.membership_index,
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let request = request.into_inner();
        let cluster_uuid = uuid_of("cluster_uuid", &request.cluster_uuid)?;
        let member_id = id_of("member_id", request.member_id)?;
        if request.seeds.is_empty() {
            return Err(invalid(
                "seeds is empty",
                "name the peer URL of at least one member",
            ));
        }
        let already = self.is_member(cluster_uuid, member_id);
        let join = replica::Join {
            cluster_uuid,
            member_id,
            seeds: request.seeds,
            displaces: (request.displaces != 0).then_some(request.displaces),
        };
        self.0.handle.join(join).await.map_err(Status::from)?;
        Ok(Response::new(pb::JoinResponse { already }))
    }

    async fn recover(&self, request: Request<pb::RecoverRequest>) -> Answer<pb::RecoverResponse> {
        let request = request.into_inner();
        let cluster_uuid = uuid_of("cluster_uuid", &request.cluster_uuid)?;
        let epoch = request.epoch;
        let already = self.0.handle.status().epoch == epoch;
        let recover = replica::Recover {
            cluster_uuid,
            epoch,
        };
        self.0.handle.recover(recover).await.map_err(Status::from)?;
        Ok(Response::new(pb::RecoverResponse { already }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        let id = id_of("member_id", request.member_id)?;
        let add = replica::MemberAdd {
            id: Some(id),
            peer_urls: request.peer_urls.clone(),
            learner: true,
            expected: Some(request.expected),
        };
        let result = self.0.handle.member_add(add).await.map(|(_, view)| view);
        let done = |view: &MembershipView| {
            view.member(id)
                .is_some_and(|member| same(&member.peer_urls, &request.peer_urls))
        };
        self.change(result, done).await
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        let id = id_of("member_id", request.member_id)?;
        let result = self
            .0
            .handle
            .member_promote(id, Some(request.expected))
            .await;
        self.change(result, |view| {
            view.member(id).is_some_and(|member| !member.learner)
        })
        .await
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        let id = id_of("member_id", request.member_id)?;
        let result = self
            .0
            .handle
            .member_remove(id, Some(request.expected))
            .await;
        self.change(result, |view| view.member(id).is_none()).await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        let to = request.into_inner().to;
        let result = self.0.handle.transfer_leader((to != 0).then_some(to)).await;
        let outcome = match result {
            Ok(leader) => pb::transfer_leader_response::Outcome::Leader(leader),
            Err(error) => pb::transfer_leader_response::Outcome::Refused(refused(error)?),
        };
        Ok(Response::new(pb::TransferLeaderResponse {
            outcome: Some(outcome),
        }))
    }

    async fn can_stop(&self, request: Request<pb::CanStopRequest>) -> Answer<pb::CanStopResponse> {
        let id = id_of("member_id", request.into_inner().member_id)?;
        let verdict = self.0.handle.can_stop(id).await.map_err(Status::from)?;
        let view = self
            .0
            .handle
            .membership(false)
            .await
            .map_err(Status::from)?;
        let members = membership(&self.0, &view).members;
        let voters = || {
            members
                .iter()
                .filter(|member| member.role() == pb::Role::Voter)
        };
        let healthy_without = voters()
            .filter(|member| member.healthy && member.id != id)
            .count();
        Ok(Response::new(pb::CanStopResponse {
            can_stop: verdict.allowed,
            message: verdict.reason,
            healthy_without: u32::try_from(healthy_without).unwrap_or(u32::MAX),
            quorum: u32::try_from(voters().count() / 2 + 1).unwrap_or(u32::MAX),
            config_index: view.index,
        }))
    }
}

impl AdminService {
    fn is_member(&self, cluster_uuid: [u8; 16], member_id: u64) -> bool {
        let replica = self.0.handle.status();
        replica.cluster_uuid == Some(cluster_uuid) && replica.member_id == member_id
    }

    /// Turns the result of a change into its outcome. A refusal of what is `done` already is
    /// success: the caller repeats a call whose answer it lost, with the index from before it.
    async fn change(
        &self,
        result: Result<MembershipView, AdminError>,
        done: impl Fn(&MembershipView) -> bool,
    ) -> Answer<pb::ChangeResponse> {
        let outcome = match result {
            Ok(view) => Outcome::Changed(pb::Changed {
                config_index: view.index,
                already: false,
            }),
            Err(error) => {
                let may_be_done = matches!(
                    error,
                    AdminError::ConfigChanged { .. }
                        | AdminError::MemberIdExists
                        | AdminError::PeerUrlExists
                        | AdminError::MemberNotFound
                        | AdminError::NotLearner
                );
                let view = if may_be_done {
                    self.0.handle.membership(true).await.ok()
                } else {
                    None
                };
                match (view, error) {
                    (Some(view), _) if done(&view) => Outcome::Changed(pb::Changed {
                        config_index: view.index,
                        already: true,
                    }),
                    (_, AdminError::ConfigChanged { current, .. }) => {
                        Outcome::ConfigChanged(pb::ConfigChanged {
                            config_index: current,
                        })
                    }
                    (_, error) => Outcome::Refused(refused(error)?),
                }
            }
        };
        Ok(Response::new(pb::ChangeResponse {
            outcome: Some(outcome),
        }))
    }
}

/// What a caller must expect is part of the answer; the rest is an error of the call.
fn refused(error: AdminError) -> Result<pb::Refused, tonic::Status> {
    let (reason, remedy) = match &error {
        AdminError::MemberNotFound => (pb::Refusal::NotFound, "read the membership again"),
        AdminError::LearnerNotReady => (pb::Refusal::NotReady, "wait until it has caught up"),
        AdminError::NotEnoughStarted | AdminError::Unhealthy => (
            pb::Refusal::WouldLoseQuorum,
            "bring the other voters back first",
        ),
        AdminError::MemberIdExists => (pb::Refusal::IdInUse, "draw a new ID"),
        AdminError::MemberIdRemoved => (pb::Refusal::IdRemoved, "draw a new ID"),
        AdminError::PeerUrlExists => (pb::Refusal::AddressInUse, "use an address of its own"),
        AdminError::ChangePending => (pb::Refusal::ChangeInProgress, "wait for it"),
        AdminError::TooManyLearners => (
            pb::Refusal::TooManyLearners,
            "promote or remove the learner there is",
        ),
        AdminError::BadTransferee => (pb::Refusal::NotAVoter, "choose a voter"),
        AdminError::NotLearner => (pb::Refusal::Unspecified, "it votes already"),
        AdminError::Request(_)
        | AdminError::ConfigChanged { .. }
        | AdminError::InvalidPeerUrls { .. }
        | AdminError::NotLeader
        | AdminError::TransferTimeout
        | AdminError::AlreadyJoined { .. }
        | AdminError::Invalid(_) => return Err(call_error(error)),
    };
    Ok(pb::Refused {
        reason: reason.into(),
        message: format!("{error}: {remedy}"),
    })
}

fn call_error(error: AdminError) -> tonic::Status {
    let text = error.to_string();
    match error {
        AdminError::NotLeader => tonic::Status::failed_precondition(format!(
            "{text}: ask the member that Membership names as leader"
        )),
        AdminError::InvalidPeerUrls { .. } => tonic::Status::invalid_argument(format!(
            "{text}: write each as http://HOST:PORT, without a path"
        )),
        AdminError::TransferTimeout | AdminError::Request(RequestError::Timeout) => {
            tonic::Status::unavailable(text)
        }
        other => Status::from(other).into(),
    }
}

fn identity(context: &Context) -> pb::IdentityResponse {
    let replica = context.handle.status();
    let state = match replica.phase {
        Phase::Unjoined => pb::State::Unjoined,
        Phase::Joined | Phase::Stopping => pb::State::Joined,
        Phase::Removed => pb::State::Removed,
        Phase::Repairing => pb::State::Repairing,
        Phase::Stale => pb::State::Refusing,
        Phase::Fenced => pb::State::Fenced,
    };
    let detail = match replica.phase {
        Phase::Stopping => "stopping".to_owned(),
        Phase::Repairing => RequestError::Repairing.to_string(),
        Phase::Stale | Phase::Fenced => context.phase_error(&replica).to_string(),
        Phase::Unjoined | Phase::Joined | Phase::Removed => String::new(),
    };
    // What is asked for may have changed a moment ago.
    context.settings.refresh();
    let settings = context.settings.in_force();
    pb::IdentityResponse {
        state: state.into(),
        cluster_uuid: replica.cluster_uuid.map(hyphenated).unwrap_or_default(),
        member_id: replica.member_id,
        incarnation: replica.incarnation,
        epoch: replica.epoch,
        directory_id: hyphenated(replica.directory_id),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: settings.digest.clone(),
        config_problem: settings.problem.clone(),
        pid: std::process::id(),
        cluster_id: replica.cluster_id,
        name: context.config.name.clone(),
        detail,
        certificates: context.tls.all().map(certificate).collect(),
        last_log_term: replica.last_term,
        last_log_index: replica.last,
        commit: replica.commit,
        applied: replica.applied,
    }
}

fn certificate(port: &Port) -> pb::PortCertificate {
    let report = port.report();
    pb::PortCertificate {
        port: report.port.label().to_owned(),
        serial: report.serial,
        not_after_s: report.not_after_s,
        bundle_hash: report.bundle_hash,
    }
}

fn membership(context: &Context, view: &MembershipView) -> pb::MembershipResponse {
    let replica = context.handle.status();
    let members = view.members.iter().map(|member| {
        let mut wire = if member.id == replica.member_id {
            own(context, &replica)
        } else {
            peer(context, view, member.id)
        };
        wire.id = member.id;
        wire.name.clone_from(&member.name);
        wire.peer_urls.clone_from(&member.peer_urls);
        wire.client_urls.clone_from(&member.client_urls);
        let role = if member.learner {
            pb::Role::Learner
        } else {
            pb::Role::Voter
        };
        wire.role = role.into();
        wire
    });
    pb::MembershipResponse {
        cluster_uuid: replica.cluster_uuid.map(hyphenated).unwrap_or_default(),
        cluster_id: replica.cluster_id,
        config_index: view.index,
        settled: replica.membership_settled && replica.membership_index == view.index,
        epoch: replica.epoch,
        term: view.term,
        leader: view.leader,
        members: members.collect(),
        commit: view.commit,
        revision: context
            .handle
            .reader()
            .map_or(0, |reader| reader.revision().0),
        answered_by: replica.member_id,
    }
}

/// What we know about ourselves.
fn own(context: &Context, replica: &replica::ReplicaStatus) -> pb::Member {
    let sizes = context
        .handle
        .reader()
        .map(|reader| reader.sizes())
        .unwrap_or_default();
    pb::Member {
        matched: replica.durable,
        last_contact_ms: Some(0),
        applied: replica.applied,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        db_size_bytes: i64::try_from(sizes.total).unwrap_or(i64::MAX),
        healthy: replica.phase == Phase::Joined && replica.leader != 0,
        ..pb::Member::default()
    }
}

/// What we know about another member; as the leader, more than that it is connected.
fn peer(context: &Context, view: &MembershipView, id: u64) -> pb::Member {
    let Some(peer) = view.peers.iter().find(|peer| peer.id == id) else {
        return pb::Member::default();
    };
    let contact_ms = peer
        .last_contact
        .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let in_contact = contact_ms.map_or(peer.matched.is_none() && peer.connected, |age| {
        age <= context.config.contact_ms_max
    });
    pb::Member {
        matched: peer.matched.unwrap_or(0),
        last_contact_ms: contact_ms,
        healthy: in_contact && !peer.snapshotting,
        ..pb::Member::default()
    }
}

fn same(left: &[String], right: &[String]) -> bool {
    left.len() == right.len() && left.iter().all(|url| right.contains(url))
}

fn hyphenated(bytes: [u8; 16]) -> String {
    Uuid::from_bytes(bytes).hyphenated().to_string()
}

fn uuid_of(field: &str, text: &str) -> Result<[u8; 16], tonic::Status> {
    let uuid = Uuid::try_parse(text).map_err(|error| {
        invalid(
            &format!("{field} {text:?} is not a UUID ({error})"),
            "write it as 8-4-4-4-12 hexadecimal digits",
        )
    })?;
    if uuid.is_nil() {
        return Err(invalid(
            &format!("{field} is all zero"),
            "draw a random UUID",
        ));
    }
    Ok(uuid.into_bytes())
}

fn id_of(field: &str, id: u64) -> Result<u64, tonic::Status> {
    if id == 0 {
        return Err(invalid(
            &format!("{field} is 0"),
            "give the ID of a member, never 0",
        ));
    }
    Ok(id)
}

fn invalid(what: &str, remedy: &str) -> tonic::Status {
    tonic::Status::new(
        Code::InvalidArgument,
        format!("{what}: {remedy}. Nothing was changed."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_identities_name_the_field_and_the_remedy() {
        for bad in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "12345678-1234",
        ] {
            let status = uuid_of("cluster_uuid", bad).expect_err(bad);
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(
                status.message().contains("cluster_uuid"),
                "{}",
                status.message()
            );
            assert!(
                status.message().contains("Nothing was changed"),
                "{}",
                status.message()
            );
        }
        assert!(uuid_of("cluster_uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8").is_ok());
        assert!(
            id_of("member_id", 0)
                .expect_err("0")
                .message()
                .contains("member_id is 0")
        );
    }

    #[test]
    fn expected_refusals_are_answers_and_the_rest_are_errors() {
        let answer = refused(AdminError::LearnerNotReady).unwrap();
        assert_eq!(answer.reason(), pb::Refusal::NotReady);
        assert!(answer.message.contains("wait until it has caught up"));
        let error = refused(AdminError::Request(RequestError::NoLeader)).expect_err("no leader");
        assert_eq!(error.code(), Code::Unavailable);
        let error = refused(AdminError::NotLeader).expect_err("a follower");
        assert!(error.message().contains("names as leader"));
        let removed = refused(AdminError::MemberIdRemoved).unwrap();
        assert_eq!(removed.reason(), pb::Refusal::IdRemoved);
    }
}
