//! Whose data directory this is: cluster, member, and which start of it (W7).
//!
//! Two copies of the identity file, each replaced by an atomic rename and synced, one after the
//! other, at every change; as with the vote slots, one damaged copy is always safe. The incarnation
//! grows at every start, before anything else happens. A directory without a member is *unjoined*;
//! nothing here decides to form or join a cluster.

use super::codec::Cursor;
use super::error::{Error, IoContext, misplaced};
use super::lock::Lock;
use crate::env::{Disk, OpenMode, Rng, read_full};
use quorate_raft::MemberId;
use std::io;
use std::sync::Arc;

/// The copies, in the order in which they are written.
pub(crate) const IDENTITY_FILES: [&str; 2] = ["identity", "identity.copy"];
const TEMPORARY: &str = "identity.new";
const MAGIC: [u8; 8] = *b"QRT-IDEN";
/// Version of the format. A newer one is refused with a clear message.
const VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 128;
/// Nobody but the owner may look in.
const MODE_BITS_FORBIDDEN: u32 = 0o077;
/// Directory names that tell an etcd data directory.
const ETCD_DIR: &str = "member";
/// Directories of ours that only exist beside an identity.
const LOG_DIR: &str = "wal";

/// A member's identity, as its data directory holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which cluster, chosen at its bootstrap.
    pub cluster_uuid: [u8; 16],
    /// The same in etcd's 64 bits.
    pub cluster_id: u64,
    /// Which member; never reused.
    pub member_id: MemberId,
    /// Which directory, chosen when it was created.
    pub directory_id: [u8; 16],
    /// Which start of this directory; grows with each, and never goes back.
    pub incarnation: u64,
    /// Whether the member has been removed from the cluster: it stays removed.
    pub removed: bool,
    /// Whether a peer has seen a later or another life under this member ID: the directory has
    /// forgotten what it promised, so it stays out (W7, C12).
    pub stale: bool,
    /// Which life of the cluster: grows only when a lost quorum was recovered by hand.
    pub epoch: u64,
    /// The epoch has begun here, and the log may still lack the membership that begins it: this
    /// member alone.
    pub recovering: bool,
}

/// What [`DataDir::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// No member yet: it waits to be told to bootstrap or to join.
    Unjoined,
    /// The directory of a member.
    Member(Identity),
}

/// What one copy of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdentityRecord {
    /// Grows with every change.
    pub generation: u64,
    /// Chosen when the directory was created.
    pub directory_id: [u8; 16],
    /// Which start.
    pub incarnation: u64,
    /// The member, once there is one.
    pub member: Option<MemberRecord>,
}

/// The part that a member adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRecord {
    cluster_uuid: [u8; 16],
    cluster_id: u64,
    member_id: MemberId,
    removed: bool,
    stale: bool,
    epoch: u64,
    recovering: bool,
}

/// What the copies of the identity look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// There is no file.
    None,
    /// At least one is good; this is the newer one, and whether the other one equals it.
    Good(IdentityRecord, bool),
    /// There are files, and none is good.
    Bad,
    /// Both are good, and of different directories.
    Mixed,
    /// Written by a newer version of the program.
    Newer(u32),
}

/// An open, locked data directory.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    record: IdentityRecord,
    boot_nonce: u64,
    _lock: Lock,
}

