//! Settings that a node takes while it runs, as one file: whoever manages nodes writes it, nodes
//! read it, and its digest tells which one a node has in force.
//!
//! A line is `name=value`, the name being that of a flag; `#` begins a comment. Must not know: what
//! a value means, where the file is.
//! Caveat: a node does not start with a name it does not know, so a name that is added to [`NAMES`]
//! must not be written for members of an older version.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The flags that take effect while a node runs. All others need a restart.
pub const NAMES: [&str; 4] = [
    "auto-compaction-mode",
    "auto-compaction-retention",
    "log-level",
    "quota-backend-bytes",
];

/// Longest file, bytes.
pub const BYTES_MAX: usize = 16 << 10;

/// Why a file of settings cannot be read. Each names the line and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More than [`BYTES_MAX`].
    #[error("it has {0} bytes; {BYTES_MAX} are allowed")]
    Long(usize),
    /// No text.
    #[error("it is not UTF-8; write it as plain text")]
    Text,
    /// Neither a comment nor a setting.
    #[error("line {line} has no =; a line is name=value, and # begins a comment")]
    Form {
        /// Which, from 1.
        line: usize,
    },
    /// A flag that needs a restart, or none at all.
    #[error(
        "line {line}: \"{name}\" cannot change while the node runs; {} can. Take it out of the \
         file and give it as a flag",
        NAMES.join(", ")
    )]
    Name {
        /// Which, from 1.
        line: usize,
        /// The beginning of the name.
        name: String,
    },
    /// The same name again.
    #[error("line {line}: {name} is there twice; leave one of the two")]
    Twice {
        /// Which, from 1.
        line: usize,
        /// The name.
        name: &'static str,
    },
}

/// Characters of a name that errors show.
const SHOWN_MAX: usize = 60;

/// The name as this module has it, if it is one of [`NAMES`].
#[must_use]
pub fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// The file of these settings. The same settings give the same bytes. What is none of [`NAMES`] is
/// left out, and a value ends with its line.
#[must_use]
pub fn write(settings: &BTreeMap<String, String>) -> String {
    let mut text = String::from("# Settings that members take while they run, by flag name.\n");
    for (name, value) in settings {
        if known(name).is_some() {
            let value = value.lines().next().unwrap_or_default();
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    text
}

/// What is in a file.
///
/// # Errors
/// [`ReadError`]; then nothing of it counts.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<&'static str, String>, ReadError> {
    if bytes.len() > BYTES_MAX {
        return Err(ReadError::Long(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ReadError::Text)?;
    let mut settings = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (name, value) = content.split_once('=').ok_or(ReadError::Form { line })?;
        let name = name.trim_end();
        let name = known(name).ok_or_else(|| ReadError::Name {
            line,
            name: name.chars().take(SHOWN_MAX).collect(),
        })?;
        if settings.insert(name, value.trim().to_owned()).is_some() {
            return Err(ReadError::Twice { line, name });
        }
    }
    Ok(settings)
}

/// What tells one file from another: lower-case hex, 16 letters.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    hex.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let settings = BTreeMap::from(
            [
                ("log-level", "debug"),
                ("quota-backend-bytes", "8589934592"),
                ("auto-compaction-retention", "1h30m"),
                ("heartbeat-interval", "50"),
            ]
            .map(owned),
        );
        let text = write(&settings);
        let read = read(text.as_bytes()).unwrap();
        let expected = [
            ("auto-compaction-retention", "1h30m".to_owned()),
            ("log-level", "debug".to_owned()),
            ("quota-backend-bytes", "8589934592".to_owned()),
        ];
        assert_eq!(read, BTreeMap::from(expected));
        assert_eq!(text, write(&settings));
        assert_ne!(digest(text.as_bytes()), digest(b""));
        assert_eq!(digest(b"").len(), 16);
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_second_setting() {
        let value = "info\nquota-backend-bytes=1".to_owned();
        let text = write(&BTreeMap::from([("log-level".to_owned(), value)]));
        let expected = BTreeMap::from([("log-level", "info".to_owned())]);
        assert_eq!(read(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn files_that_make_no_sense_are_refused_with_their_line() {
        let table: [(&[u8], &str); 6] = [
            (b"log-level", "line 1 has no ="),
            (
                b"# fine\n\n  data-dir = /x",
                "line 3: \"data-dir\" cannot change",
            ),
            (
                b"log-level=info\nlog-level=debug\n",
                "line 2: log-level is there twice",
            ),
            (b"=", "line 1: \"\" cannot change"),
            (b"\xff\xfe", "not UTF-8"),
            (&[b'#'; BYTES_MAX + 1], "16385 bytes; 16384 are allowed"),
        ];
        for (bytes, part) in table {
            let said = read(bytes).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(read(b"\n# nothing\n\r\n"), Ok(BTreeMap::new()));
    }
}
