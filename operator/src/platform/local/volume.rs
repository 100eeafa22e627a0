//! A slot's volume: a directory with a stamp that says whose it is.
//!
//! `slot-N/volume/` holds `stamp.json` and `data/`, the node's own directory. It comes into being
//! under its name by one rename, stamp included, and goes the same way. Must not know: processes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::VolumeUid;
use crate::observed::{Growth, Stamp, VolumeView};

use super::{Error, files};

/// What `stamp.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StampFile {
    uid: VolumeUid,
    stamp: Stamp,
}

/// The place of a slot's volume; there may be none.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    path: PathBuf,
}

impl Volume {
    /// The volume of the slot that lives in `slot_dir`.
    pub fn of(slot_dir: &Path) -> Volume {
        Volume {
            path: slot_dir.join("volume"),
        }
    }

    /// The node's data directory on it.
    pub fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    /// What is there.
    ///
    /// # Errors
    /// It cannot be read: then nothing may be concluded. A stamp that was damaged or taken away is
    /// no error: the volume is there and nobody's.
    pub fn view(&self) -> Result<Option<VolumeView>, Error> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot read", &self.path, error)),
        };
        let stamp = match files::read_json::<StampFile>(&self.stamp_path()) {
            Ok(stamp) => stamp,
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let (uid, stamp) = match stamp {
            Some(file) => (file.uid, Some(file.stamp)),
            None => (VolumeUid(format!("unstamped-{}", metadata.ino())), None),
        };
        Ok(Some(VolumeView {
            uid,
            stamp,
            deleting: self.deleting_path().exists(),
            released: self.released_path().exists(),
            capacity_bytes: None,
            requested_bytes: None,
            growth: Growth::Possible,
            node_gone: false,
            name: None,
        }))
    }

    /// Makes the volume exist with this stamp, as one effect.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another volume is there; it is left as it is.
    pub fn ensure(&self, stamp: &Stamp) -> Result<(), Error> {
        if let Some(view) = self.view()? {
            if view.stamp.as_ref() == Some(stamp) && !view.deleting {
                return Ok(());
            }
            return Err(Error::Conflict(format!(
                "slot {} holds another volume, {}",
                stamp.slot, view.uid
            )));
        }
        let fresh = self.path.with_file_name("volume.new");
        remove_tree(&fresh)?;
        files::create_dir(&fresh.join("data"))?;
        let uid = VolumeUid(uuid::Uuid::new_v4().to_string());
        files::write_json(
            &fresh.join("stamp.json"),
            &StampFile {
                uid,
                stamp: stamp.clone(),
            },
        )?;
        fs::rename(&fresh, &self.path)
            .map_err(|error| Error::io("cannot create", &self.path, error))?;
        files::sync_parent(&self.path)
    }

    /// Puts a stamp on the volume of that UID and keeps its content.
    ///
    /// # Errors
    /// [`Error::Conflict`] when that volume is not there.
    pub fn adopt(&self, wanted: &VolumeUid, stamp: &Stamp) -> Result<(), Error> {
        match self.view()? {
            Some(view) if view.stamp.as_ref() == Some(stamp) => Ok(()),
            Some(view) if view.uid == *wanted => {
                // The UID stays, so that what was decided about this volume stays true.
                let file = StampFile {
                    uid: view.uid,
                    stamp: stamp.clone(),
                };
                files::write_json(&self.stamp_path(), &file)
            }
            _ => Err(Error::Conflict(format!(
                "volume {wanted} is not in slot {}",
                stamp.slot
            ))),
        }
    }

    /// Asks for the deletion of the volume of that UID; another one is left alone.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn mark_deleting(&self, wanted: &VolumeUid) -> Result<(), Error> {
        match self.view()? {
            Some(view) if view.uid == *wanted => files::write_json(&self.deleting_path(), wanted),
            _ => Ok(()),
        }
    }

    /// Marks the volume of that UID as kept after its cluster.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn release(&self, wanted: &VolumeUid) -> Result<(), Error> {
        match self.view()? {
            Some(view) if view.uid == *wanted => files::write_json(&self.released_path(), wanted),
            _ => Ok(()),
        }
    }

    /// Removes the volume if that was asked for. Only to be called while nothing runs on it.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn collect(&self) -> Result<(), Error> {
        let trash = self.path.with_file_name("volume.deleted");
        if self.deleting_path().exists() {
            remove_tree(&trash)?;
            fs::rename(&self.path, &trash)
                .map_err(|error| Error::io("cannot remove", &self.path, error))?;
            files::sync_parent(&self.path)?;
        }
        remove_tree(&trash)
    }

    fn stamp_path(&self) -> PathBuf {
        self.path.join("stamp.json")
    }

    fn released_path(&self) -> PathBuf {
        self.path.join("released.json")
    }

    fn deleting_path(&self) -> PathBuf {
        self.path.join("deleting.json")
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("cannot remove", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterUuid, MemberId, ObjectUid, Slot};

    fn stamp(member: u64) -> Stamp {
        Stamp {
            cluster_uuid: ClusterUuid(uuid::Uuid::nil()),
            owner_uid: ObjectUid::from("owner"),
            slot: Slot(1),
            member: MemberId(member),
            incarnation: 1,
        }
    }

    #[test]
    fn a_volume_is_made_once_and_another_in_its_place_is_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::of(dir.path());
        assert_eq!(volume.view().unwrap(), None);
        volume.ensure(&stamp(1)).unwrap();
        let first = volume.view().unwrap().unwrap();
        assert_eq!(first.stamp, Some(stamp(1)));
        volume.ensure(&stamp(1)).unwrap();
        assert_eq!(volume.view().unwrap().unwrap(), first);
        assert!(matches!(volume.ensure(&stamp(2)), Err(Error::Conflict(_))));
        assert_eq!(volume.view().unwrap().unwrap(), first);
    }

    #[test]
    fn what_a_crash_left_half_made_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("volume.new/data/old")).unwrap();
        let volume = Volume::of(dir.path());
        assert_eq!(volume.view().unwrap(), None);
        volume.ensure(&stamp(1)).unwrap();
        assert_eq!(fs::read_dir(volume.data_dir()).unwrap().count(), 0);
    }

    #[test]
    fn deletion_waits_for_its_moment_and_means_one_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::of(dir.path());
        volume.ensure(&stamp(1)).unwrap();
        volume.mark_deleting(&VolumeUid::from("another")).unwrap();
        volume.collect().unwrap();
        let uid = volume
            .view()
            .unwrap()
            .expect("another volume was meant")
            .uid;
        volume.mark_deleting(&uid).unwrap();
        assert!(volume.view().unwrap().unwrap().deleting);
        volume.collect().unwrap();
        assert_eq!(volume.view().unwrap(), None);
        volume.mark_deleting(&uid).unwrap();
        volume.ensure(&stamp(2)).unwrap();
        assert_ne!(volume.view().unwrap().unwrap().uid, uid);
    }

    #[test]
    fn a_volume_that_lost_its_stamp_is_nobodys_and_can_be_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::of(dir.path());
        volume.ensure(&stamp(1)).unwrap();
        fs::write(volume.data_dir().join("kept"), b"x").unwrap();
        fs::write(volume.stamp_path(), b"{").unwrap();
        let view = volume.view().unwrap().unwrap();
        assert_eq!(view.stamp, None);
        assert!(
            volume
                .adopt(&VolumeUid::from("another"), &stamp(1))
                .is_err()
        );
        volume.adopt(&view.uid, &stamp(1)).unwrap();
        assert_eq!(volume.view().unwrap().unwrap().stamp, Some(stamp(1)));
        assert!(volume.data_dir().join("kept").exists());
    }
}