impl DataDir {
    /// Opens the root of `disk` as a data directory, creating it (mode 0700) when absent: locks it,
    /// checks it, and makes a new incarnation durable. `holder` is this process's number, for
    /// the message that a second process gets.
    ///
    /// # Errors
    /// A refusal, before anything was changed: [`Error::Locked`], [`Error::TooOpen`],
    /// [`Error::Foreign`], [`Error::LostPromise`]. [`Error::Io`] from the device.
    pub fn open(
        disk: Arc<dyn Disk>,
        rng: &mut dyn Rng,
        holder: u32,
    ) -> Result<(Self, Opened), Error> {
        let root = || disk.display("");
        if disk.exists("").context("look for", root)? {
            // Something that is not a directory must not be told to change its permissions.
            match disk.list("") {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(Error::Foreign {
                        path: root(),
                        found: "is a file, not a directory".to_owned(),
                        remedy: "Name another directory, or move that file away.",
                    });
                }
                listed => listed.map(drop).context("list", root)?,
            }
            let mode = disk.mode("").context("look at", root)?;
            if mode & MODE_BITS_FORBIDDEN != 0 {
                return Err(Error::TooOpen { path: root(), mode });
            }
        } else {
            disk.create_dir("").context("create", root)?;
        }
        let lock = Lock::take(&*disk, holder).map_err(misplaced)?;
        let mut record = match read_copies(&*disk)? {
            Copies::None => fresh(&*disk, rng)?,
            Copies::Good(record, _) => record,
            Copies::Bad => {
                return Err(Error::LostPromise {
                    path: disk.display(IDENTITY_FILES[0]),
                    why: "both copies of the identity file are damaged".to_owned(),
                });
            }
            Copies::Mixed => {
                return Err(Error::Foreign {
                    path: disk.display(""),
                    found: "has two copies of the identity file that are of different directories"
                        .to_owned(),
                    remedy: "Put back its own, \"identity\" or \"identity.copy\", and remove the \
                             other one.",
                });
            }
            Copies::Newer(version) => {
                return Err(Error::Foreign {
                    path: disk.display(IDENTITY_FILES[0]),
                    found: format!("has format {version}, and this program reads up to {VERSION}"),
                    remedy: "Start it with a newer version of the program.",
                });
            }
        };
        record.incarnation += 1;
        let boot_nonce = rng.next_u64();
        let mut dir = Self {
            disk,
            record,
            boot_nonce,
            _lock: lock,
        };
        dir.save(record)?;
        let opened = dir.identity().map_or(Opened::Unjoined, Opened::Member);
        Ok((dir, opened))
    }

    /// The member's identity; `None` while unjoined.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.record.member_identity()
    }

    /// Which directory this is, also while unjoined. The log's ID.
    #[must_use]
    pub const fn directory_id(&self) -> [u8; 16] {
        self.record.directory_id
    }

    /// Which start of the directory this is, also while unjoined.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.record.incarnation
    }

    /// A random number of this start. Two copies of one directory have the same incarnation, but
    /// never the same nonce.
    #[must_use]
    pub const fn boot_nonce(&self) -> u64 {
        self.boot_nonce
    }

    /// Makes the directory a member's. Durable on return. The log must have been created before:
    /// a member without a log is a lost promise.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to another member or cluster already; nothing was
    /// changed. [`Error::Io`] from the device.
    pub fn become_member(
        &mut self,
        cluster_uuid: [u8; 16],
        cluster_id: u64,
        member_id: MemberId,
        epoch: u64,
    ) -> Result<Identity, Error> {
        let member = MemberRecord {
            cluster_uuid,
            cluster_id,
            member_id,
            removed: false,
            stale: false,
            epoch,
            recovering: false,
        };
        if let Some(old) = self.record.member {
            if (old.cluster_uuid, old.member_id) != (cluster_uuid, member_id) {
                return Err(Error::Foreign {
                    path: self.disk.display(""),
                    found: format!(
                        "belongs to member {} of cluster {:x}, not to member {member_id} of \
                         cluster {cluster_id:x}",
                        old.member_id, old.cluster_id
                    ),
                    remedy: "Use an empty directory to join as a new member.",
                });
            }
        } else {
            self.save(IdentityRecord {
                member: Some(member),
                ..self.record
            })?;
        }
        Ok(self
            .identity()
            .expect("the member was there or has just been saved"))
    }

    /// Changes what is recorded of the member; a directory that is nobody's has nothing to change.
    /// Durable on return.
    fn amend(&mut self, change: impl FnOnce(&mut MemberRecord)) -> Result<(), Error> {
        let Some(mut member) = self.record.member else {
            return Ok(());
        };
        change(&mut member);
        self.save(IdentityRecord {
            member: Some(member),
            ..self.record
        })
    }

    /// Records that the member was removed from its cluster: it stays removed. Durable on return.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    pub fn mark_removed(&mut self) -> Result<(), Error> {
        self.amend(|member| member.removed = true)
    }

    /// Records that this directory must never take part again: a peer has seen a later life of the
    /// member, or another directory. Durable on return. Without it the incarnation, which grows at
    /// every start, would catch up with what the peers have seen.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    pub fn mark_stale(&mut self) -> Result<(), Error> {
        self.amend(|member| member.stale = true)
    }

    /// Begins a later epoch with this member alone (a lost quorum is recovered by hand). Durable on
    /// return, and there is no way back: until [`DataDir::end_recovery`] every start completes it.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    ///
    /// # Panics
    /// When the directory is nobody's, or `epoch` is not a later one.
    pub fn begin_recovery(&mut self, epoch: u64) -> Result<(), Error> {
        let old = self.record.member.expect("only a member's epoch can end");
        assert!(
            epoch > old.epoch,
            "epoch {epoch} is not after epoch {}",
            old.epoch
        );
        self.amend(|member| {
            member.epoch = epoch;
            member.recovering = true;
        })
    }

    /// The log durably ends with the membership that begins the epoch. Durable on return.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    pub fn end_recovery(&mut self) -> Result<(), Error> {
        self.amend(|member| member.recovering = false)
    }

    /// Makes the directory of a removed member a new, empty one: it is unjoined afterwards, and a
    /// new start. What the member left (the directories `parts`) is moved aside with a copy of its
    /// identity, never deleted. A crash leaves the removed member, whose data nobody opens, or an
    /// unjoined directory; calling it again finishes.
    ///
    /// # Errors
    /// [`Error::Foreign`] when the directory is not that of `member`, or `member` was not removed;
    /// nothing was changed. [`Error::Io`] from the device.
    pub fn displace(&mut self, member: MemberId, parts: &[&str]) -> Result<String, Error> {
        let displaced = self.record.member.filter(|old| old.removed);
        if displaced.map(|old| old.member_id) != Some(member) {
            return Err(Error::Foreign {
                path: self.disk.display(""),
                found: format!("is not that of member {member}, removed from its cluster"),
                remedy: "Name the removed member whose directory it is.",
            });
        }
        let disk = &*self.disk;
        let aside = format!("displaced-{:016x}", member.0);
        let shown = || disk.display(&aside);
        disk.create_dir(&aside).context("create", shown)?;
        let identity = format!("{aside}/{}", IDENTITY_FILES[0]);
        let temporary = format!("{aside}/{TEMPORARY}");
        replace(disk, &identity, &temporary, &encode(&self.record))?;
        for part in parts {
            let shown = || disk.display(part);
            if disk.exists(part).context("look for", shown)? {
                let to = format!("{aside}/{part}");
                disk.rename(part, &to).context("move aside", shown)?;
            }
        }
        disk.sync_dir(&aside).context("sync", shown)?;
        disk.sync_dir("").context("sync", || disk.display(""))?;
        self.save(IdentityRecord {
            incarnation: self.record.incarnation + 1,
            member: None,
            ..self.record
        })?;
        Ok(aside)
    }

    fn save(&mut self, record: IdentityRecord) -> Result<(), Error> {
        let record = IdentityRecord {
            generation: self.record.generation + 1,
            ..record
        };
        let bytes = encode(&record);
        for name in IDENTITY_FILES {
            replace(&*self.disk, name, TEMPORARY, &bytes)?;
        }
        self.record = record;
        Ok(())
    }
}

