//! The server: a Raft replica with its log, its state machine and its surfaces, as a library.

pub mod config;
pub mod env;
pub mod flags;
pub mod kv;
pub mod logging;
pub mod metrics;
pub mod replica;
pub mod server;
pub mod storage;
pub mod transport;
