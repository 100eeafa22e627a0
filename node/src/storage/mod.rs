//! What a member keeps on disk: identity, write-ahead log, revision log.
//!
//! Everything goes through [`crate::env::Disk`]. Must not know: the network, what commands mean.

pub mod revision_log;
