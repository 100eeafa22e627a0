//! What the platform remembers about a cluster: the file `state.json` next to the members' data.
//!
//! It is to this platform what the object in the API server is to the other: the last good
//! manifest, the size of the set, and the status with the operator's records. Every write is atomic
//! and durable before the effect it announces. Must not know: what the records mean.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::crd::KvClusterStatus;
use crate::ids::ObjectUid;

use super::{Error, files};

/// The state of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    /// Version of this file's form.
    pub format: u32,
    /// The cluster's name; the directory belongs to it.
    pub name: String,
    /// Chosen when the manifest was first seen.
    pub uid: ObjectUid,
    /// Client port of slot 0: members know each other by ports, so that it can never change.
    pub base_port: u16,
    /// Counts the accepted versions of the spec.
    pub generation: i64,
    /// The last manifest that was accepted, as text.
    pub manifest: String,
    /// Slots `0..count` run; `None` when there is no set.
    pub slots: Option<u32>,
    /// The status, with the operator's records in it.
    pub status: KvClusterStatus,
}

/// The form written by this version.
pub(super) const FORMAT: u32 = 1;

/// The state file of a data directory.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The state file in this directory.
    pub fn of(dir: &Path) -> StateFile {
        StateFile {
            path: dir.join("state.json"),
        }
    }

    /// What was last written; `None` for a new directory.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a file that is not what was written, or of a later version.
    pub fn load(&self) -> Result<Option<State>, Error> {
        let state: Option<State> = files::read_json(&self.path)?;
        match state {
            Some(state) if state.format != FORMAT => Err(Error::Damaged {
                path: self.path.clone(),
                why: format!(
                    "it has form {} and this version knows form {FORMAT}; use the version that wrote it",
                    state.format
                ),
            }),
            state => Ok(state),
        }
    }

    /// Writes it. Durable when this returns.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        files::write_json(&self.path, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            format: FORMAT,
            name: "demo".into(),
            uid: ObjectUid::from("u"),
            base_port: 2379,
            generation: 1,
            manifest: "kind: KvCluster\n".into(),
            slots: Some(3),
            status: KvClusterStatus::default(),
        }
    }

    #[test]
    fn the_state_survives() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::of(dir.path());
        assert_eq!(file.load().unwrap(), None);
        file.save(&state()).unwrap();
        assert_eq!(file.load().unwrap(), Some(state()));
    }

    #[test]
    fn a_later_form_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::of(dir.path());
        file.save(&State {
            format: FORMAT + 1,
            ..state()
        })
        .unwrap();
        let text = file.load().unwrap_err().to_string();
        assert!(text.contains("use the version that wrote it"), "{text}");
    }
}
