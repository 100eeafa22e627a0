//! The wire: etcd's client API and Quorate's admin service as messages, stubs and a thin client.
//!
//! The messages are generated from `api/proto` by `cargo xtask codegen` and committed, so that a
//! build needs no code generator. Byte fields are [`prost::bytes::Bytes`]: decoding a request
//! shares the buffer it arrived in.
//! Must not know: how a member stores, replicates or answers anything.

pub mod client;
pub mod limits;
pub mod settings;
pub mod tls;

/// Keys with their history, and changes of them.
#[expect(
    missing_docs,
    reason = "generated; the fields are explained in the proto"
)]
pub mod mvccpb {
    include!("gen/mvccpb.rs");
}

/// Users, roles and permissions.
#[expect(
    missing_docs,
    reason = "generated; the fields are explained in the proto"
)]
pub mod authpb {
    include!("gen/authpb.rs");
}

/// etcd's client API: KV, Watch, Lease, Cluster, Maintenance, Auth.
#[expect(
    missing_docs,
    reason = "generated; the fields are explained in the proto"
)]
pub mod etcdserverpb {
    include!("gen/etcdserverpb.rs");
}

/// Quorate's admin service: identity, membership, and changes of both.
pub mod admin {
    /// Version 1 of it, `quorate.admin.v1`.
    #[expect(
        missing_docs,
        clippy::too_many_lines,
        reason = "generated; the fields are explained in the proto"
    )]
    pub mod v1 {
        include!("gen/quorate.admin.v1.rs");
    }
}

/// The encoded descriptors of every package above and of their imports: what gRPC reflection
/// serves.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
