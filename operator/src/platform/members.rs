//! Calls to members: the admin service, on whatever addresses a platform gives its slots.
//!
//! Answers are turned into the planner's words here; what an answer means is decided elsewhere. A
//! call that changes something is made once. Must not know: processes, pods, files.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_api::admin::v1 as pb;
use quorate_api::admin::v1::admin_client::AdminClient;
use quorate_api::admin::v1::change_response::Outcome;
use quorate_api::admin::v1::transfer_leader_response::Outcome as Transfer;
use quorate_api::tls::{ClientTls, Material};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::ids::{ClusterUuid, DirectoryId, MemberId, Slot};
use crate::observed::{
    LogEnd, MemberView, MembershipView, NodeState, NodeView, PortCertificate, Refusing, Role, Seen,
    SettingsView,
};
use crate::planted::Bug;

type Client = AdminClient<Channel>;

/// Who a node is: answered from memory, so that silence means trouble.
pub(super) const IDENTITY_TIMEOUT: Duration = Duration::from_millis(500);

/// A linearizable read: longer than an election may take is no use to a pass.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A change of the membership, a join, a transfer.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Entries a member may lack and still count as caught up.
const LAG_MAX: u64 = 1_024;

/// A member the leader heard of this long ago is in contact: two election timeouts.
const CONTACT_MS_MAX: u64 = 2_000;

/// Why a call to a member did not do what it was made for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Error {
    /// The membership is not the one the change was decided on.
    #[error("{0}")]
    Conflict(String),
    /// The member refused, and nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A member asks for patience, and nothing was changed: it is asked again.
    #[error("{0}")]
    NotYet(String),
    /// The member did not answer: the outcome is unknown.
    #[error("{0}")]
    Unanswered(String),
}

/// Where the members of a cluster are reached.
pub(super) trait Addresses {
    /// `scheme://host:port` of the slot's admin service; `None` while it has no address.
    fn admin_url(&self, slot: Slot) -> Option<String>;
    /// The URL by which other members reach the slot.
    fn peer_url(&self, slot: Slot) -> String;
    /// The slot that a member's peer URL leads to.
    fn slot_of_peer_url(&self, url: &str) -> Option<Slot>;
    /// The name the slot's certificate must have, where that is not the host of its URL.
    fn server_name(&self, slot: Slot) -> Option<String>;
}

/// How members are called.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// In the clear.
    Plain,
    /// Over mutual TLS.
    Encrypted {
        /// What is trusted and shown.
        material: Box<Material>,
        /// Another mark is another material: connections are made anew.
        mark: String,
    },
    /// Not at all: encryption is asked for and cannot be given, with the reason.
    Missing(String),
}

/// The admin services of all slots. Connections are made when needed and made again when lost.
#[derive(Clone, Debug)]
pub(super) struct Members<A> {
    /// Where they are.
    pub addresses: A,
    /// By URL: a slot that has moved gets another connection.
    channels: BTreeMap<String, Channel>,
    security: Security,
}

/// What a node says of itself, and which process it is.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The planner's view. Whether it is ready is for the platform to find out.
    pub node: NodeView,
    /// The process that answered.
    pub pid: u32,
    /// The name the process was started under.
    pub name: String,
}

impl<A: Addresses> Members<A> {
    /// For slots at these addresses.
    pub fn new(addresses: A) -> Members<A> {
        Members {
            addresses,
            channels: BTreeMap::new(),
            security: Security::Plain,
        }
    }

    /// How members are called from now on.
    pub fn secure(&mut self, security: Security) {
        let same = match (&self.security, &security) {
            (Security::Plain, Security::Plain) => true,
            (Security::Encrypted { mark: old, .. }, Security::Encrypted { mark, .. }) => {
                old == mark
            }
            _ => false,
        };
        if !same {
            self.channels.clear();
        }
        self.security = security;
    }

    /// Forgets connections to addresses that no slot has any more.
    pub fn prune(&mut self, slots: &[Slot]) {
        let urls: Vec<String> = slots
            .iter()
            .filter_map(|slot| self.addresses.admin_url(*slot))
            .collect();
        self.channels.retain(|url, _| urls.contains(url));
    }

