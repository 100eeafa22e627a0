//! One file per verb; each declares its options and runs them.

use std::collections::BTreeMap;

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

/// What the members that this program runs think of settings, for the operator to check a spec.
pub fn member_settings(settings: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    quorate_node::flags::check_settings(settings).map_err(|error| error.message)
}