/// Replaces a small file in the root by an atomic rename; durable on return.
pub(crate) fn replace(
    disk: &dyn Disk,
    name: &str,
    temporary: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let shown = || disk.display(name);
    let file = disk
        .open(temporary, OpenMode::OpenOrCreate)
        .context("create", shown)?;
    file.set_len(0).context("write", shown)?;
    file.write_all_at(bytes, 0).context("write", shown)?;
    file.sync_all().context("sync", shown)?;
    disk.rename(temporary, name).context("rename", shown)?;
    disk.sync_dir("").context("sync", || disk.display(""))
}

/// The first identity of a new directory, once it is certain that it is new.
fn fresh(disk: &dyn Disk, rng: &mut dyn Rng) -> Result<IdentityRecord, Error> {
    let exists = |name: &str| disk.exists(name).context("look for", || disk.display(name));
    if exists(LOG_DIR)? {
        return Err(Error::LostPromise {
            path: disk.display(""),
            why: "there is a log, but the identity file is missing".to_owned(),
        });
    }
    if exists(ETCD_DIR)? {
        return Err(Error::Foreign {
            path: disk.display(""),
            found: "is the data directory of an etcd".to_owned(),
            remedy: "Use an empty directory; the data of an etcd is taken over from a snapshot.",
        });
    }
    let mut directory_id = [0; 16];
    directory_id[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    directory_id[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    Ok(IdentityRecord {
        generation: 0,
        directory_id,
        incarnation: 0,
        member: None,
    })
}

/// Reads both copies.
pub(crate) fn read_copies(disk: &dyn Disk) -> Result<Copies, Error> {
    let mut present = false;
    let mut copies = [None, None];
    for (copy, name) in copies.iter_mut().zip(IDENTITY_FILES) {
        let shown = || disk.display(name);
        if !disk.exists(name).context("look for", shown)? {
            continue;
        }
        present = true;
        let file = disk.open(name, OpenMode::ReadOnly).context("open", shown)?;
        let mut bytes = [0; IDENTITY_BYTES];
        // A copy that cannot be read is a damaged copy: the other one decides. But a directory
        // could not be replaced later either.
        let read = file
            .drop_cache(0, 0)
            .and_then(|()| read_full(&*file, &mut bytes, 0));
        if let Err(error) = &read
            && error.kind() == io::ErrorKind::IsADirectory
        {
            return Err(misplaced(Error::io(
                "read",
                shown(),
                io::ErrorKind::IsADirectory.into(),
            )));
        }
        if read.is_ok() {
            match decode(&bytes) {
                Ok(record) => *copy = record,
                Err(version) => return Ok(Copies::Newer(version)),
            }
        }
    }
    if let [Some(one), Some(other)] = copies
        && one.directory_id != other.directory_id
    {
        return Ok(Copies::Mixed);
    }
    let newest = copies
        .into_iter()
        .flatten()
        .max_by_key(|record| record.generation);
    Ok(match newest {
        Some(record) => Copies::Good(record, copies[0] == copies[1]),
        None if present => Copies::Bad,
        None => Copies::None,
    })
}

fn encode(record: &IdentityRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(IDENTITY_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::from(record.member.is_some()).to_le_bytes());
    bytes.extend_from_slice(&record.generation.to_le_bytes());
    bytes.extend_from_slice(&record.directory_id);
    bytes.extend_from_slice(&record.incarnation.to_le_bytes());
    if let Some(member) = &record.member {
        bytes.extend_from_slice(&member.cluster_uuid);
        bytes.extend_from_slice(&member.cluster_id.to_le_bytes());
        bytes.extend_from_slice(&member.member_id.0.to_le_bytes());
        bytes.extend_from_slice(&member.epoch.to_le_bytes());
        let marks = u64::from(member.removed)
            | u64::from(member.stale) << 1
            | u64::from(member.recovering) << 2;
        bytes.extend_from_slice(&marks.to_le_bytes());
    }
    bytes.resize(IDENTITY_BYTES - 4, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// `Ok(None)` for a damaged copy, the version as the error for one of a newer format.
fn decode(bytes: &[u8; IDENTITY_BYTES]) -> Result<Option<IdentityRecord>, u32> {
    let (content, crc) = bytes.split_at(IDENTITY_BYTES - 4);
    if crc != crc32c::crc32c(content).to_le_bytes() || content[..8] != MAGIC {
        return Ok(None);
    }
    let version = u32::from_le_bytes([content[8], content[9], content[10], content[11]]);
    if version > VERSION {
        Err(version)
    } else {
        Ok(decode_fields(&content[12..]).ok())
    }
}

fn decode_fields(bytes: &[u8]) -> Result<IdentityRecord, super::codec::Malformed> {
    let mut cursor = Cursor::new(bytes);
    let is_member = cursor.u32()? == 1;
    let generation = cursor.u64()?;
    let directory_id = cursor.array()?;
    let incarnation = cursor.u64()?;
    let member = if is_member {
        let cluster_uuid = cursor.array()?;
        let cluster_id = cursor.u64()?;
        let member_id = MemberId(cursor.u64()?);
        let epoch = cursor.u64()?;
        let marks = cursor.u64()?;
        Some(MemberRecord {
            cluster_uuid,
            cluster_id,
            member_id,
            removed: marks & 1 != 0,
            stale: marks & 2 != 0,
            recovering: marks & 4 != 0,
            epoch,
        })
    } else {
        None
    };
    Ok(IdentityRecord {
        generation,
        directory_id,
        incarnation,
        member,
    })
}

impl IdentityRecord {
    /// As a member's identity, once there is one.
    pub(crate) fn member_identity(&self) -> Option<Identity> {
        let member = self.member?;
        Some(Identity {
            cluster_uuid: member.cluster_uuid,
            cluster_id: member.cluster_id,
            member_id: member.member_id,
            directory_id: self.directory_id,
            incarnation: self.incarnation,
            removed: member.removed,
            stale: member.stale,
            epoch: member.epoch,
            recovering: member.recovering,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;

    struct Counter(u64);

    impl Rng for Counter {
        fn next_u64(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    fn open(root: &std::path::Path) -> Result<(DataDir, Opened), Error> {
        DataDir::open(Arc::new(RealDisk::new(root)), &mut Counter(7), 4242)
    }

    fn directory() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::remove_dir(root.path()).unwrap();
        root
    }

    #[test]
    fn a_new_directory_is_unjoined_until_it_is_told_where_it_belongs() {
        let root = directory();
        let (mut dir, opened) = open(root.path()).unwrap();
        assert_eq!(opened, Opened::Unjoined);
        let id = dir.directory_id();
        dir.become_member([5; 16], 55, MemberId(0x2f), 1).unwrap();
        drop(dir);
        let (mut dir, opened) = open(root.path()).unwrap();
        let identity = Identity {
            cluster_uuid: [5; 16],
            cluster_id: 55,
            member_id: MemberId(0x2f),
            directory_id: id,
            incarnation: 2,
            removed: false,
            stale: false,
            epoch: 1,
            recovering: false,
        };
        assert_eq!(opened, Opened::Member(identity));
        let refused = dir
            .become_member([5; 16], 55, MemberId(0x30), 1)
            .unwrap_err();
        assert!(refused.is_refusal(), "{refused}");
    }

    #[test]
    fn a_removed_member_stays_removed() {
        let root = directory();
        let (mut dir, _) = open(root.path()).unwrap();
        dir.become_member([5; 16], 55, MemberId(1), 1).unwrap();
        dir.mark_removed().unwrap();
        drop(dir);
        let (dir, _) = open(root.path()).unwrap();
        assert!(dir.identity().unwrap().removed);
    }

    #[test]
    fn w7_a_stale_directory_stays_stale_however_often_it_is_started() {
        let root = directory();
        let (mut dir, _) = open(root.path()).unwrap();
        dir.become_member([5; 16], 55, MemberId(1), 1).unwrap();
        dir.mark_stale().unwrap();
        drop(dir);
        for _ in 0..3 {
            let (dir, _) = open(root.path()).unwrap();
            let identity = dir.identity().unwrap();
            assert!(identity.stale && !identity.removed);
        }
    }

    #[test]
    fn an_epoch_that_has_begun_stays_begun_and_is_completed_once() {
        let root = directory();
        let (mut dir, _) = open(root.path()).unwrap();
        dir.become_member([5; 16], 55, MemberId(1), 1).unwrap();
        dir.begin_recovery(2).unwrap();
        drop(dir);
        for recovering in [true, false] {
            let (mut dir, _) = open(root.path()).unwrap();
            let identity = dir.identity().unwrap();
            assert_eq!((identity.epoch, identity.recovering), (2, recovering));
            dir.end_recovery().unwrap();
        }
    }

    #[test]
    fn a_second_process_is_told_which_process_holds_the_directory() {
        let root = directory();
        let (_dir, _) = open(root.path()).unwrap();
        let refused = open(root.path()).err().unwrap();
        assert!(
            matches!(
                refused,
                Error::Locked {
                    holder: Some(4242),
                    ..
                }
            ),
            "{refused}"
        );
        assert!(refused.to_string().contains("process 4242"), "{refused}");
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let refused = open(root.path()).err().unwrap();
        assert!(refused.to_string().contains("mode 0750"), "{refused}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_damaged_copy_is_safe_and_two_are_a_lost_promise() {
        let root = directory();
        drop(open(root.path()).unwrap());
        std::fs::write(root.path().join("identity"), b"garbage").unwrap();
        let (dir, _) = open(root.path()).unwrap();
        assert_eq!(dir.incarnation(), 2);
        drop(dir);
        for name in IDENTITY_FILES {
            std::fs::write(root.path().join(name), b"garbage").unwrap();
        }
        let refused = open(root.path()).err().unwrap();
        assert!(matches!(refused, Error::LostPromise { .. }), "{refused}");
    }

    #[test]
    fn a_log_without_an_identity_and_an_etcd_directory_are_refused() {
        for (name, expected) in [("wal", "identity file is missing"), ("member", "an etcd")] {
            let root = directory();
            RealDisk::new(root.path()).create_dir("").unwrap();
            std::fs::create_dir(root.path().join(name)).unwrap();
            let refused = open(root.path()).err().unwrap();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }

    #[test]
    fn every_bit_flip_of_the_identity_is_noticed() {
        let member = MemberRecord {
            cluster_uuid: [1; 16],
            cluster_id: 2,
            member_id: MemberId(3),
            removed: false,
            stale: true,
            epoch: 4,
            recovering: true,
        };
        let record = IdentityRecord {
            generation: 5,
            directory_id: [6; 16],
            incarnation: 7,
            member: Some(member),
        };
        let bytes: [u8; IDENTITY_BYTES] = encode(&record).try_into().unwrap();
        assert_eq!(decode(&bytes), Ok(Some(record)));
        for bit in 0..IDENTITY_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), Ok(None), "bit {bit}");
        }
    }

    #[test]
    fn a_displaced_directory_is_empty_and_new_and_what_was_there_is_kept() {
        let root = directory();
        let (mut dir, _) = open(root.path()).unwrap();
        dir.become_member([5; 16], 55, MemberId(0xab), 1).unwrap();
        let disk = RealDisk::new(root.path());
        for part in ["wal", "history"] {
            disk.create_dir(part).unwrap();
            std::fs::write(root.path().join(part).join("file"), part).unwrap();
        }
        let parts = ["wal", "history"];
        let refused = dir.displace(MemberId(0xab), &parts).unwrap_err();
        assert!(refused.is_refusal(), "it was not removed: {refused}");
        dir.mark_removed().unwrap();
        let refused = dir.displace(MemberId(0xac), &parts).unwrap_err();
        assert!(refused.is_refusal(), "another member's: {refused}");
        assert!(root.path().join("wal/file").exists());
        // As after a crash between the two.
        let aside = root.path().join("displaced-00000000000000ab");
        disk.create_dir("displaced-00000000000000ab").unwrap();
        disk.rename("wal", "displaced-00000000000000ab/wal")
            .unwrap();
        let before = dir.incarnation();
        dir.displace(MemberId(0xab), &parts).unwrap();
        assert_eq!(dir.identity(), None);
        assert!(dir.incarnation() > before, "a new start");
        for part in parts {
            assert!(!root.path().join(part).exists());
            let kept = std::fs::read(aside.join(part).join("file")).unwrap();
            assert_eq!(kept, part.as_bytes());
        }
        dir.become_member([5; 16], 55, MemberId(0xcd), 1).unwrap();
        drop(dir);
        let (dir, _) = open(root.path()).unwrap();
        assert_eq!(dir.identity().unwrap().member_id, MemberId(0xcd));
        let kept = RealDisk::new(&aside);
        let Copies::Good(record, _) = read_copies(&kept).unwrap() else {
            panic!("the identity is kept with the data");
        };
        assert_eq!(record.member.unwrap().member_id, MemberId(0xab));
    }
}
