//! The flags that take effect while a node runs, from the command line and from a file over it.

use super::UsageError;
use super::compaction::auto_compaction;
use super::read::Raw;
use crate::config::{HotSettings, QUOTA_BYTES_DEFAULT};
use std::collections::BTreeMap;

/// What the command line and the environment say.
pub(super) fn hot(raw: &Raw) -> Result<HotSettings, UsageError> {
    Ok(HotSettings {
        log_level: log_level(raw)?,
        quota_backend_bytes: quota(raw)?,
        auto_compaction: auto_compaction(raw)?,
    })
}

/// What `file` says, by flag name, and `base` where it says nothing.
///
/// # Errors
/// The value that makes no sense, as if it had been given as a flag.
pub fn hot_over(
    base: &HotSettings,
    file: BTreeMap<&'static str, String>,
) -> Result<HotSettings, UsageError> {
    let raw = Raw::of(file);
    let mut settings = hot(&raw)?;
    if !raw.is_set("log-level") {
        settings.log_level = base.log_level;
    }
    if !raw.is_set("quota-backend-bytes") {
        settings.quota_backend_bytes = base.quota_backend_bytes;
    }
    // A retention means nothing without its mode: the two come from one place.
    if !raw.is_set("auto-compaction-mode") && !raw.is_set("auto-compaction-retention") {
        settings.auto_compaction = base.auto_compaction;
    }
    Ok(settings)
}

/// The level as this server's log has it.
pub(super) fn log_level(raw: &Raw) -> Result<&'static str, UsageError> {
    match raw.text("log-level") {
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" => Ok("warn"),
        // The two levels above error exist in etcd's logger only.
        "error" | "dpanic" | "panic" | "fatal" => Ok("error"),
        other => Err(UsageError::invalid(format!(
            "--log-level \"{other}\" is none of debug, info, warn, error"
        ))),
    }
}

fn quota(raw: &Raw) -> Result<Option<u64>, UsageError> {
    Ok(match raw.number("quota-backend-bytes")? {
        0 => Some(QUOTA_BYTES_DEFAULT),
        bytes => u64::try_from(bytes).ok(),
    })
}
