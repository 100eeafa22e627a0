//! Tests of the revision log, on a disk in memory that can lose, tear and rot what it holds.

mod compaction;
mod crash;
mod damage;
pub(crate) mod disk;
mod format;
mod harness;
mod model;
mod snapshots;
mod tail;
