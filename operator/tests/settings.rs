//! What the members' program says of settings, in tests: everything is well but the word `refused`.

use std::collections::BTreeMap;

/// Stands in for the check that the binary brings along.
pub fn member_settings(settings: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let refused = settings.iter().find(|(_, value)| *value == "refused");
    match refused {
        Some((name, _)) => Err(format!("--{name}=refused is not allowed")),
        None => Ok(Vec::new()),
    }
}
