//! What surrounds the operator on Kubernetes, as far as it matters: the StatefulSet controller, the
//! kubelet, the protection of claims, and nodes that answer the admin service over the network.
//!
//! Nodes have loopback addresses of their own and refuse what a real node refuses; invariants of
//! the protocols are asserted where they could be broken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_api::admin::v1 as pb;
use quorate_api::admin::v1::admin_server::{Admin, AdminServer};
use quorate_api::admin::v1::change_response::Outcome;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::api::{self, Api, Store, collection, make};
use super::wire::{self, Files};

/// Slots that have an address.
const SLOTS: u8 = 6;
const CLUSTER: &str = "orders";

/// What goes wrong with the call to a member of a certain number: a change of the membership, a
/// bootstrap, a join, a transfer, a question before a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallFault {
    /// The member cannot be reached, or the operator dies before the call: nothing is done.
    Unreachable,
    /// It takes longer than the operator waits, and nothing is done.
    Slow,
    /// It is done, and the answer is lost or the operator dies.
    AnswerLost,
}

pub const CALL_FAULTS: [CallFault; 3] = [
    CallFault::Unreachable,
    CallFault::Slow,
    CallFault::AnswerLost,
];

/// What is on the volume of a claim.
#[derive(Clone, Default)]
struct Directory {
    id: String,
    joined: Option<(String, u64)>,
    /// Of the member's data; 0 while unjoined.
    epoch: u64,
}

/// The members' own world.
#[derive(Default)]
pub struct Group {
    pub uuid: String,
    pub config_index: u64,
    pub term: u64,
    pub leader: u64,
    /// By ID: slot and whether it is a voter.
    pub members: BTreeMap<u64, (u8, bool)>,
    removed: BTreeSet<u64>,
    directories: BTreeMap<String, Directory>,
    /// By slot: name of the pod that runs, and the uid of its claim.
    running: BTreeMap<u8, (String, String)>,
    /// By slot: the epoch that its node was told to take part in.
    told: BTreeMap<u8, u64>,
    /// Which life of the cluster this is.
    pub epoch: u64,
    /// Recoveries that were carried out.
    pub recoveries: u32,
    bootstraps: u32,
    /// Slots whose node is alive and slow to say who it is.
    pub mute: BTreeSet<u8>,
    /// Slots whose node never answers who it is.
    pub deaf: BTreeSet<u8>,
    /// Slots whose node cannot be reached by the others.
    pub parted: BTreeSet<u8>,
    /// Slots for whose pods there is no place.
    pub unscheduled: BTreeSet<u8>,
    /// The membership is answered in the opposite order.
    pub reversed: bool,
    /// Rounds that a deleted pod still runs.
    pub linger: u32,
    /// Pods on their way out, by uid, and the rounds they have left.
    leaving: BTreeMap<String, u32>,
    /// Calls so far.
    pub calls: usize,
    /// What happens to the call of that number.
    pub call_fault: Option<(usize, CallFault)>,
    /// Promotions asked for although the node had not joined.
    pub hasty: u32,
    homes: BTreeMap<u64, String>,
    /// By slot and port: the files its process has read.
    pub files: BTreeMap<u8, BTreeMap<String, Files>>,
    /// By slot: the settings file its process has read.
    pub settings: BTreeMap<u8, String>,
    /// Slots whose kubelet does not bring new files.
    pub stale: BTreeSet<u8>,
}

impl Group {
    fn of(&self, slot: u8) -> Option<&Directory> {
        self.directories.get(&self.running.get(&slot)?.1)
    }

    fn alive(&self, id: u64) -> bool {
        let Some((slot, _)) = self.members.get(&id) else {
            return false;
        };
        let joined = self
            .of(*slot)
            .and_then(|directory| directory.joined.clone());
        joined.is_some_and(|(uuid, member)| uuid == self.uuid && member == id)
            && !self.fenced(*slot)
            && !self.parted.contains(slot)
            && self
                .of(*slot)
                .is_some_and(|directory| directory.epoch == self.epoch)
    }

    /// The data in a slot is of an epoch that has ended, by what its node was told.
    fn fenced(&self, slot: u8) -> bool {
        let told = self.told.get(&slot).copied().unwrap_or(0);
        let data = self.of(slot).filter(|directory| directory.joined.is_some());
        data.is_some_and(|directory| directory.epoch < told)
    }

