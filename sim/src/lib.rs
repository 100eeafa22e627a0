//! The deterministic simulator: whole clusters of the real Raft core and the real write-ahead log
//! on simulated disks, network and time. One seed, one history, byte for byte.
//!
//! Reading order: [`options`] (what a seed decides), [`world`] (time and events), [`host`] (one
//! member), [`store`] (what survives a crash), [`checkers`] (what must hold), `workload` (what
//! clients and misfortune do).

pub mod checkers;
pub mod disk;
pub mod host;
pub mod machine;
pub mod net;
pub mod options;
mod phases;
pub mod shrink;
mod snapshots;
pub mod store;
pub mod tape;
pub mod trace;
pub mod verdict;
mod workload;
pub mod world;
