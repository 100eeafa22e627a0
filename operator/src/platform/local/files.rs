//! Small files that must be either old or new after a crash, never in between.
//!
//! Assumes a file system on which renaming within a directory is atomic. Must not know: what the
//! files mean.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// A state file is never larger; more is another file under its name.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Replaces `path` with `value` as JSON. Durable when this returns.
///
/// # Errors
/// The path and what failed; the old content is still there, or the new one is.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("our state types have text keys");
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Replaces `path` with these bytes. Durable when this returns.
///
/// # Errors
/// The path and what failed; the old content is still there, or the new one is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let wrong = |error| Error::io("cannot write", path, error);
    let fresh = fresh_name(path);
    let mut file = File::create(&fresh).map_err(wrong)?;
    file.write_all(bytes).map_err(wrong)?;
    file.sync_all().map_err(wrong)?;
    fs::rename(&fresh, path).map_err(wrong)?;
    sync_parent(path)
}

/// Reads a file written by [`write_json`]; `None` when there is none.
///
/// # Errors
/// The path, and why it cannot be read or is not what it should be.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match read(path, FILE_BYTES_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Damaged {
                path: path.to_owned(),
                why: error.to_string(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("cannot read", path, error)),
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// As the system says; a larger file is of kind `FileTooLarge`.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// Removes a file durably; its absence is success.
///
/// # Errors
/// The path and what failed.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("cannot remove", path, error)),
    }
}

/// Creates a directory with mode 0700 and whatever is missing above it.
///
/// # Errors
/// The path and what failed.
pub(super) fn create_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("cannot create", path, error))
}

/// Makes the entries of the directory that holds `path` durable.
///
/// # Errors
/// The path and what failed.
pub(super) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io("cannot sync", parent, error))
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_value_is_read_back_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
        write_json(&path, &vec![1, 2, 3]).unwrap();
        write_json(&path, &vec![4]).unwrap();
        assert_eq!(read_json(&path).unwrap(), Some(vec![4]));
        assert!(!fresh_name(&path).exists());
    }

    #[test]
    fn a_half_written_file_beside_it_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_json(&path, &vec![1]).unwrap();
        fs::write(fresh_name(&path), b"[2,").unwrap();
        assert_eq!(read_json(&path).unwrap(), Some(vec![1]));
        write_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json(&path).unwrap(), Some(vec![3]));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, b"{").unwrap();
        let text = read_json::<Vec<u32>>(&path).unwrap_err().to_string();
        assert!(text.contains("state.json"), "{text}");
        fs::write(&path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_json::<Vec<u32>>(&path).is_err());
    }
}
