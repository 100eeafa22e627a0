//! Limits that both ends of a connection must agree on, with etcd's values.

/// The largest client request a member accepts by default (`--max-request-bytes`), in bytes.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// What a message may exceed the request limit by on the wire, in bytes: room for everything that
/// is not key or value.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;

/// The largest response a client accepts, in bytes. A list has no other bound than its `limit`.
pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// Operations in one transaction, by default (`--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 128;

/// The etcd version whose behaviour is offered. Clients switch features by it.
pub const ETCD_VERSION: &str = "3.7.3";

/// The cluster version that goes with [`ETCD_VERSION`].
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";

/// The storage version that goes with [`ETCD_VERSION`].
pub const ETCD_STORAGE_VERSION: &str = "3.7.0";
