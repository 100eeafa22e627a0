//! The gRPC methods: what each path leads to, and its counters.
//!
//! Must not know: frames, what a call does.

use super::status::{self, Status};
use crate::metrics::{MethodMetrics, ServerMetrics};
use http::{HeaderMap, HeaderName};
use prometheus::IntCounter;
use tonic::Code;

const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    HashKv,
    MoveLeader,
    HealthCheck,
    /// A stream, or a service that a library answers.
    Streaming,
    /// On the wire, not in this version.
    Unserved,
}

/// How often each side speaks, as the label `grpc_type` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

use Kind::{BidiStream, ServerStream, Unary};

/// Every method, the busiest first: the search goes from the top.
const METHODS: &[(&str, Kind, Call)] = &[
    ("/etcdserverpb.KV/Range", Unary, Call::Range),
    ("/etcdserverpb.KV/Put", Unary, Call::Put),
    ("/etcdserverpb.KV/Txn", Unary, Call::Txn),
    ("/etcdserverpb.KV/DeleteRange", Unary, Call::DeleteRange),
    ("/etcdserverpb.KV/Compact", Unary, Call::Compact),
    ("/etcdserverpb.KV/RangeStream", ServerStream, Call::Unserved),
    ("/etcdserverpb.Watch/Watch", BidiStream, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseGrant", Unary, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseRevoke", Unary, Call::Unserved),
    (
        "/etcdserverpb.Lease/LeaseKeepAlive",
        BidiStream,
        Call::Unserved,
    ),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Unary, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseLeases", Unary, Call::Unserved),
    ("/etcdserverpb.Cluster/MemberAdd", Unary, Call::MemberAdd),
    (
        "/etcdserverpb.Cluster/MemberRemove",
        Unary,
        Call::MemberRemove,
    ),
    (
        "/etcdserverpb.Cluster/MemberUpdate",
        Unary,
        Call::MemberUpdate,
    ),
    ("/etcdserverpb.Cluster/MemberList", Unary, Call::MemberList),
    (
        "/etcdserverpb.Cluster/MemberPromote",
        Unary,
        Call::MemberPromote,
    ),
    ("/etcdserverpb.Maintenance/Alarm", Unary, Call::Alarm),
    ("/etcdserverpb.Maintenance/Status", Unary, Call::Status),
    (
        "/etcdserverpb.Maintenance/Defragment",
        Unary,
        Call::Defragment,
    ),
    ("/etcdserverpb.Maintenance/Hash", Unary, Call::Unserved),
    ("/etcdserverpb.Maintenance/HashKV", Unary, Call::HashKv),
    (
        "/etcdserverpb.Maintenance/Snapshot",
        ServerStream,
        Call::Unserved,
    ),
    (
        "/etcdserverpb.Maintenance/MoveLeader",
        Unary,
        Call::MoveLeader,
    ),
    ("/etcdserverpb.Maintenance/Downgrade", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthEnable", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthDisable", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthStatus", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/Authenticate", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserAdd", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserGet", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserList", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserDelete", Unary, Call::Unserved),
    (
        "/etcdserverpb.Auth/UserChangePassword",
        Unary,
        Call::Unserved,
    ),
    ("/etcdserverpb.Auth/UserGrantRole", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserRevokeRole", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleAdd", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleGet", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleList", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleDelete", Unary, Call::Unserved),
    (
        "/etcdserverpb.Auth/RoleGrantPermission",
        Unary,
        Call::Unserved,
    ),
    (
        "/etcdserverpb.Auth/RoleRevokePermission",
        Unary,
        Call::Unserved,
    ),
    ("/grpc.health.v1.Health/Check", Unary, Call::HealthCheck),
    (
        "/grpc.health.v1.Health/Watch",
        ServerStream,
        Call::Streaming,
    ),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        BidiStream,
        Call::Streaming,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        BidiStream,
        Call::Streaming,
    ),
];

/// One method with its counters.
pub(super) struct Method {
    path: &'static str,
    pub(super) call: Call,
    pub(super) counters: MethodMetrics,
}

/// All methods.
pub(super) struct Methods {
    methods: Vec<Method>,
    /// By known API version, and last those of any other.
    api_versions: Vec<(&'static str, IntCounter)>,
    /// Calls that name no version.
    api_unknown: IntCounter,
}

impl Methods {
    pub(super) fn new(metrics: &ServerMetrics) -> Self {
        let method = |&(path, kind, call): &(&'static str, Kind, Call)| {
            let kind = match kind {
                Unary => "unary",
                ServerStream => "server_stream",
                BidiStream => "bidi_stream",
            };
            let (service, name) = split(path).expect("the table holds whole paths");
            Method {
                path,
                call,
                counters: metrics.method(kind, service, name),
            }
        };
        let version = |text: &'static str| {
            (
                text,
                metrics.client_requests.with_label_values(&["unary", text]),
            )
        };
        Self {
            methods: METHODS.iter().map(method).collect(),
            api_versions: ["3.7", "3.6", "3.5", "3.4", "other"].map(version).into(),
            api_unknown: metrics
                .client_requests
                .with_label_values(&["unary", "unknown"]),
        }
    }

    /// The method at a path.
    pub(super) fn find(&self, path: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.path == path)
    }

    /// Counts the API version a client claims; every text we do not know is one label.
    ///
    /// # Errors
    /// `invalid client api version` for one that is not UTF-8.
    pub(super) fn count_api_version(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(claimed) = headers.get(CLIENT_API_VERSION) else {
            self.api_unknown.inc();
            return Ok(());
        };
        let text = std::str::from_utf8(claimed.as_bytes())
            .map_err(|_| status::INVALID_CLIENT_API_VERSION)?;
        let known = self
            .api_versions
            .iter()
            .find(|(version, _)| *version == text);
        if let Some((_, counter)) = known.or(self.api_versions.last()) {
            counter.inc();
        }
        Ok(())
    }
}

/// `/package.Service/Method` in its two parts.
fn split(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

/// The refusal of a path that is not in the table.
pub(super) fn unknown(path: &str) -> Status {
    let text = match split(path) {
        Some((service, method)) if has_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::new(Code::Unimplemented, text)
}

fn has_service(service: &str) -> bool {
    METHODS
        .iter()
        .any(|(path, ..)| split(path).is_some_and(|(known, _)| known == service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn every_rpc_of_the_descriptors_has_a_row_of_the_same_kind() {
        let set = prost_types::FileDescriptorSet::decode(quorate_api::DESCRIPTORS).unwrap();
        let mut found = 0;
        for file in set
            .file
            .iter()
            .filter(|file| file.package() == "etcdserverpb")
        {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/etcdserverpb.{}/{}", service.name(), method.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Unary,
                        (false, true) => ServerStream,
                        (true, _) => BidiStream,
                    };
                    let row = METHODS.iter().find(|(p, ..)| *p == path);
                    assert_eq!(row.map(|row| row.1), Some(kind), "{path}");
                    found += 1;
                }
            }
        }
        assert_eq!(found, 42);
    }

    #[test]
    fn an_unknown_path_says_which_part_is_unknown() {
        let text = |path| unknown(path).message.into_owned();
        assert_eq!(
            text("/etcdserverpb.KV/Nope"),
            "unknown method Nope for service etcdserverpb.KV"
        );
        assert_eq!(text("/a.B/C"), "unknown service a.B");
        assert_eq!(text("/x"), "malformed method name: \"/x\"");
    }
}
