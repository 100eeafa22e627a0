//! The settings of the members that a spec contains, judged by the program that will get them.
//!
//! PURE. Assumes that the program judges settings as it will when it starts. Must not know: what a
//! setting means, how it reaches a member.

use super::{Findings, SettingsCheck};
use crate::crd::{CONFIG_WITH_FIELD, KvClusterSpec, RESERVED_CONFIG};
use crate::settings::{Settings, auto_compaction, quota};
use std::collections::BTreeMap;

/// What is said of a flag that the operator renders.
const SET_BY_US: &str = "is set by the operator; leave it out";
/// Flags without a place in `spec.config` that every member is given on its command line.
const GIVEN: [&str; 2] = ["log-format", "managed"];

/// The variables of the pods: a member does not start with one that stands for a flag it is given,
/// and what has a field of its own is pushed over any variable.
pub(super) fn check_env(spec: &KvClusterSpec, found: &mut Findings) {
    for (index, variable) in spec.env.iter().enumerate() {
        let Some(flag) = variable.name.strip_prefix("ETCD_") else {
            continue;
        };
        let flag = flag.to_ascii_lowercase().replace('_', "-");
        let given = GIVEN.contains(&flag.as_str()).then(|| SET_BY_US.to_owned());
        if let Some(why) = not_in_config(&flag).or(given) {
            let path = format!("spec.env[{index}].name");
            found.refuse(path, format!("`{}` {why}", variable.name));
        }
    }
}

/// The settings that are the user's, by the word of the program that will get them: each field by
/// itself, so that the one that is wrong is named, and then all together.
pub(super) fn check(spec: &KvClusterSpec, settings: SettingsCheck, found: &mut Findings) {
    if spec.config.keys().any(|key| not_in_config(key).is_some()) {
        return;
    }
    let quota = match spec.quota_backend_bytes {
        // It is refused already, in words that fit the field.
        Some(..0) => Settings::new(),
        Some(_) | None => quota(spec),
    };
    let parts: [(&str, Settings); 3] = [
        ("spec.config", spec.config.clone()),
        ("spec.autoCompaction.retention", auto_compaction(spec)),
        ("spec.quotaBackendBytes", quota),
    ];
    let errors = found.errors.len();
    for (path, part) in &parts {
        if let Err(why) = settings(part) {
            found.refuse(culprit(path, part, &why, settings), why);
        }
    }
    if found.errors.len() > errors {
        return;
    }
    match settings(&parts.into_iter().flat_map(|(_, part)| part).collect()) {
        Ok(warnings) => {
            for warning in warnings {
                found.warn(format!("spec.config: {warning}"));
            }
        }
        Err(why) => found.refuse("spec", why),
    }
}

/// The one key of `spec.config` that is refused with the same words when it is alone, if there is
/// one; otherwise the field.
fn culprit(path: &str, part: &Settings, why: &str, settings: SettingsCheck) -> String {
    let alone = |(key, value): &(&String, &String)| {
        let one = BTreeMap::from([((*key).clone(), (*value).clone())]);
        settings(&one).is_err_and(|said| said == why)
    };
    match part.iter().find(alone) {
        Some((key, _)) if path == "spec.config" => format!("{path}.{key}"),
        _ => path.to_owned(),
    }
}

/// Why a setting has no place in `spec.config`.
pub(super) fn not_in_config(key: &str) -> Option<String> {
    // Members take the names of older releases too.
    let name = key.strip_prefix("experimental-").unwrap_or(key);
    if RESERVED_CONFIG.contains(&name) {
        return Some(SET_BY_US.to_owned());
    }
    let mut fields = CONFIG_WITH_FIELD.iter();
    let (_, field) = fields.find(|(with_field, _)| *with_field == name)?;
    Some(format!("has a field of its own; use {field}"))
}
