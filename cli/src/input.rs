//! What the user names: keys, intervals of keys, values from an argument, a file or a stream.
//!
//! Keys and values are bytes and pass through unchanged, whatever encoding the shell uses.
//! Must not know: the wire messages, or which verb asks.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;

/// Most bytes taken from a file or from standard input. Members refuse far smaller requests; this
/// only keeps a mistaken pipe from filling the memory.
pub const INPUT_BYTES_MAX: u64 = 64 << 20;

/// The keys a command works on.
#[derive(Args, Debug)]
pub struct KeyRange {
    /// The key, or the first key of the range.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// End of the range, exclusive.
    #[arg(value_name = "RANGE_END", conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY; an empty KEY means all keys.
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// All keys from KEY on, in byte order.
    #[arg(long)]
    pub from_key: bool,
}

impl KeyRange {
    /// The interval as the wire has it, after checking it.
    ///
    /// # Errors
    /// [`Failure::Usage`] for an empty key that stands alone, and for a range that cannot hold a
    /// key.
    pub fn interval(&self) -> Result<Interval, Failure> {
        let key = self.key.as_bytes();
        if self.prefix {
            return Ok(Interval::prefix(key));
        }
        if self.from_key {
            return Ok(Interval::from_key(key));
        }
        let end = self.range_end.as_deref().map(OsStr::as_bytes);
        if key.is_empty() {
            return Err(Failure::usage(
                "the key is empty, and a key has at least one byte.\n\
                 Give a key, or add --prefix to mean all keys.",
            ));
        }
        match end {
            Some(end) if end <= key => Err(Failure::usage(format!(
                "the range from {} to {} holds no key: its end is not after its start.\n\
                 Swap the two, or use --prefix.",
                crate::output::shown(key),
                crate::output::shown(end)
            ))),
            end => Ok(Interval {
                key: key.to_vec(),
                range_end: end.unwrap_or_default().to_vec(),
            }),
        }
    }
}

/// An interval of keys in the wire's notation (`etcd-v3.md`, 2.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first key.
    pub key: Vec<u8>,
    /// Empty: only `key`. One zero byte: all from `key` on. Otherwise exclusive.
    pub range_end: Vec<u8>,
}

impl Interval {
    /// One key.
    pub fn one(key: &[u8]) -> Interval {
        Interval {
            key: key.to_vec(),
            range_end: Vec::new(),
        }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Interval {
        if prefix.is_empty() {
            return Interval::from_key(prefix);
        }
        let kept = prefix
            .iter()
            .rposition(|byte| *byte != 0xff)
            .map_or(0, |last| last + 1);
        let mut range_end = prefix[..kept].to_vec();
        match range_end.last_mut() {
            Some(last) => *last += 1,
            // Nothing but 0xff: no key lies behind the prefix, so the interval is open.
            None => range_end.push(0),
        }
        Interval {
            key: prefix.to_vec(),
            range_end,
        }
    }

    /// All keys from `key` on; an empty key means all.
    pub fn from_key(key: &[u8]) -> Interval {
        let key = if key.is_empty() {
            vec![0]
        } else {
            key.to_vec()
        };
        Interval {
            key,
            range_end: vec![0],
        }
    }

    /// Whether it can hold more than one key.
    pub fn is_range(&self) -> bool {
        !self.range_end.is_empty()
    }

    /// For messages.
    pub fn shown(&self) -> String {
        let key = crate::output::shown(&self.key);
        match self.range_end.as_slice() {
            [] => format!("key {key}"),
            [0] => format!("keys from {key} on"),
            end => format!("keys from {key} to {}", crate::output::shown(end)),
        }
    }
}

/// A key that must be given and must not be empty.
///
/// # Errors
/// [`Failure::Usage`] for an empty one.
pub fn key_bytes(key: &OsStr) -> Result<Vec<u8>, Failure> {
    if key.is_empty() {
        return Err(Failure::usage(
            "the key is empty, and a key has at least one byte. Give the key as first argument.",
        ));
    }
    Ok(key.as_bytes().to_vec())
}

/// Where a value comes from: exactly one of the three.
#[derive(Args, Debug)]
#[group(required = false, multiple = false)]
pub struct ValueSource {
    /// The value; `-` reads it from standard input.
    #[arg(value_name = "VALUE")]
    pub value: Option<OsString>,
    /// Read the value from a file, byte for byte.
    #[arg(long, value_name = "PATH")]
    pub value_file: Option<PathBuf>,
}

impl ValueSource {
    /// The value's bytes, or `None` when no source was named.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the file or standard input cannot be read or is too large.
    pub fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        match (&self.value, &self.value_file) {
            (_, Some(path)) => read_file(path).map(Some),
            (Some(value), None) if value == "-" => read_stdin().map(Some),
            (Some(value), None) => Ok(Some(value.as_bytes().to_vec())),
            (None, None) => Ok(None),
        }
    }
}

/// All of a file.
///
/// # Errors
/// [`Failure::Usage`] when it cannot be read or is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |error: std::io::Error| {
        Failure::usage(format!(
            "file {} cannot be read: {error}. Check the path; nothing was sent.",
            path.display()
        ))
    };
    let file = std::fs::File::open(path).map_err(wrong)?;
    read_bounded(file, &format!("file {}", path.display())).map_err(wrong)?
}

/// All of standard input.
///
/// # Errors
/// As [`read_file`].
pub fn read_stdin() -> Result<Vec<u8>, Failure> {
    read_bounded(std::io::stdin().lock(), "standard input").map_err(|error| {
        Failure::usage(format!(
            "standard input cannot be read: {error}. Nothing was sent."
        ))
    })?
}

fn read_bounded(source: impl Read, name: &str) -> std::io::Result<Result<Vec<u8>, Failure>> {
    let mut bytes = Vec::new();
    source.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Ok(Err(Failure::usage(format!(
            "{name} holds more than {} MiB, which no member accepts. Nothing was sent.",
            INPUT_BYTES_MAX >> 20
        ))));
    }
    Ok(Ok(bytes))
}

/// Reads a number that must not be negative, as revisions and limits are.
///
/// # Errors
/// A text that is no such number.
pub fn parse_count(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err("use a whole number, 0 or greater".to_owned()),
    }
}

/// Reads a lease ID in hexadecimal.
///
/// # Errors
/// A text that is no such number, or zero.
pub fn parse_lease(text: &str) -> Result<i64, String> {
    match u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16) {
        Ok(id) if id > 0 => Ok(id.cast_signed()),
        _ => Err("use the lease ID in hexadecimal, as `lease grant` prints it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        let end = |prefix: &[u8]| Interval::prefix(prefix).range_end;
        assert_eq!(end(b"a"), b"b");
        assert_eq!(end(b"a\xff\xff"), b"b");
        assert_eq!(end(b"a\xfe"), b"a\xff");
        assert_eq!(end(b"\xff\xff"), b"\0");
        assert_eq!(
            Interval::prefix(b""),
            Interval {
                key: vec![0],
                range_end: vec![0]
            }
        );
    }

    #[test]
    fn an_input_beyond_the_limit_is_refused() {
        let endless = std::io::repeat(b'x');
        let refused = read_bounded(endless, "the pipe").unwrap();
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("more than 64 MiB")
        );
    }

    #[test]
    fn lease_ids_are_hexadecimal() {
        assert_eq!(parse_lease("ff"), Ok(255));
        assert_eq!(parse_lease("0x10"), Ok(16));
        assert!(parse_lease("0").is_err() && parse_lease("x").is_err());
    }
}