    pub fn voters(&self) -> Vec<u64> {
        let voters = self.members.iter().filter(|(_, (_, voter))| *voter);
        voters.map(|(id, _)| *id).collect()
    }

    pub fn has_quorum(&self) -> bool {
        let voters = self.voters();
        let alive = voters.iter().filter(|id| self.alive(**id)).count();
        !voters.is_empty() && alive > voters.len() / 2
    }

    /// Losing this slot's data leaves a quorum of voters with theirs.
    pub fn can_lose(&self, slot: u8) -> bool {
        let voters = self.voters();
        let holds = |id: &&u64| self.members[*id].0 != slot && self.alive(**id);
        voters.iter().filter(holds).count() > voters.len() / 2
    }

    fn elect(&mut self) {
        let leads = self.alive(self.leader) && self.voters().contains(&self.leader);
        if !leads && self.has_quorum() {
            let next = self.voters().into_iter().find(|id| self.alive(*id));
            self.leader = next.unwrap_or(0);
            self.term += 1;
        }
    }

    /// Deleted pods end.
    pub fn end_lingering(&mut self) {
        self.linger = 0;
        self.leaving.values_mut().for_each(|left| *left = 0);
    }

    /// A deleted pod runs on for a few rounds.
    fn stays(&mut self, pod: &Value) -> bool {
        let uid = pod["metadata"]["uid"].to_string();
        let left = self.leaving.entry(uid).or_insert(self.linger);
        let stays = *left > 0;
        *left = left.saturating_sub(1);
        stays
    }

    fn change(&mut self, expected: u64) -> Result<(), Outcome> {
        if expected != self.config_index {
            let config_index = self.config_index;
            return Err(Outcome::ConfigChanged(pb::ConfigChanged { config_index }));
        }
        self.config_index += 2;
        Ok(())
    }
}

fn changed(config_index: u64, already: bool) -> Outcome {
    Outcome::Changed(pb::Changed {
        config_index,
        already,
    })
}

fn refused(reason: pb::Refusal) -> Outcome {
    Outcome::Refused(pb::Refused {
        reason: reason.into(),
        message: format!("{reason:?}"),
    })
}

/// One node's admin service.
struct Node {
    slot: u8,
    group: Arc<Mutex<Group>>,
}

