//! `grpc.health.v1`: whether this member serves clients.

use crate::replica::Phase;
use crate::server::context::Context;
use crate::server::status::Status;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Services that may be asked about; the empty name is the whole node.
const SERVICES: [&str; 4] = [
    "",
    "etcdserverpb.KV",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
];

/// Answers once.
///
/// # Errors
/// `NotFound` for a service we do not have, as the protocol wants it.
pub(in crate::server) fn check(
    context: &Context,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    if !SERVICES.contains(&request.service.as_str()) {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    Ok(answer(serving(context)))
}

/// What a watcher is told; an unknown service is part of the answer there.
pub(in crate::server) fn watched(context: &Context, service: &str) -> HealthCheckResponse {
    if SERVICES.contains(&service) {
        answer(serving(context))
    } else {
        answer(ServingStatus::ServiceUnknown)
    }
}

/// Serving from the moment there is a state to read until the node drains.
fn serving(context: &Context) -> ServingStatus {
    let joined = context.handle.status().phase == Phase::Joined;
    if joined && context.handle.reader().is_some() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
