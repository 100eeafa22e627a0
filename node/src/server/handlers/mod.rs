//! What each request does, one file per service; no framing, no sockets.
//!
//! Must not know: whether a request came by gRPC or by plain HTTP.

pub(super) mod admin;
pub(super) mod cluster;
pub(super) mod health;
pub(super) mod kv;
pub(super) mod maintenance;
