//! Which life of each peer this member has seen (W7): a disk that was wiped, swapped or rolled
//! back does not get its old place back under its old ID.
//!
//! [`decide`] is a pure function; [`PeersSeen`] keeps its facts in one small file. What is accepted
//! for the first time is durable before the peer's first message is handled.

use super::codec::Cursor;
use super::error::{Error, IoContext, misplaced};
use super::identity::replace;
use crate::env::{Disk, OpenMode, read_full};
use quorate_raft::MemberId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

const PEERS_FILE: &str = "peers";
const TEMPORARY: &str = "peers.new";
const MAGIC: [u8; 8] = *b"QRT-PER2";
/// What somebody writes into the file by hand to say that there is nothing to remember.
const NONE_SEEN: &[u8] = b"none";
const ROW_BYTES: usize = 40;
/// Members of which something is kept. Removed ones are forgotten by [`PeersSeen::forget`].
const PEERS_MAX: usize = 1024;

/// One life of a peer, as it introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLife {
    /// Its data directory.
    pub directory_id: [u8; 16],
    /// Which start of it.
    pub incarnation: u64,
    /// The random number of that start.
    pub boot_nonce: u64,
}

/// What to do about a peer that introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDecision {
    /// Seen before: go on.
    Accept,
    /// A later start, or the first one ever seen: record it durably, then go on.
    AcceptNew,
    /// Refuse its messages.
    Refuse(PeerRefusal),
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// Another directory was known under this member ID.
    OtherDirectory,
    /// A later start was seen: the disk has gone back, or this is an old connection.
    OlderStart {
        /// The latest incarnation seen.
        seen: u64,
        /// The one it claims.
        claimed: u64,
    },
    /// Another process claims the same start: the directory was copied.
    CopiedDirectory,
}

/// For people.
impl fmt::Display for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDirectory => {
                f.write_str("its data directory is not the one known under this member ID")
            }
            Self::OlderStart { seen, claimed } => {
                write!(
                    f,
                    "it claims start {claimed} of its directory, and start {seen} was seen"
                )
            }
            Self::CopiedDirectory => {
                f.write_str("another process runs on a copy of the same data directory")
            }
        }
    }
}

/// Whether a peer may take part, given the latest life of it that was seen.
#[must_use]
pub fn decide(seen: Option<&PeerLife>, claimed: &PeerLife) -> PeerDecision {
    let Some(seen) = seen else {
        return PeerDecision::AcceptNew;
    };
    if seen.directory_id != claimed.directory_id {
        return PeerDecision::Refuse(PeerRefusal::OtherDirectory);
    }
    match claimed.incarnation.cmp(&seen.incarnation) {
        std::cmp::Ordering::Less => PeerDecision::Refuse(PeerRefusal::OlderStart {
            seen: seen.incarnation,
            claimed: claimed.incarnation,
        }),
        std::cmp::Ordering::Equal if claimed.boot_nonce != seen.boot_nonce => {
            PeerDecision::Refuse(PeerRefusal::CopiedDirectory)
        }
        std::cmp::Ordering::Equal => PeerDecision::Accept,
        std::cmp::Ordering::Greater => PeerDecision::AcceptNew,
    }
}

/// The latest life seen of each peer, kept on disk.
pub struct PeersSeen {
    disk: Arc<dyn Disk>,
    directory_id: [u8; 16],
    seen: BTreeMap<MemberId, PeerLife>,
}

