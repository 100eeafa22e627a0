//! The members' settings as a spec has them: those they take while they run, and those they begin
//! with.
//!
//! PURE. Assumes a spec that was validated. Must not know: files, objects, what a flag means.

use crate::crd::{AutoCompactionMode, KvClusterSpec};
use quorate_api::settings::{digest, known, write};
use std::collections::BTreeMap;

/// Settings by flag name.
pub type Settings = BTreeMap<String, String>;

/// What a member is to have in force while it runs (protocol 3.8), as the file that it reads.
#[must_use]
pub fn file(spec: &KvClusterSpec) -> String {
    write(&hot(spec))
}

/// What a member reports when it has taken [`file()`].
#[must_use]
pub fn file_digest(spec: &KvClusterSpec) -> String {
    digest(file(spec).as_bytes())
}

/// Settings that change without a restart, by flag name.
#[must_use]
pub fn hot(spec: &KvClusterSpec) -> Settings {
    let config = spec.config.iter();
    let config = config.filter(|(name, _)| known(name).is_some());
    let config = config.map(|(name, value)| (name.clone(), value.clone()));
    config
        .chain(quota(spec))
        .chain(auto_compaction(spec))
        .collect()
}

/// Settings that a member takes when it begins, by flag name.
#[must_use]
pub fn cold(spec: &KvClusterSpec) -> Settings {
    let mut settings = spec.config.clone();
    settings.retain(|name, _| known(name).is_none());
    settings
}

/// What `spec.quotaBackendBytes` says.
pub(crate) fn quota(spec: &KvClusterSpec) -> Settings {
    let quota = spec.quota_backend_bytes.iter();
    quota
        .map(|bytes| ("quota-backend-bytes".to_owned(), bytes.to_string()))
        .collect()
}

/// What `spec.autoCompaction` says.
pub(crate) fn auto_compaction(spec: &KvClusterSpec) -> Settings {
    let mode = match spec.auto_compaction.mode {
        AutoCompactionMode::Periodic => "periodic",
        AutoCompactionMode::Revision => "revision",
    };
    let retention = spec.auto_compaction.retention.clone();
    BTreeMap::from([
        ("auto-compaction-mode".to_owned(), mode.to_owned()),
        ("auto-compaction-retention".to_owned(), retention),
    ])
}
