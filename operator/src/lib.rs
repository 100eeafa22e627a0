//! The operator: keeps every `KvCluster` quorate.
//!
//! One pass is `observe → validate → plan → apply → publish` (`reconcile`). Read in this order:
//! `crd` (what a user writes and sees), `desired` and `observed` (what the planner works on),
//! `record` (what must survive a crash), `plan` (decisions), `status` (what a user sees),
//! `reconcile` (the five calls), `platform` (effects). Must not know: the consensus core or the
//! node; members are seen only through the API.

pub mod certificates;
pub mod crd;
pub mod desired;
pub mod ids;
pub mod ledger;
pub mod manifest;
pub mod observed;
pub mod plan;
pub mod planted;
pub mod platform;
pub mod process;
pub mod quantity;
pub mod reconcile;
pub mod record;
pub mod requests;
pub mod settings;
pub mod status;
pub mod validate;
