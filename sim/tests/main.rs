//! Tests of the simulator's parts, and of storage on its disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod determinism;
mod repair;
mod wal_crash;
mod wal_damage;
mod wal_model;
