//! Settings that somebody else will give to a managed node, checked before any node starts.

use super::{CalledAs, Request, UsageError, parse};
use std::collections::BTreeMap;

/// What whoever manages a node gives it, beside addresses, files and identity.
const GIVEN_BY_THE_MANAGER: &[&str] = &[
    "help",
    "listen-admin",
    "log-format",
    "managed",
    "settings-file",
    "version",
];

/// Whether a managed node would start with these settings, flag name to value: `Ok` has the
/// warnings that it would log.
///
/// # Errors
/// What the node would say instead of starting.
pub fn check_settings(settings: &BTreeMap<String, String>) -> Result<Vec<String>, UsageError> {
    let mut args = vec![
        "--managed".to_owned(),
        "--listen-admin=127.0.0.1:2381".to_owned(),
    ];
    for (name, value) in settings {
        if GIVEN_BY_THE_MANAGER.contains(&name.as_str()) {
            return Err(UsageError::invalid(format!(
                "--{name} is given by whoever manages the node; leave it out"
            )));
        }
        args.push(format!("--{name}={value}"));
    }
    match parse(CalledAs::QuorateNode, &args, &BTreeMap::new())? {
        Request::Run(_, log) => Ok(log.warnings),
        // `-h` has more spellings than the list above.
        Request::Print(_) => Err(UsageError::invalid(
            "a setting asks for a text instead of a node; leave it out".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        check_settings(&settings.iter().map(owned).collect()).map_err(|error| error.message)
    }

    #[test]
    fn settings_are_judged_as_the_node_itself_would() {
        assert_eq!(check(&[]), Ok(vec![]));
        assert_eq!(check(&[("heartbeat-interval", "50")]), Ok(vec![]));
        let warned = check(&[("max-wals", "9")]).unwrap();
        assert_eq!(warned, ["--max-wals=9 has no effect on this server"]);
        let table = [
            (
                &[("heartbeat-interval", "2000"), ("election-timeout", "1000")][..],
                "--election-timeout=1000 is shorter than five times --heartbeat-interval=2000",
            ),
            (
                &[("hartbeat-interval", "50")],
                "flag --hartbeat-interval does not exist; did you mean --heartbeat-interval?",
            ),
            (
                &[("election-timeout", "soon")],
                "--election-timeout \"soon\" is not a whole number",
            ),
            (&[("log-format", "text")], "--log-format is given by"),
            (&[("managed", "false")], "--managed is given by"),
            (&[("h", "")], "asks for a text instead of a node"),
            (&[("-help", "")], "flag ---help does not exist"),
            (&[("a=b", "c")], "flag --a does not exist"),
        ];
        for (settings, part) in table {
            let said = check(settings).unwrap_err();
            assert!(said.contains(part), "{settings:?}: {said}");
        }
    }
}