impl PeersSeen {
    /// Reads the file. It is replaced as a whole, so no crash damages it, and it is there before
    /// the directory is a member's (`must_exist`): a damaged or missing one is refused, and so is
    /// that of another directory, since whoever forgets what it has seen lets a disk vote that was
    /// wiped or put back (N9). Whoever is sure that none was may say so by hand: `NONE_SEEN`.
    ///
    /// # Errors
    /// [`Error::Foreign`] for a damaged or missing file, [`Error::Io`] from the device.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory_id: [u8; 16],
        must_exist: bool,
    ) -> Result<Self, Error> {
        let shown = || disk.display(PEERS_FILE);
        let refused = |what: &str| Error::Foreign {
            path: disk.display(""),
            found: format!("has {what} list of the peers that were seen ({PEERS_FILE:?})"),
            remedy: "Replace this member by a new one with an empty directory; or, if no peer's \
                     disk was wiped, exchanged or put back since, write the one word \"none\" into \
                     that file: the list is begun anew.",
        };
        let mut seen = BTreeMap::new();
        if disk.exists(PEERS_FILE).context("look for", shown)? {
            let file = disk
                .open(PEERS_FILE, OpenMode::ReadOnly)
                .context("open", shown)?;
            let length = file.len().context("read", shown)?;
            let bounded = length.min((17 + ROW_BYTES * PEERS_MAX) as u64);
            let mut bytes = vec![0; usize::try_from(bounded).unwrap_or_default()];
            read_full(&*file, &mut bytes, 0)
                .context("read", shown)
                .map_err(misplaced)?;
            if bytes.trim_ascii() != NONE_SEEN {
                seen = decode(&bytes, &directory_id).ok_or_else(|| refused("a damaged"))?;
            }
        } else if must_exist {
            return Err(refused("lost its"));
        }
        Ok(Self {
            disk,
            directory_id,
            seen,
        })
    }

    /// Writes the list of a directory that has seen nobody, before it becomes a member's; one that
    /// is there stays. Durable on return.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    pub fn create(disk: &dyn Disk, directory_id: [u8; 16]) -> Result<(), Error> {
        let shown = || disk.display(PEERS_FILE);
        if disk.exists(PEERS_FILE).context("look for", shown)? {
            return Ok(());
        }
        let bytes = encode(&BTreeMap::new(), &directory_id);
        replace(disk, PEERS_FILE, TEMPORARY, &bytes)
    }

    /// Whether no peer was ever seen, or all of them were forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Decides about a peer; what is new is durable on return.
    ///
    /// # Errors
    /// [`Error::Io`] from the device; [`Error::TooLarge`] beyond 1024 peers.
    pub fn introduce(&mut self, peer: MemberId, claimed: PeerLife) -> Result<PeerDecision, Error> {
        let decision = decide(self.seen.get(&peer), &claimed);
        if decision == PeerDecision::AcceptNew {
            if self.is_full() && !self.seen.contains_key(&peer) {
                return Err(Error::TooLarge {
                    what: "the list of peers",
                    bytes: ROW_BYTES * (PEERS_MAX + 1),
                    bytes_max: ROW_BYTES * PEERS_MAX,
                });
            }
            self.seen.insert(peer, claimed);
            self.save()?;
        }
        Ok(decision)
    }

    /// Whether there is no room for a peer that was never seen.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.seen.len() >= PEERS_MAX
    }

    /// Forgets members whose removal is applied; their IDs are fenced by the membership.
    ///
    /// # Errors
    /// [`Error::Io`] from the device.
    pub fn forget(&mut self, removed: &BTreeSet<MemberId>) -> Result<(), Error> {
        let before = self.seen.len();
        self.seen.retain(|peer, _| !removed.contains(peer));
        if self.seen.len() < before {
            self.save()
        } else {
            Ok(())
        }
    }

    fn save(&self) -> Result<(), Error> {
        let bytes = encode(&self.seen, &self.directory_id);
        replace(&*self.disk, PEERS_FILE, TEMPORARY, &bytes)
    }
}

/// The checksum begins with the directory's ID: another member's list is a damaged one here.
fn checksum(content: &[u8], directory_id: &[u8; 16]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(directory_id), content).to_le_bytes()
}

fn encode(seen: &BTreeMap<MemberId, PeerLife>, directory_id: &[u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + ROW_BYTES * seen.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(seen.len() as u32).to_le_bytes());
    for (peer, life) in seen {
        bytes.extend_from_slice(&peer.0.to_le_bytes());
        bytes.extend_from_slice(&life.directory_id);
        bytes.extend_from_slice(&life.incarnation.to_le_bytes());
        bytes.extend_from_slice(&life.boot_nonce.to_le_bytes());
    }
    let crc = checksum(&bytes, directory_id);
    bytes.extend_from_slice(&crc);
    bytes
}