impl Node {
    /// The world, if this node runs.
    fn group(&self) -> Result<MutexGuard<'_, Group>, Status> {
        let group = self
            .group
            .lock()
            .expect("no test panics while it holds the group");
        match group.running.contains_key(&self.slot) {
            true => Ok(group),
            false => Err(Status::unavailable("nothing runs here")),
        }
    }

    /// The world, if this node is a member and a quorum is there.
    fn quorum(&self) -> Result<MutexGuard<'_, Group>, Status> {
        let mut group = self.group()?;
        group.elect();
        let joined = group
            .of(self.slot)
            .and_then(|directory| directory.joined.clone());
        let member = joined.is_some_and(|(_, id)| group.alive(id));
        match member && group.has_quorum() {
            true => Ok(group),
            false => Err(Status::unavailable("no quorum")),
        }
    }

    fn settle(&self, act: impl FnOnce(&mut Group) -> Outcome) -> Answer<pb::ChangeResponse> {
        self.faulty(|| {
            let outcome = Some(act(&mut *self.quorum()?));
            Ok(Response::new(pb::ChangeResponse { outcome }))
        })
    }

    /// Counts the call, and lets happen to it what is to happen to the call of its number.
    fn faulty<T>(&self, act: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let fault = {
            let mut group = self
                .group
                .lock()
                .expect("no test panics while it holds the group");
            let number = group.calls;
            group.calls += 1;
            group.call_fault.filter(|(at, _)| *at == number)
        };
        match fault.map(|(_, fault)| fault) {
            None => act(),
            Some(CallFault::Unreachable) => Err(Status::unavailable("connection refused")),
            Some(CallFault::Slow) => Err(Status::deadline_exceeded("no answer in time")),
            Some(CallFault::AnswerLost) => {
                act()?;
                Err(Status::unavailable("the connection was lost"))
            }
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for Node {
    async fn identity(&self, _: Request<pb::IdentityRequest>) -> Answer<pb::IdentityResponse> {
        let deaf = self.group()?.deaf.contains(&self.slot);
        if deaf {
            return std::future::pending().await;
        }
        let group = self.group()?;
        if group.mute.contains(&self.slot) {
            return Err(Status::unavailable("busy"));
        }
        let directory = group.of(self.slot).cloned().unwrap_or_default();
        let joined = directory.joined.clone();
        let removed = joined
            .as_ref()
            .is_some_and(|(_, id)| group.removed.contains(id));
        let state = match (&joined, removed) {
            (None, _) => pb::State::Unjoined,
            (Some(_), true) => pb::State::Removed,
            (Some(_), false) if group.fenced(self.slot) => pb::State::Fenced,
            (Some(_), false) => pb::State::Joined,
        };
        let last = match state {
            pb::State::Joined => 100 + u64::from(self.slot),
            _ => 0,
        };
        let (cluster_uuid, member_id) = joined.unwrap_or_default();
        Ok(Response::new(pb::IdentityResponse {
            state: state.into(),
            cluster_uuid,
            member_id,
            directory_id: directory.id,
            epoch: directory.epoch,
            last_log_term: 3,
            last_log_index: last,
            version: "0.1.0".to_owned(),
            name: group.running[&self.slot].0.clone(),
            certificates: group
                .files
                .get(&self.slot)
                .map(wire::report)
                .unwrap_or_default(),
            config_hash: group
                .settings
                .get(&self.slot)
                .map(|text| quorate_api::settings::digest(text.as_bytes()))
                .unwrap_or_default(),
            ..pb::IdentityResponse::default()
        }))
    }

    async fn membership(
        &self,
        _: Request<pb::MembershipRequest>,
    ) -> Answer<pb::MembershipResponse> {
        let group = self.quorum()?;
        let member = |(id, (slot, voter)): (&u64, &(u8, bool))| pb::Member {
            id: *id,
            peer_urls: vec![peer_url(
                *slot,
                group.files.values().any(|ports| !ports.is_empty()),
            )],
            role: match voter {
                true => pb::Role::Voter.into(),
                false => pb::Role::Learner.into(),
            },
            matched: 100,
            last_contact_ms: group.alive(*id).then_some(10),
            ..pb::Member::default()
        };
        let mut members: Vec<_> = group.members.iter().map(member).collect();
        if group.reversed {
            members.reverse();
        }
        Ok(Response::new(pb::MembershipResponse {
            cluster_uuid: group.uuid.clone(),
            cluster_id: 77,
            config_index: group.config_index,
            settled: true,
            epoch: group.epoch,
            term: group.term,
            leader: group.leader,
            members,
            commit: 100,
            ..pb::MembershipResponse::default()
        }))
    }

    async fn bootstrap(
        &self,
        request: Request<pb::BootstrapRequest>,
    ) -> Answer<pb::BootstrapResponse> {
        self.faulty(|| {
            let request = request.into_inner();
            let mut group = self.group()?;
            let claim = group.running[&self.slot].1.clone();
            let wanted = Some((request.cluster_uuid.clone(), request.member_id));
            let directory = group.directories.entry(claim.clone()).or_default();
            if directory.joined.is_some() && directory.joined != wanted {
                return Err(Status::failed_precondition("the directory is not empty"));
            }
            if directory.joined.is_none() {
                directory.joined = wanted;
                directory.epoch = 1;
                group.epoch = 1;
                group.bootstraps += 1;
                assert_eq!(group.bootstraps, 1, "I4: a second bootstrap");
                group.uuid = request.cluster_uuid;
                group.leader = request.member_id;
                (group.term, group.config_index) = (1, 1);
                let slot = self.slot;
                group.members.insert(request.member_id, (slot, true));
                group.homes.insert(request.member_id, claim);
            }
            Ok(Response::new(pb::BootstrapResponse::default()))
        })
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        self.faulty(|| {
            let request = request.into_inner();
            let mut group = self.group()?;
            let claim = group.running[&self.slot].1.clone();
            let wanted = (request.cluster_uuid, request.member_id);
            let old = group
                .of(self.slot)
                .and_then(|directory| directory.joined.clone());
            let displaced = old.as_ref().is_some_and(|(_, id)| *id == request.displaces);
            if old.is_some() && old.as_ref() != Some(&wanted) && !displaced {
                return Err(Status::failed_precondition("the directory is not empty"));
            }
            let home = group.homes.entry(wanted.1).or_insert(claim.clone()).clone();
            assert_eq!(home, claim, "I5: member {} on a second directory", wanted.1);
            let epoch = group.epoch;
            if let Some(directory) = group.directories.get_mut(&claim) {
                directory.joined = Some(wanted);
                directory.epoch = epoch;
            }
            Ok(Response::new(pb::JoinResponse::default()))
        })
    }

    async fn recover(&self, request: Request<pb::RecoverRequest>) -> Answer<pb::RecoverResponse> {
        self.faulty(|| {
            let epoch = request.into_inner().epoch;
            let mut group = self.group()?;
            let directory = group.of(self.slot).cloned().unwrap_or_default();
            if directory.epoch == epoch {
                return Ok(Response::new(pb::RecoverResponse { already: true }));
            }
            let told = group.told.get(&self.slot) == Some(&epoch);
            let Some((_, survivor)) = directory.joined.filter(|_| told && directory.epoch < epoch)
            else {
                return Err(Status::failed_precondition("this node is not fenced"));
            };
            let others = group.told.iter().filter(|(slot, _)| **slot != self.slot);
            for (slot, told) in others {
                assert!(
                    *told >= epoch,
                    "H59: slot {slot} may still serve the old epoch"
                );
            }
            let voter = group
                .members
                .get(&survivor)
                .is_some_and(|(_, voter)| *voter);
            assert!(voter, "member {survivor}, no voter, is to survive");
            let claim = group.running[&self.slot].1.clone();
            if let Some(directory) = group.directories.get_mut(&claim) {
                directory.epoch = epoch;
            }
            let old = std::mem::take(&mut group.members);
            let others = old.into_keys().filter(|id| *id != survivor);
            group.removed.extend(others);
            group.members.insert(survivor, (self.slot, true));
            (group.epoch, group.leader) = (epoch, survivor);
            group.recoveries += 1;
            group.config_index += 1;
            group.term += 1;
            Ok(Response::new(pb::RecoverResponse { already: false }))
        })
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        self.settle(|group| {
            let id = request.member_id;
            if group.members.contains_key(&id) {
                return changed(group.config_index, true);
            }
            if group.removed.contains(&id) {
                return refused(pb::Refusal::IdRemoved);
            }
            if group.members.values().any(|(_, voter)| !voter) {
                return refused(pb::Refusal::TooManyLearners);
            }
            if let Err(outcome) = group.change(request.expected) {
                return outcome;
            }
            let slot = slot_of_url(&request.peer_urls[0]);
            let taken = group.members.values().any(|(other, _)| *other == slot);
            assert!(!taken, "two members in slot {slot}");
            group.members.insert(id, (slot, false));
            changed(group.config_index, false)
        })
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        self.settle(
            |group| match group.members.get(&request.member_id).copied() {
                None => refused(pb::Refusal::NotFound),
                Some((_, true)) => changed(group.config_index, true),
                Some(_) if !group.alive(request.member_id) => {
                    group.hasty += 1;
                    refused(pb::Refusal::NotReady)
                }
                Some((slot, false)) => match group.change(request.expected) {
                    Err(outcome) => outcome,
                    Ok(()) => {
                        group.members.insert(request.member_id, (slot, true));
                        changed(group.config_index, false)
                    }
                },
            },
        )
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Answer<pb::ChangeResponse> {
        let request = request.into_inner();
        self.settle(|group| {
            let id = request.member_id;
            if !group.members.contains_key(&id) {
                return refused(pb::Refusal::NotFound);
            }
            if let Err(outcome) = group.change(request.expected) {
                return outcome;
            }
            group.members.remove(&id);
            group.removed.insert(id);
            group.elect();
            assert!(group.has_quorum(), "the removal of {id} cost the quorum");
            changed(group.config_index, false)
        })
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        self.faulty(|| {
            let mut group = self.quorum()?;
            group.leader = request.into_inner().to;
            group.term += 1;
            let outcome = pb::transfer_leader_response::Outcome::Leader(group.leader);
            let outcome = Some(outcome);
            Ok(Response::new(pb::TransferLeaderResponse { outcome }))
        })
    }

    async fn can_stop(&self, request: Request<pb::CanStopRequest>) -> Answer<pb::CanStopResponse> {
        self.faulty(|| {
            let group = self.quorum()?;
            let id = request.into_inner().member_id;
            let voters = group.voters();
            let others = voters
                .iter()
                .filter(|other| **other != id && group.alive(**other));
            let can_stop = others.count() > voters.len() / 2;
            Ok(Response::new(pb::CanStopResponse {
                can_stop,
                ..pb::CanStopResponse::default()
            }))
        })
    }
}

fn peer_url(slot: u8, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{CLUSTER}-{slot}.{CLUSTER}-peers.data.svc:2380")
}

fn slot_of_url(url: &str) -> u8 {
    let (_, host) = url.split_once("://").expect("a URL");
    let rest = host.strip_prefix("orders-").expect("a peer URL");
    rest.split_once('.')
        .expect("a host")
        .0
        .parse()
        .expect("a slot")
}

/// The world around one operator.
pub struct Around {
    pub api: Api,
    pub group: Arc<Mutex<Group>>,
    network: (u8, u8),
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Around {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A network of its own for every world of this process.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

impl Around {
    pub async fn new() -> Around {
        let mut second = u8::try_from(std::process::id() % 200).expect("small") + 20;
        let group = Arc::new(Mutex::new(Group::default()));
        loop {
            let third = NETWORKS.fetch_add(1, Ordering::Relaxed);
            let mut servers = Vec::new();
            for slot in 0..SLOTS {
                let address = (Ipv4Addr::new(127, second, third, slot + 1), 2381);
                let Ok(listener) = tokio::net::TcpListener::bind(address).await else {
                    break;
                };
                let group = group.clone();
                let (ready, accepted) = tokio::sync::mpsc::channel(16);
                let accepting = wire::accept(listener, slot, group.clone(), ready);
                let service = AdminServer::new(Node { slot, group });
                servers.push(tokio::spawn(async move {
                    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
                    let server = tonic::transport::Server::builder().add_service(service);
                    let serving = server.serve_with_incoming(incoming);
                    let (served, ()) = tokio::join!(serving, accepting);
                    served.expect("served");
                }));
            }
            if servers.len() == usize::from(SLOTS) {
                let around = Around {
                    api: Api::default(),
                    group,
                    network: (second, third),
                    servers,
                };
                // The past, however fast the passes go.
                let now = k8s_openapi::jiff::Timestamp::now().as_second();
                around.api.store().clock = now - 10_000;
                return around;
            }
            // Another process has this network.
            servers.iter().for_each(tokio::task::JoinHandle::abort);
            second = second.wrapping_add(1).max(2);
        }
    }

    /// Another cluster follows, of which nobody knows yet.
    pub fn forget_group(&self) {
        *self.group() = Group::default();
    }

    pub fn group(&self) -> MutexGuard<'_, Group> {
        self.group
            .lock()
            .expect("no test panics while it holds the group")
    }

    /// What the controllers of Kubernetes do in one go.
    pub fn settle(&self) {
        let mut store = self.api.store();
        store.clock += 1;
        collect(&mut store);
        let_go(&mut store);
        reconcile_sets(&mut store);
        resize(&mut store);
        self.kubelet(&mut store);
        let mut group = self.group();
        group.elect();
        let count = store
            .all("statefulsets")
            .get(CLUSTER)
            .map(|set| set["spec"]["replicas"].clone());
        let deleting = store.all("kvclusters").get(CLUSTER).is_none_or(|cluster| {
            !cluster["metadata"]["deletionTimestamp"].is_null()
                || cluster["status"]["operation"]["type"] == "Hibernate"
        });
        let top = group
            .members
            .values()
            .map(|(slot, _)| u64::from(*slot) + 1)
            .max();
        if let (Some(count), Some(top), false) = (count, top, deleting) {
            let count = count.as_u64().unwrap_or(0);
            assert!(
                count >= top || store.edited,
                "I1: {count} slots for members up to {top}"
            );
        }
    }

    fn kubelet(&self, store: &mut Store) {
        let mut group = self.group();
        let mut running = BTreeMap::new();
        let mut told = BTreeMap::new();
        let claims = store.all("persistentvolumeclaims");
        for (name, mut pod) in store.all("pods") {
            let slot = slot_of(&name);
            if !pod["metadata"]["deletionTimestamp"].is_null() && !group.stays(&pod) {
                store
                    .objects
                    .remove(&format!("{}/{name}", collection("pods")));
                continue;
            }
            if group.unscheduled.contains(&slot) && pod["status"]["podIP"].is_null() {
                continue;
            }
            let claim = claims.get(&format!("data-{name}"));
            let bound = !pod["status"]["podIP"].is_null();
            let usable =
                claim.filter(|claim| bound || claim["metadata"]["deletionTimestamp"].is_null());
            let Some(claim) = usable else { continue };
            let Some(files) = mounted(store, &pod) else {
                // A Secret that is not there keeps the pod waiting.
                continue;
            };
            let Some(settings) = settings_of(store, &pod) else {
                // So does a ConfigMap.
                continue;
            };
            let began = !group.running.contains_key(&slot);
            // New files come late, and to one pod after the other.
            let due = store.clock % 3 == i64::from(slot % 3) && !group.stale.contains(&slot);
            if !bound || began || due {
                group.files.insert(slot, files);
                group.settings.insert(slot, settings);
            }
            let uid = claim["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            running.insert(slot, (name.clone(), uid.clone()));
            told.insert(slot, epoch_of(&pod));
            let fresh = Directory {
                id: format!("directory-of-{uid}"),
                joined: None,
                epoch: 0,
            };
            group.directories.entry(uid).or_insert(fresh);
            if !bound {
                let at = store.time();
                let (second, third) = self.network;
                let ip = Ipv4Addr::new(127, second, third, slot + 1).to_string();
                pod["status"] = json!({
                    "phase": "Running",
                    "podIP": ip,
                    "conditions": [{"type": "PodScheduled", "status": "True",
                                    "lastTransitionTime": at}],
                    "containerStatuses": [{"name": "quorate", "image": "i", "imageID": "i",
                        "ready": true, "restartCount": 0, "state": {"running": {}}}],
                });
            }
            store.put(&format!("{}/{name}", collection("pods")), pod);
        }
        group.files.retain(|slot, _| running.contains_key(slot));
        group.settings.retain(|slot, _| running.contains_key(slot));
        wire::check(&group.files, now_s());
        (group.running, group.told) = (running, told);
        group.elect();
        Self::report_ready(&group, store);
    }

    /// The kubelet's readiness probe: a voter that can read linearizably.
    fn report_ready(group: &Group, store: &mut Store) {
        for (name, mut pod) in store.all("pods") {
            let slot = slot_of(&name);
            let joined = group
                .of(slot)
                .and_then(|directory| directory.joined.clone());
            let serves = joined.is_some_and(|(_, id)| {
                let voter = group.members.get(&id).is_some_and(|(_, voter)| *voter);
                group.has_quorum() && voter && group.alive(id)
            });
            let at = store.time();
            let conditions = pod["status"]["conditions"].as_array_mut();
            let Some(conditions) = conditions else {
                continue;
            };
            let was = conditions
                .iter()
                .any(|condition| condition["type"] == "Ready");
            if serves != was {
                conditions.retain(|condition| condition["type"] != "Ready");
                if serves {
                    conditions.push(json!({"type": "Ready", "status": "True",
                        "lastTransitionTime": at}));
                }
                store.put(&format!("{}/{name}", collection("pods")), pod);
            }
        }
    }
}

/// The time of day, s since 1970.
pub fn now_s() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

/// The files of a pod's volumes of certificates, by port; `None` when one cannot be mounted.
fn mounted(store: &Store, pod: &Value) -> Option<BTreeMap<String, Files>> {
    let read = |name: &Value| -> Option<Files> {
        let secrets = store.all("secrets");
        let data = secrets.get(name.as_str()?)?["data"].as_object()?.clone();
        let decode = |(key, value): (String, Value)| {
            let bytes: k8s_openapi::ByteString = serde_json::from_value(value).expect("base64");
            (key, bytes.0)
        };
        Some(data.into_iter().map(decode).collect())
    };
    let mut ports = BTreeMap::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default();
        let Some(port) = name.strip_prefix("tls-") else {
            continue;
        };
        let files = match &volume["projected"]["sources"] {
            Value::Array(sources) => {
                let mut files = Files::new();
                for source in sources {
                    let from = read(&source["secret"]["name"])?;
                    for item in source["secret"]["items"].as_array().expect("items") {
                        let key = item["key"].as_str().expect("a key");
                        files.insert(key.to_owned(), from.get(key)?.clone());
                    }
                }
                files
            }
            _ => read(&volume["secret"]["secretName"])?,
        };
        ports.insert(port.to_owned(), files);
    }
    Some(ports)
}

/// The file that the pod's arguments name, by way of mount, volume and ConfigMap; `None` when that
/// is not there.
fn settings_of(store: &Store, pod: &Value) -> Option<String> {
    let container = &pod["spec"]["containers"][0];
    let args = container["args"].as_array()?.iter();
    let path = args.filter_map(Value::as_str);
    let mut path = path.filter_map(|arg| arg.strip_prefix("--settings-file="));
    let (folder, file) = path.next()?.rsplit_once('/')?;
    let mut mounts = container["volumeMounts"].as_array()?.iter();
    let mount = mounts.find(|mount| mount["mountPath"] == folder && mount["subPath"].is_null())?;
    let mut volumes = pod["spec"]["volumes"].as_array()?.iter();
    let volume = volumes.find(|volume| volume["name"] == mount["name"])?;
    let map = store.all("configmaps");
    let map = map.get(volume["configMap"]["name"].as_str()?)?;
    Some(map["data"][file].as_str()?.to_owned())
}

/// What the pod's arguments tell its node.
fn epoch_of(pod: &Value) -> u64 {
    let args = pod["spec"]["containers"][0]["args"].as_array();
    let said = args
        .into_iter()
        .flatten()
        .filter_map(|arg| arg.as_str()?.strip_prefix("--epoch="));
    said.into_iter()
        .next_back()
        .map_or(0, |epoch| epoch.parse().expect("a number"))
}

/// The ordinal at the end of a pod's name.
fn slot_of(pod: &str) -> u8 {
    let (_, slot) = pod.rsplit_once('-').expect("a pod of a set");
    slot.parse().expect("a slot")
}

/// Pods of sets that are gone, claims that nobody uses any more, objects whose owner is gone.
fn collect(store: &mut Store) {
    let uid = |object: &Value| object["uid"].as_str().unwrap_or_default().to_owned();
    let objects = store.objects.values();
    let uids: BTreeSet<String> = objects.map(|object| uid(&object["metadata"])).collect();
    let orphans: Vec<String> = store
        .objects
        .iter()
        .filter(|(_, object)| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            let gone = |owner: &Value| !uids.contains(&uid(owner));
            owners.is_some_and(|owners| !owners.is_empty() && owners.iter().all(gone))
        })
        .map(|(path, _)| path.clone())
        .collect();
    for path in orphans {
        if path.contains("/pods/") {
            let live = store.objects[&path].clone();
            store.mark_deleted(&path, &live);
        } else {
            store.objects.remove(&path);
        }
    }
    let pods = store.all("pods");
    for (name, claim) in store.all("persistentvolumeclaims") {
        let pod = name.strip_prefix("data-").and_then(|pod| pods.get(pod));
        let used = pod.is_some_and(|pod| !pod["status"]["podIP"].is_null());
        if !claim["metadata"]["deletionTimestamp"].is_null() && !used {
            store
                .objects
                .remove(&format!("{}/{name}", collection("persistentvolumeclaims")));
        }
    }
}

/// Sets that are deleted and leave their pods alone.
fn let_go(store: &mut Store) {
    for (name, set) in store.all("statefulsets") {
        if set["metadata"]["finalizers"] != json!(["orphan"]) {
            continue;
        }
        for (pod, mut live) in store.all("pods") {
            live["metadata"]["ownerReferences"] = json!([]);
            store.put(&format!("{}/{pod}", collection("pods")), live);
        }
        store
            .objects
            .remove(&format!("{}/{name}", collection("statefulsets")));
    }
}

/// The provisioner: a bound claim has a capacity, which follows what it asks for.
fn resize(store: &mut Store) {
    let pods = store.all("pods");
    for (name, mut claim) in store.all("persistentvolumeclaims") {
        let pod = name.strip_prefix("data-").and_then(|pod| pods.get(pod));
        let used = pod.is_some_and(|pod| !pod["status"]["podIP"].is_null());
        let bound = claim["status"]["phase"] == "Bound";
        let asked = claim["spec"]["resources"]["requests"]["storage"].clone();
        let more = api::bytes(&asked) > api::bytes(&claim["status"]["capacity"]["storage"]);
        if (bound || used) && more && !(bound && store.full) {
            claim["status"]["phase"] = json!("Bound");
            claim["status"]["capacity"]["storage"] = asked;
            claim["status"]["conditions"] = json!([]);
        } else if bound && more {
            claim["status"]["conditions"] = json!([{"type": "ControllerResizeError",
                "status": "True", "message": "the pool is full"}]);
        }
        store.put(
            &format!("{}/{name}", collection("persistentvolumeclaims")),
            claim,
        );
    }
}

/// The StatefulSet controller, with Parallel and OnDelete.
fn reconcile_sets(store: &mut Store) {
    for (name, mut set) in store.all("statefulsets") {
        if !set["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let template = set["spec"]["template"].clone();
        let revision = format!("{name}-{:x}", digest(&template.to_string()));
        set["status"]["observedGeneration"] = set["metadata"]["generation"].clone();
        set["status"]["updateRevision"] = json!(revision);
        store.put(
            &format!("{}/{name}", collection("statefulsets")),
            set.clone(),
        );
        let wanted = set["spec"]["replicas"].as_u64().unwrap_or(0);
        let pods = store.all("pods");
        for (pod, live) in &pods {
            let slot: u64 = pod
                .rsplit_once('-')
                .expect("a pod")
                .1
                .parse()
                .expect("a slot");
            if slot >= wanted {
                store.mark_deleted(&format!("{}/{pod}", collection("pods")), live);
            }
        }
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name,
            "uid": set["metadata"]["uid"], "controller": true}]);
        for (pod, mut live) in pods.clone() {
            if live["metadata"]["ownerReferences"] == json!([]) {
                live["metadata"]["ownerReferences"] = owner.clone();
                store.put(&format!("{}/{pod}", collection("pods")), live);
            }
        }
        for slot in 0..wanted {
            let pod = format!("{name}-{slot}");
            let claim = format!("data-{pod}");
            let live = store.all("persistentvolumeclaims").get(&claim).cloned();
            let terminating = live
                .as_ref()
                .is_some_and(|live| !live["metadata"]["deletionTimestamp"].is_null());
            if pods.contains_key(&pod) || terminating {
                continue;
            }
            if live.is_none() {
                // Without a stamp: only the operator knows whose it is.
                let mut body = set["spec"]["volumeClaimTemplates"][0].clone();
                body["metadata"]["name"] = json!(claim);
                make(store, "persistentvolumeclaims", body);
            }
            let mut metadata = template["metadata"].clone();
            metadata["name"] = json!(pod);
            metadata["ownerReferences"] = owner.clone();
            metadata["labels"]["controller-revision-hash"] = json!(revision);
            let body = json!({"metadata": metadata, "spec": template["spec"]});
            make(store, "pods", body);
        }
    }
}

fn digest(text: &str) -> u64 {
    text.bytes().fold(14_695_981_039_346_656_037, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    })
}

