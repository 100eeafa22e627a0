//! Tests of the simulator's parts, and of storage on its disk.

mod wal_crash;
mod wal_damage;
mod wal_model;
