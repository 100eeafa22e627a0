//! One file per verb; each declares its options and runs them.

pub mod compact;
pub mod completion;
pub mod del;
pub mod endpoint_health;
pub mod get;
pub mod list;
pub mod member;
pub mod move_leader;
pub mod operator;
pub mod operator_run;
pub mod probe;
pub mod put;
pub mod status;
pub mod txn;
pub mod up;
pub mod version;
pub mod wal;