/// A `KvCluster` as a user applies it, with the defaults the API server fills in.
pub fn apply_cluster(around: &Around, replicas: u32) {
    let disabled = json!({"peer": {"mode": "Disabled"}, "client": {"mode": "Disabled"}});
    apply_cluster_with(around, replicas, &disabled);
}

/// The same with encryption.
pub fn apply_cluster_with(around: &Around, replicas: u32, tls: &Value) {
    let spec = json!({
        "replicas": replicas,
        "tls": tls,
        "update": {"minReadySeconds": 0},
    });
    let class = json!({"metadata": {"name": "standard"}, "allowVolumeExpansion": true});
    let mut store = around.api.store();
    store.objects.insert(
        "/apis/storage.k8s.io/v1/storageclasses/standard".to_owned(),
        class,
    );
    let object = json!({"apiVersion": "quorate.dev/v1alpha1", "kind": "KvCluster",
        "metadata": {"name": CLUSTER, "namespace": "data"}, "spec": spec});
    make(&mut store, "kvclusters", object);
}

/// Changes the object as a user does.
pub fn edit(around: &Around, change: &Value) {
    let mut store = around.api.store();
    let path = format!("{}/{CLUSTER}", collection("kvclusters"));
    let mut object = store.objects[&path].clone();
    api::merge(&mut object, change);
    store.put(&path, object);
}
