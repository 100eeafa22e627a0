//! One operator per data directory: a lock that the system releases when its holder dies.
//!
//! Must not know: what is protected.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Error, files};

/// The lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    // Closing it releases the lock; children do not inherit it.
    _file: File,
}

impl Lock {
    /// Takes the lock of a data directory, creating the directory if need be.
    ///
    /// # Errors
    /// [`Error::InUse`] with the PID of the holder, or the path and what failed.
    pub fn take(dir: &Path) -> Result<Lock, Error> {
        files::create_dir(dir)?;
        let path: PathBuf = dir.join("lock");
        let wrong = |error| Error::io("cannot lock", &path, error);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(wrong)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut holder);
                return Err(Error::InUse {
                    dir: dir.to_owned(),
                    pid: holder.trim().to_owned(),
                });
            }
            Err(error) => return Err(wrong(error.into())),
        }
        file.set_len(0).map_err(wrong)?;
        file.rewind().map_err(wrong)?;
        writeln!(file, "{}", std::process::id()).map_err(wrong)?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        assert!(Lock::take(dir.path()).is_ok());
    }
}
