//! etcd's Cluster service, on the same core as the admin service but without compare-and-set.
//!
//! Every header carries revision 0, as etcd's does.

use crate::replica::{Member, MemberAdd, MembershipView};
use crate::server::context::{Context, header};
use crate::server::status::Status;
use quorate_api::etcdserverpb as pb;

/// Adds a member under an ID derived from its URLs and the time.
///
/// # Errors
/// etcd's refusals of a change of the membership, and those of any request.
pub(in crate::server) async fn add(
    context: &Context,
    request: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, Status> {
    let add = MemberAdd {
        id: None,
        peer_urls: request.peer_urls,
        learner: request.is_learner,
        expected: None,
    };
    let (id, view) = context.handle.member_add(add).await?;
    Ok(pb::MemberAddResponse {
        header: Some(context.header(0)),
        member: view.member(id).map(wire),
        members: list_of(&view),
    })
}

/// Removes a member for good.
///
/// # Errors
/// As [`add`].
pub(in crate::server) async fn remove(
    context: &Context,
    request: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, Status> {
    let view = context.handle.member_remove(request.id, None).await?;
    Ok(pb::MemberRemoveResponse {
        header: Some(context.header(0)),
        members: list_of(&view),
    })
}

/// Replaces the peer URLs of a member.
///
/// # Errors
/// As [`add`].
pub(in crate::server) async fn update(
    context: &Context,
    request: pb::MemberUpdateRequest,
) -> Result<pb::MemberUpdateResponse, Status> {
    let view = context
        .handle
        .member_update(request.id, request.peer_urls)
        .await?;
    Ok(pb::MemberUpdateResponse {
        header: Some(context.header(0)),
        members: list_of(&view),
    })
}

/// Makes a learner a voter.
///
/// # Errors
/// As [`add`].
pub(in crate::server) async fn promote(
    context: &Context,
    request: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, Status> {
    let view = context.handle.member_promote(request.id, None).await?;
    Ok(pb::MemberPromoteResponse {
        header: Some(context.header(0)),
        members: list_of(&view),
    })
}

/// Lists the members by ID: as a quorum has it, or as this member has it.
///
/// # Errors
/// Those of a linearizable read.
pub(in crate::server) async fn list(
    context: &Context,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, Status> {
    if request.linearizable {
        context.handle.read_barrier().await?;
    }
    let replica = context.handle.status();
    Ok(pb::MemberListResponse {
        header: Some(header(&replica, 0)),
        members: replica.members.iter().map(wire).collect(),
    })
}

fn list_of(view: &MembershipView) -> Vec<pb::Member> {
    view.members.iter().map(wire).collect()
}

fn wire(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.learner,
    }
}