    fn client(&mut self, slot: Slot) -> Result<Client, Status> {
        let url = self
            .addresses
            .admin_url(slot)
            .ok_or_else(|| Status::unavailable("it has no address yet"))?;
        if !self.channels.contains_key(&url) {
            let endpoint = Endpoint::from_shared(url.clone())
                .map_err(|error| Status::internal(format!("{url} is no address: {error}")))?;
            let endpoint = endpoint.connect_timeout(IDENTITY_TIMEOUT).tcp_nodelay(true);
            let channel = match &self.security {
                Security::Plain => endpoint.connect_lazy(),
                Security::Encrypted { material, .. } => {
                    let material = Material {
                        server_name: self.addresses.server_name(slot),
                        ..Material::clone(material)
                    };
                    let tls = ClientTls::new(&material);
                    let tls = tls.map_err(|error| Status::unavailable(error.to_string()))?;
                    tls.connect_lazy(&endpoint)
                }
                Security::Missing(why) => return Err(Status::unavailable(why.clone())),
            };
            self.channels.insert(url.clone(), channel);
        }
        match self.channels.get(&url) {
            Some(channel) => Ok(AdminClient::new(channel.clone())),
            None => Err(Status::internal("a connection was lost")),
        }
    }

    /// One call to the node in a slot, given up after `limit`; the error names the slot.
    async fn ask<T>(
        &mut self,
        slot: Slot,
        limit: Duration,
        call: impl AsyncFnOnce(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let answer = match self.client(slot) {
            Ok(client) => limited(limit, call(client)).await,
            Err(status) => Err(status),
        };
        answer.map_err(|status| failed(slot, &status))
    }

    /// Asks the nodes in these slots who they are, all at once.
    pub async fn identities(&mut self, slots: &[Slot]) -> BTreeMap<Slot, Seen<Answer>> {
        let mut asked = tokio::task::JoinSet::new();
        for slot in slots {
            let (slot, client) = (*slot, self.client(*slot));
            asked.spawn(async move {
                match client {
                    Ok(client) => (slot, identity(client).await),
                    Err(status) => (slot, Err(status)),
                }
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            let (slot, answer) = answer.expect("asking a node does not panic");
            let answer = answer.map_or_else(|status| Seen::Unknown(why(&status)), Seen::Known);
            answers.insert(slot, answer);
        }
        answers
    }

    /// The membership by a linearizable read, from the first of these slots that can tell.
    pub async fn membership(&mut self, slots: &[Slot]) -> Seen<MembershipView> {
        let mut silence = "no member runs that could be asked".to_owned();
        for slot in slots {
            let request = pb::MembershipRequest { local: false };
            let call = async |mut client: Client| client.membership(request).await;
            match self.ask(*slot, MEMBERSHIP_TIMEOUT, call).await {
                Ok(answer) => match view(&self.addresses, &answer) {
                    Ok(view) => return Seen::Known(view),
                    Err(wrong) => silence = format!("slot {slot} answered nonsense: {wrong}"),
                },
                Err(error) => silence = error.to_string(),
            }
        }
        Seen::Unknown(silence)
    }

    /// Founds the cluster on the node in a slot.
    ///
    /// # Errors
    /// It refused, or its answer is missing.
    pub async fn bootstrap(
        &mut self,
        slot: Slot,
        cluster_uuid: ClusterUuid,
        member: MemberId,
        name: String,
    ) -> Result<(), Error> {
        let request = pb::BootstrapRequest {
            cluster_uuid: cluster_uuid.to_string(),
            member_id: member.0,
            peer_urls: vec![self.addresses.peer_url(slot)],
            name,
        };
        let call = async |mut client: Client| client.bootstrap(request).await;
        self.ask(slot, CHANGE_TIMEOUT, call).await.map(|_| ())
    }

    /// Tells the fenced node in a slot to begin an epoch as the only member.
    ///
    /// # Errors
    /// It refused, or its answer is missing.
    pub async fn recover(
        &mut self,
        slot: Slot,
        cluster_uuid: ClusterUuid,
        epoch: u64,
    ) -> Result<(), Error> {
        let request = pb::RecoverRequest {
            cluster_uuid: cluster_uuid.to_string(),
            epoch,
        };
        let call = async |mut client: Client| client.recover(request).await;
        self.ask(slot, CHANGE_TIMEOUT, call).await.map(|_| ())
    }

    /// Tells the node in a slot which member it is.
    ///
    /// # Errors
    /// It refused, or its answer is missing.
    pub async fn join(
        &mut self,
        slot: Slot,
        cluster_uuid: ClusterUuid,
        member: MemberId,
        seeds: &[Slot],
        displaces: Option<MemberId>,
    ) -> Result<(), Error> {
        let request = pb::JoinRequest {
            cluster_uuid: cluster_uuid.to_string(),
            member_id: member.0,
            seeds: seeds
                .iter()
                .map(|seed| self.addresses.peer_url(*seed))
                .collect(),
            displaces: displaces.map_or(0, |member| member.0),
        };
        let call = async |mut client: Client| client.join(request).await;
        self.ask(slot, CHANGE_TIMEOUT, call).await.map(|_| ())
    }

    /// Adds the node that will live in `slot` as learner, by way of a member.
    ///
    /// # Errors
    /// As for every change of the membership.
    pub async fn member_add(
        &mut self,
        through: Slot,
        slot: Slot,
        member: MemberId,
        name: String,
        expected: u64,
    ) -> Result<(), Error> {
        let peer_urls = vec![self.addresses.peer_url(slot)];
        let request = pb::MemberAddRequest {
            member_id: member.0,
            peer_urls,
            name,
            expected,
        };
        let call = async |mut client: Client| client.member_add(request).await;
        settle(through, self.ask(through, CHANGE_TIMEOUT, call).await?)
    }

    /// Makes a learner a voter, by way of a member.
    ///
    /// # Errors
    /// As for every change of the membership.
    pub async fn member_promote(
        &mut self,
        through: Slot,
        member: MemberId,
        expected: u64,
    ) -> Result<(), Error> {
        let request = pb::MemberPromoteRequest {
            member_id: member.0,
            expected,
        };
        let call = async |mut client: Client| client.member_promote(request).await;
        settle(through, self.ask(through, CHANGE_TIMEOUT, call).await?)
    }

    /// Removes a member, by way of a member; absence is success.
    ///
    /// # Errors
    /// As for every change of the membership.
    pub async fn member_remove(
        &mut self,
        through: Slot,
        member: MemberId,
        expected: u64,
    ) -> Result<(), Error> {
        let request = pb::MemberRemoveRequest {
            member_id: member.0,
            expected,
        };
        let call = async |mut client: Client| client.member_remove(request).await;
        let answer = self.ask(through, CHANGE_TIMEOUT, call).await?;
        if let Some(Outcome::Refused(refused)) = &answer.outcome
            && refused.reason() == pb::Refusal::NotFound
            && !Bug::NotFoundIsAnError.lives()
        {
            return Ok(());
        }
        settle(through, answer)
    }

    /// Asks, by way of a member, whether the cluster keeps its quorum without this one.
    ///
    /// # Errors
    /// [`Error::Refused`] says why it must not stop; otherwise the answer is missing.
    pub async fn can_stop(&mut self, through: Slot, member: MemberId) -> Result<(), Error> {
        let request = pb::CanStopRequest {
            member_id: member.0,
        };
        let call = async |mut client: Client| client.can_stop(request).await;
        let answer = self.ask(through, MEMBERSHIP_TIMEOUT, call).await?;
        if answer.can_stop {
            Ok(())
        } else {
            Err(Error::Refused(answer.message))
        }
    }

    /// Asks the leader to hand over.
    ///
    /// # Errors
    /// It refused, or its answer is missing.
    pub async fn transfer_leader(&mut self, through: Slot, to: MemberId) -> Result<(), Error> {
        let request = pb::TransferLeaderRequest { to: to.0 };
        let call = async |mut client: Client| client.transfer_leader(request).await;
        match self.ask(through, CHANGE_TIMEOUT, call).await?.outcome {
            Some(Transfer::Refused(refused)) => Err(Error::Refused(refused.message)),
            Some(Transfer::Leader(_)) | None => Ok(()),
        }
    }
}

async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}

/// What a change of the membership came to.
fn settle(through: Slot, answer: pb::ChangeResponse) -> Result<(), Error> {
    match answer.outcome {
        Some(Outcome::Changed(_)) => Ok(()),
        Some(Outcome::ConfigChanged(now)) => Err(Error::Conflict(format!(
            "the membership has moved on to config index {}",
            now.config_index
        ))),
        Some(Outcome::Refused(refused)) => Err(match refused.reason() {
            pb::Refusal::NotReady | pb::Refusal::ChangeInProgress => Error::NotYet(refused.message),
            _ => Error::Refused(refused.message),
        }),
        None => Err(Error::Unanswered(format!(
            "slot {through} gave an empty answer"
        ))),
    }
}

fn failed(slot: Slot, status: &Status) -> Error {
    let text = format!("slot {slot}: {}", why(status));
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound => {
            Error::Refused(text)
        }
        _ => Error::Unanswered(text),
    }
}

/// The part of a status that a person can use.
fn why(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    if text.is_empty() {
        status.code().description().to_owned()
    } else {
        text
    }
}

async fn identity(mut client: Client) -> Result<Answer, Status> {
    let call = async { client.identity(pb::IdentityRequest {}).await };
    let answer = limited(IDENTITY_TIMEOUT, call).await?;
    let state = state(&answer)?;
    let directory = Some(answer.directory_id)
        .filter(|id| !id.is_empty())
        .map(DirectoryId);
    let node = NodeView {
        state,
        directory,
        epoch: answer.epoch,
        log: LogEnd {
            term: answer.last_log_term,
            index: answer.last_log_index,
        },
        version: answer.version,
        ready: false,
        settings: SettingsView {
            digest: Some(answer.config_hash).filter(|digest| !digest.is_empty()),
            problem: Some(answer.config_problem).filter(|problem| !problem.is_empty()),
        },
        certificates: answer.certificates.into_iter().map(port).collect(),
    };
    Ok(Answer {
        node,
        pid: answer.pid,
        name: answer.name,
    })
}

fn port(certificate: pb::PortCertificate) -> (String, PortCertificate) {
    let seen = PortCertificate {
        serial: certificate.serial,
        bundle: certificate.bundle_hash,
    };
    (certificate.port, seen)
}

fn state(answer: &pb::IdentityResponse) -> Result<NodeState, Status> {
    let cluster_uuid = answer.cluster_uuid.parse::<ClusterUuid>().ok();
    let member = Some(MemberId(answer.member_id)).filter(|member| member.0 != 0);
    let both = || {
        cluster_uuid.zip(member).ok_or_else(|| {
            Status::internal("it claims to be a member and does not say which, of which cluster")
        })
    };
    let refusing = |why| NodeState::Refusing {
        cluster_uuid,
        member,
        why,
        message: answer.detail.clone(),
    };
    Ok(match answer.state() {
        pb::State::Unjoined => NodeState::Unjoined,
        pb::State::Joined => {
            let (cluster_uuid, member) = both()?;
            NodeState::Joined {
                cluster_uuid,
                member,
            }
        }
        pb::State::Removed => {
            let (cluster_uuid, member) = both()?;
            NodeState::Removed {
                cluster_uuid,
                member,
            }
        }
        pb::State::Repairing => refusing(Refusing::Busy),
        pb::State::Refusing => refusing(Refusing::RolledBack),
        pb::State::Fenced => refusing(Refusing::Fenced),
        pb::State::Unspecified => return Err(Status::internal("it is in a state unknown here")),
    })
}

fn view(
    addresses: &impl Addresses,
    answer: &pb::MembershipResponse,
) -> Result<MembershipView, String> {
    let leader = Some(MemberId(answer.leader)).filter(|leader| leader.0 != 0);
    let cluster_uuid = answer
        .cluster_uuid
        .parse()
        .map_err(|error| format!("{error}"))?;
    let mut members = BTreeMap::new();
    for (position, member) in answer.members.iter().enumerate() {
        let id = MemberId(member.id);
        let role = match member.role() {
            pb::Role::Voter => Role::Voter,
            pb::Role::Learner => Role::Learner,
            pb::Role::Unspecified => return Err(format!("member {id} has no role")),
        };
        let by_position = u32::try_from(position).ok().map(Slot);
        let by_position = by_position.filter(|_| Bug::HealthByPosition.lives());
        let lag = answer.commit.saturating_sub(member.matched);
        let leads = leader == Some(id);
        members.insert(
            id,
            MemberView {
                slot: by_position.or_else(|| {
                    let mut urls = member.peer_urls.iter();
                    urls.find_map(|url| addresses.slot_of_peer_url(url))
                }),
                role,
                caught_up: leads || lag <= LAG_MAX,
                in_contact: leads
                    || member
                        .last_contact_ms
                        .is_some_and(|ms| ms <= CONTACT_MS_MAX),
                lag: if leads { 0 } else { lag },
                db_size_bytes: u64::try_from(member.db_size_bytes).unwrap_or(0),
            },
        );
    }
    Ok(MembershipView {
        cluster_uuid,
        config_index: answer.config_index,
        epoch: answer.epoch,
        term: answer.term,
        leader,
        changing: !answer.settled,
        cluster_id: answer.cluster_id,
        members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::local::Ports;

    fn member(id: u64, url: &str, matched: u64, last_contact_ms: Option<u64>) -> pb::Member {
        pb::Member {
            id,
            peer_urls: vec![url.to_owned()],
            role: pb::Role::Voter.into(),
            matched,
            last_contact_ms,
            ..pb::Member::default()
        }
    }

    #[test]
    fn a_membership_is_read_with_contact_lag_and_slots() {
        let answer = pb::MembershipResponse {
            cluster_uuid: uuid::Uuid::nil().to_string(),
            leader: 1,
            commit: 5_000,
            settled: true,
            members: vec![
                member(1, "http://127.0.0.1:2380", 0, None),
                member(2, "http://127.0.0.1:2390", 4_000, Some(100)),
                member(3, "http://elsewhere:1", 10, Some(60_000)),
                member(4, "http://127.0.0.1:2410", 5_000, None),
            ],
            ..pb::MembershipResponse::default()
        };
        let view = view(&Ports::from_base(2379).unwrap(), &answer).unwrap();
        let facts = |id| {
            let member: &MemberView = &view.members[&MemberId(id)];
            (
                member.slot.map(|slot| slot.0),
                member.caught_up,
                member.in_contact,
                member.lag,
            )
        };
        assert_eq!(facts(1), (Some(0), true, true, 0));
        assert_eq!(facts(2), (Some(1), true, true, 1_000));
        assert_eq!(facts(3), (None, false, false, 4_990));
        assert_eq!(facts(4), (Some(3), true, false, 0));
        assert!(!view.changing);
    }

    #[test]
    fn a_node_that_contradicts_itself_counts_as_unknown() {
        let joined = pb::IdentityResponse {
            state: pb::State::Joined.into(),
            ..pb::IdentityResponse::default()
        };
        assert!(state(&joined).is_err());
        assert!(state(&pb::IdentityResponse::default()).is_err());
        let unjoined = pb::IdentityResponse {
            state: pb::State::Unjoined.into(),
            ..pb::IdentityResponse::default()
        };
        assert_eq!(state(&unjoined).unwrap(), NodeState::Unjoined);
    }

    #[test]
    fn an_answer_is_a_success_a_conflict_or_a_refusal() {
        let change = |outcome| settle(Slot(0), pb::ChangeResponse { outcome });
        assert!(change(Some(Outcome::Changed(pb::Changed::default()))).is_ok());
        let moved = Outcome::ConfigChanged(pb::ConfigChanged { config_index: 7 });
        assert!(matches!(change(Some(moved)), Err(Error::Conflict(text)) if text.contains('7')));
        let refused = Outcome::Refused(pb::Refused {
            reason: pb::Refusal::WouldLoseQuorum.into(),
            message: "wait".into(),
        });
        assert!(matches!(change(Some(refused)), Err(Error::Refused(text)) if text == "wait"));
        for early in [pb::Refusal::NotReady, pb::Refusal::ChangeInProgress] {
            let early = Outcome::Refused(pb::Refused {
                reason: early.into(),
                message: "wait until it has caught up".into(),
            });
            assert!(
                matches!(change(Some(early)), Err(Error::NotYet(_))),
                "that is progress, and no problem"
            );
        }
        assert!(matches!(change(None), Err(Error::Unanswered(_))));
        let lost = failed(Slot(0), &Status::unavailable("gone"));
        assert!(matches!(lost, Error::Unanswered(text) if text == "slot 0: gone"));
    }
}