fn decode(bytes: &[u8], directory_id: &[u8; 16]) -> Option<BTreeMap<MemberId, PeerLife>> {
    let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let mut cursor = Cursor::new(content);
    if crc != checksum(content, directory_id) || cursor.array::<8>().ok()? != MAGIC {
        return None;
    }
    let count = cursor.u32().ok()?;
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let peer = MemberId(cursor.u64().ok()?);
        let directory_id = cursor.array().ok()?;
        let incarnation = cursor.u64().ok()?;
        let boot_nonce = cursor.u64().ok()?;
        seen.insert(
            peer,
            PeerLife {
                directory_id,
                incarnation,
                boot_nonce,
            },
        );
    }
    cursor.finish().ok()?;
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;

    const LIFE: PeerLife = PeerLife {
        directory_id: [1; 16],
        incarnation: 5,
        boot_nonce: 9,
    };

    fn open(disk: &Arc<dyn Disk>, must_exist: bool) -> Result<PeersSeen, Error> {
        PeersSeen::open(Arc::clone(disk), [9; 16], must_exist)
    }

    #[test]
    fn n9_a_missing_list_is_nothing_seen_only_as_long_as_there_is_no_member() {
        let root = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path()));
        assert!(open(&disk, false).unwrap().is_empty());
        let error = open(&disk, true).err().expect("a member had one");
        assert!(
            error.is_refusal() && error.to_string().contains("none"),
            "{error}"
        );
        PeersSeen::create(&*disk, [9; 16]).unwrap();
        let mut seen = open(&disk, true).unwrap();
        seen.introduce(MemberId(3), LIFE).unwrap();
        // The list of another directory is none of ours.
        let other = PeersSeen::open(Arc::clone(&disk), [8; 16], true).err();
        assert!(other.expect("another directory's list").is_refusal());
        // Whoever knows that no disk was touched may say so.
        std::fs::write(root.path().join(PEERS_FILE), "none\n").unwrap();
        assert!(open(&disk, true).unwrap().is_empty());
    }

    #[test]
    fn every_kind_of_peer_gets_its_decision() {
        let claims = [
            (LIFE, PeerDecision::Accept),
            (
                PeerLife {
                    incarnation: 6,
                    boot_nonce: 1,
                    ..LIFE
                },
                PeerDecision::AcceptNew,
            ),
            (
                PeerLife {
                    incarnation: 4,
                    ..LIFE
                },
                PeerDecision::Refuse(PeerRefusal::OlderStart {
                    seen: 5,
                    claimed: 4,
                }),
            ),
            (
                PeerLife {
                    boot_nonce: 8,
                    ..LIFE
                },
                PeerDecision::Refuse(PeerRefusal::CopiedDirectory),
            ),
            (
                PeerLife {
                    directory_id: [2; 16],
                    incarnation: 6,
                    ..LIFE
                },
                PeerDecision::Refuse(PeerRefusal::OtherDirectory),
            ),
        ];
        for (claimed, expected) in claims {
            assert_eq!(decide(Some(&LIFE), &claimed), expected, "{claimed:?}");
        }
        assert_eq!(decide(None, &LIFE), PeerDecision::AcceptNew);
    }

    #[test]
    fn n9_a_damaged_list_is_refused_and_never_taken_for_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path()));
        let mut seen = open(&disk, false).unwrap();
        seen.introduce(MemberId(3), LIFE).unwrap();
        let path = root.path().join(PEERS_FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped[..], &whole[..at]] {
                std::fs::write(&path, damaged).unwrap();
                let error = open(&disk, true).err();
                let error = error.expect("byte {at} is damaged, or lost with all that follow");
                assert!(error.is_refusal(), "{error}");
            }
        }
    }

    #[test]
    fn a_rolled_back_peer_is_refused_after_a_restart_too() {
        let root = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path()));
        let mut seen = open(&disk, false).unwrap();
        let peer = MemberId(3);
        assert_eq!(seen.introduce(peer, LIFE).unwrap(), PeerDecision::AcceptNew);
        let mut seen = open(&disk, false).unwrap();
        let old = PeerLife {
            incarnation: 4,
            ..LIFE
        };
        let refusal = PeerRefusal::OlderStart {
            seen: 5,
            claimed: 4,
        };
        assert_eq!(
            seen.introduce(peer, old).unwrap(),
            PeerDecision::Refuse(refusal)
        );
        seen.forget(&BTreeSet::from([peer])).unwrap();
        let mut seen = open(&disk, true).unwrap();
        assert_eq!(seen.introduce(peer, old).unwrap(), PeerDecision::AcceptNew);
    }

    #[test]
    fn a_full_list_has_room_again_once_removed_members_are_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path()));
        let mut seen = open(&disk, false).unwrap();
        let many = (1..=PEERS_MAX as u64).map(|peer| (MemberId(peer), LIFE));
        seen.seen.extend(many);
        assert!(seen.is_full());
        let refused = seen.introduce(MemberId(5000), LIFE);
        assert!(matches!(refused, Err(Error::TooLarge { .. })));
        seen.forget(&BTreeSet::from([MemberId(7), MemberId(9000)]))
            .unwrap();
        assert_eq!(
            seen.introduce(MemberId(5000), LIFE).unwrap(),
            PeerDecision::AcceptNew
        );
    }
}
