//! `/version`, `/status` and `/metrics`: pictures of this member, without asking anybody.

use super::context::Context;
use super::reply;
use crate::replica::{Member, ReplicaStatus, Role};
use bytes::Bytes;
use http::{Response, StatusCode};
use quorate_api::limits::{ETCD_CLUSTER_VERSION, ETCD_STORAGE_VERSION, ETCD_VERSION};
use serde::Serialize;

#[derive(Serialize)]
struct Version {
    etcdserver: &'static str,
    etcdcluster: &'static str,
    storage: &'static str,
    quorate: &'static str,
}

/// `/version`
pub(super) fn version(context: &Context) -> Response<Bytes> {
    let joined = context.handle.reader().is_some();
    let body = Version {
        etcdserver: ETCD_VERSION,
        etcdcluster: if joined {
            ETCD_CLUSTER_VERSION
        } else {
            "not_decided"
        },
        storage: if joined {
            ETCD_STORAGE_VERSION
        } else {
            "unknown"
        },
        quorate: env!("CARGO_PKG_VERSION"),
    };
    reply::json(StatusCode::OK, &body)
}

/// IDs are hexadecimal text, because numbers of JSON cannot hold 64 bits.
#[derive(Serialize)]
struct StatusJson<'a> {
    name: &'a str,
    version: &'static str,
    phase: &'static str,
    role: &'static str,
    cluster_id: String,
    cluster_uuid: Option<String>,
    member_id: String,
    leader_id: String,
    incarnation: u64,
    term: u64,
    commit_index: u64,
    applied_index: u64,
    durable_index: u64,
    last_index: u64,
    config_index: u64,
    config_settled: bool,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    db_size_bytes: u64,
    db_size_in_use_bytes: u64,
    inflight_requests: usize,
    members: Vec<MemberJson<'a>>,
}

#[derive(Serialize)]
struct MemberJson<'a> {
    id: String,
    name: &'a str,
    role: &'static str,
    leader: bool,
    peer_urls: &'a [String],
    client_urls: &'a [String],
    /// Known on the leader only, as are the next two.
    matched_index: Option<u64>,
    last_contact_ms: Option<u128>,
    connected: Option<bool>,
}

/// `/status`
pub(super) fn status(context: &Context) -> Response<Bytes> {
    let replica = context.handle.status();
    let reader = context.handle.reader();
    let sizes = reader
        .as_ref()
        .map(|reader| reader.sizes())
        .unwrap_or_default();
    let body = StatusJson {
        name: &context.config.name,
        version: env!("CARGO_PKG_VERSION"),
        phase: replica.phase.as_str(),
        role: replica.role.as_str(),
        cluster_id: format!("{:x}", replica.cluster_id),
        cluster_uuid: replica
            .cluster_uuid
            .map(|uuid| uuid::Uuid::from_bytes(uuid).hyphenated().to_string()),
        member_id: format!("{:x}", replica.member_id),
        leader_id: format!("{:x}", replica.leader),
        incarnation: replica.incarnation,
        term: replica.term,
        commit_index: replica.commit,
        applied_index: replica.applied,
        durable_index: replica.durable,
        last_index: replica.last,
        config_index: replica.membership_index,
        config_settled: replica.membership_settled,
        revision: reader.as_ref().map_or(0, |reader| reader.revision().0),
        compact_revision: reader
            .as_ref()
            .map_or(-1, |reader| reader.compact_revision().0),
        keys: reader.as_ref().map_or(0, |reader| reader.keys_total()),
        db_size_bytes: sizes.total,
        db_size_in_use_bytes: sizes.in_use,
        inflight_requests: context.admission.inflight().0,
        members: replica
            .members
            .iter()
            .map(|member| member_json(&replica, member))
            .collect(),
    };
    reply::json(StatusCode::OK, &body)
}

fn member_json<'a>(replica: &ReplicaStatus, member: &'a Member) -> MemberJson<'a> {
    let peer = replica.peers.iter().find(|peer| peer.id == member.id);
    MemberJson {
        id: format!("{:x}", member.id),
        name: &member.name,
        role: if member.learner { "learner" } else { "voter" },
        leader: member.id == replica.leader,
        peer_urls: &member.peer_urls,
        client_urls: &member.client_urls,
        matched_index: peer.and_then(|peer| peer.matched),
        last_contact_ms: peer
            .and_then(|peer| peer.last_contact)
            .map(|age| age.as_millis()),
        connected: peer.map(|peer| peer.connected),
    }
}

/// `/metrics`: fills in what is a picture of the state, then renders all families.
pub(super) fn metrics(context: &Context) -> Response<Bytes> {
    let replica = context.handle.status();
    picture(context, &replica);
    context.tls.refresh();
    let text = context.metrics.render();
    reply::typed(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    )
}

fn picture(context: &Context, replica: &ReplicaStatus) {
    let metrics = &context.metrics.server;
    metrics.has_leader.set(i64::from(replica.leader != 0));
    metrics
        .is_leader
        .set(i64::from(replica.role == Role::Leader));
    metrics
        .is_learner
        .set(i64::from(replica.role == Role::Learner));
    metrics.proposals_committed.set(signed(replica.commit));
    metrics.proposals_applied.set(signed(replica.applied));
    metrics.raft_term.set(signed(replica.term));
    metrics.raft_last_index.set(signed(replica.last));
    metrics.raft_durable_index.set(signed(replica.durable));
    metrics.incarnation.set(signed(replica.incarnation));
    metrics
        .quota_bytes
        .set(context.settings.quota_backend_bytes().map_or(-1, signed));
    let (requests, bytes) = context.admission.inflight();
    metrics.inflight_requests.set(signed(requests as u64));
    metrics.inflight_bytes.set(signed(bytes as u64));
    for role in [Role::Follower, Role::Candidate, Role::Leader, Role::Learner] {
        metrics
            .raft_role
            .with_label_values(&[role.as_str()])
            .set(i64::from(role == replica.role));
    }
    // Series of members that are gone must end.
    metrics.raft_peer_matched.reset();
    for peer in &replica.peers {
        if let Some(matched) = peer.matched {
            let id = hex(peer.id);
            metrics
                .raft_peer_matched
                .with_label_values(&[&id])
                .set(signed(matched));
        }
    }
    let learners = replica
        .members
        .iter()
        .filter(|member| member.learner)
        .count() as u64;
    let voters = replica.members.len() as u64 - learners;
    metrics
        .members
        .with_label_values(&["voter"])
        .set(signed(voters));
    metrics
        .members
        .with_label_values(&["learner"])
        .set(signed(learners));
    if replica.member_id != 0 {
        metrics
            .server_id
            .with_label_values(&[&hex(replica.member_id)])
            .set(1);
    }
    if let Some(reader) = context.handle.reader() {
        let sizes = reader.sizes();
        metrics.cluster_version.with_label_values(&["3.7"]).set(1);
        metrics.db_total_bytes.set(signed(sizes.total));
        metrics.db_in_use_bytes.set(signed(sizes.in_use));
        metrics.keys.set(signed(reader.keys_total()));
        metrics.current_revision.set(reader.revision().0);
        metrics.compact_revision.set(reader.compact_revision().0);
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
