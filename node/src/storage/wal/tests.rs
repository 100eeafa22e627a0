//! The log on a real directory: what goes in comes out, and where each file stands.

use super::*;
use crate::env::real::RealDisk;
use crate::storage::recovery::Verdict;
use quorate_raft::{MemberId, PersistId, Term};

const LOG_ID: [u8; 16] = *b"0123456789abcdef";

fn options(incarnation: u64) -> WalOptions {
    WalOptions {
        segment_bytes: 2 * SEGMENT_BYTES_MIN,
        ..WalOptions::new(LOG_ID, incarnation)
    }
}

fn command(term: u64, index: u64, bytes: &[u8]) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: LogIndex(index),
    };
    Entry {
        id,
        payload: Payload::Command(Arc::from(bytes)),
    }
}

fn persist(term: u64, entries: Vec<Entry>) -> Persist {
    let hard_state = Some(HardState {
        term: Term(term),
        vote: Some(MemberId(1)),
    });
    Persist {
        id: PersistId(1),
        hard_state,
        entries,
    }
}

fn entries(term: u64, range: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Entry> {
    range
        .map(|index| command(term, index, &vec![index as u8; bytes]))
        .collect()
}

struct Home {
    root: tempfile::TempDir,
    starts: u64,
}

impl Home {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            starts: 0,
        }
    }

    fn open(&mut self) -> (Wal, Recovered) {
        self.try_open().unwrap()
    }

    fn try_open(&mut self) -> Result<(Wal, Recovered), Error> {
        self.starts += 1;
        let disk = Arc::new(RealDisk::new(self.root.path()));
        Wal::open(disk, "wal", options(self.starts))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("wal").join(name)
    }

    fn corrupt(&self, name: &str, offset: usize) {
        let mut bytes = std::fs::read(self.file(name)).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(self.file(name), bytes).unwrap();
    }
}

#[test]
fn what_was_appended_is_recovered() {
    let mut home = Home::new();
    let (mut wal, recovered) = home.open();
    assert_eq!(recovered.verdict, Verdict::CleanEnd);
    assert_eq!(recovered.entries, []);
    let written = entries(1, 1..=300, 100);
    wal.append(&[persist(1, written.clone())]).unwrap();
    wal.note_commit(LogIndex(250));
    wal.sync().unwrap();
    wal.note_idle().unwrap();
    assert!(wal.segment_count() > 3, "{}", wal.segment_count());
    drop(wal);
    let (_, recovered) = home.open();
    assert_eq!(recovered.entries, written);
    assert_eq!(
        recovered.hard_state,
        HardState {
            term: Term(1),
            vote: Some(MemberId(1))
        }
    );
    assert_eq!(recovered.commit, LogIndex(250));
    assert_eq!(recovered.verdict, Verdict::CleanEnd);
}

#[test]
fn a_cut_is_a_record_and_survives() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    wal.append(&[persist(1, entries(1, 1..=10, 10))]).unwrap();
    wal.append(&[persist(3, entries(3, 6..=7, 20))]).unwrap();
    wal.sync().unwrap();
    assert_eq!(
        wal.last(),
        EntryId {
            term: Term(3),
            index: LogIndex(7)
        }
    );
    drop(wal);
    let (_, recovered) = home.open();
    let mut expected = entries(1, 1..=5, 10);
    expected.extend(entries(3, 6..=7, 20));
    assert_eq!(recovered.entries, expected);
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_longer_one() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    let mut written = entries(1, 1..=2, 100_000);
    written.push(command(1, 3, b"small"));
    wal.append(&[persist(1, written.clone())]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(home.open().1.entries, written);
}

#[test]
fn f14_an_entry_beyond_the_format_is_refused_and_nothing_is_written() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    let end = wal.end();
    let huge = vec![command(1, 1, &vec![0; PAYLOAD_BYTES_MAX + 1])];
    let refused = wal.append(&[persist(1, huge)]).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    assert_eq!(wal.end(), end);
    assert_eq!(wal.hard_state(), HardState::default());
    wal.append(&[persist(1, entries(1, 1..=1, 10))]).unwrap();
}

#[test]
fn released_segments_are_recycled_and_the_log_knows_where_it_begins() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    let membership = Membership::of_voters([MemberId(1), MemberId(2)]);
    let id = EntryId {
        term: Term(1),
        index: LogIndex(1),
    };
    let payload = Payload::Membership {
        membership: Arc::new(membership.clone()),
        context: Arc::from([]),
    };
    wal.append(&[persist(1, vec![Entry { id, payload }])])
        .unwrap();
    wal.append(&[persist(1, entries(1, 2..=300, 100))]).unwrap();
    wal.sync().unwrap();
    let before = wal.segment_count();
    wal.release(LogIndex(200)).unwrap();
    wal.sync().unwrap();
    assert!(wal.segment_count() < before);
    drop(wal);
    let (mut wal, recovered) = home.open();
    let base = recovered.base.unwrap();
    assert_eq!(base.membership, membership);
    assert_eq!(base.membership_index, LogIndex(1));
    assert!(
        base.last.index <= LogIndex(200) && base.last.index > LogIndex(100),
        "{base:?}"
    );
    assert_eq!(recovered.entries[0].id.index, base.last.index.next());
    assert_eq!(recovered.entries.last().unwrap().id.index, LogIndex(300));
    // Recycled files take new records, and their old ones never come back (F6).
    wal.append(&[persist(1, entries(1, 301..=600, 100))])
        .unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (_, recovered) = home.open();
    assert_eq!(recovered.entries.last().unwrap().id.index, LogIndex(600));
}

#[test]
fn a_snapshot_ahead_of_the_log_restarts_it_and_one_inside_leaves_it() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    wal.append(&[persist(2, entries(1, 1..=10, 10))]).unwrap();
    let inside = EntryId {
        term: Term(1),
        index: LogIndex(5),
    };
    wal.save_base(&SnapshotMeta {
        last: inside,
        ..SnapshotMeta::default()
    })
    .unwrap();
    assert_eq!(wal.last().index, LogIndex(10));
    let meta = SnapshotMeta {
        last: EntryId {
            term: Term(2),
            index: LogIndex(40),
        },
        membership: Membership::of_voters([MemberId(7)]),
        membership_index: LogIndex(33),
    };
    wal.save_base(&meta).unwrap();
    wal.append(&[persist(2, entries(2, 41..=42, 10))]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (_, recovered) = home.open();
    assert_eq!(recovered.base, Some(meta));
    assert_eq!(recovered.entries, entries(2, 41..=42, 10));
    assert_eq!(recovered.verdict, Verdict::CleanEnd);
}

#[test]
fn f05_damage_behind_the_watermark_is_repaired_and_never_cut() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    wal.append(&[persist(1, entries(1, 1..=3, 10))]).unwrap();
    wal.sync().unwrap();
    wal.note_idle().unwrap();
    drop(wal);
    home.corrupt("00000001.wal", 4096 + 70);
    for _ in 0..2 {
        let (_, recovered) = home.open();
        assert_eq!(recovered.verdict, Verdict::Corrupt);
        assert_eq!(recovered.entries, entries(1, 1..=1, 10));
        let range = DamagedRange {
            from: LogIndex(2),
            to: Some(LogIndex(2)),
        };
        assert_eq!(recovered.damaged, [range]);
        assert_eq!(recovered.salvaged, entries(1, 3..=3, 10));
    }
    let (mut wal, _) = home.open();
    assert!(wal.is_repairing());
    wal.append(&[persist(2, entries(1, 2..=3, 10))]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    // Sent by the leader, but not confirmed as whole: still in doubt.
    let (mut wal, recovered) = home.open();
    assert_eq!(recovered.verdict, Verdict::Corrupt);
    assert_eq!(recovered.entries, entries(1, 1..=3, 10));
    wal.repaired().unwrap();
    drop(wal);
    let (_, recovered) = home.open();
    assert_eq!(recovered.verdict, Verdict::CleanEnd);
    assert_eq!(recovered.damaged, []);
    assert_eq!(recovered.entries, entries(1, 1..=3, 10));
}

#[test]
fn a04_a_log_without_its_vote_file_is_refused() {
    let mut home = Home::new();
    drop(home.open());
    std::fs::remove_file(home.file("vote")).unwrap();
    let refused = home.try_open().err().unwrap();
    assert!(matches!(refused, Error::LostPromise { .. }), "{refused}");
}

#[test]
fn a02_one_damaged_slot_is_replaced_by_the_other() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    wal.append(&[persist(7, Vec::new())]).unwrap();
    drop(wal);
    for offset in [0, 4096] {
        home.corrupt("vote", offset + 40);
        let (wal, recovered) = home.open();
        assert_eq!(recovered.hard_state.term, Term(7));
        drop(wal);
    }
    home.corrupt("vote", 40);
    home.corrupt("vote", 4096 + 40);
    assert!(home.try_open().err().unwrap().is_refusal());
}

#[test]
fn an_incarnation_that_does_not_grow_is_refused() {
    let mut home = Home::new();
    drop(home.open());
    home.starts = 0;
    let refused = home.try_open().err().unwrap();
    assert!(matches!(refused, Error::LostPromise { .. }), "{refused}");
}

#[test]
fn a_segment_of_another_directory_is_refused() {
    let mut home = Home::new();
    drop(home.open());
    let disk = Arc::new(RealDisk::new(home.root.path()));
    let foreign = WalOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        ..WalOptions::new([9; 16], 9)
    };
    let refused = Wal::open(disk, "wal", foreign).err().unwrap();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
}

fn hex(bytes: &[u8]) -> Vec<String> {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.chunks(32).map(line).collect()
}

/// A change of these bytes is a change of the format: it needs a new magic, an upgrade function and
/// a line in `docs/on-disk-format.md`.
#[test]
fn the_bytes_on_disk_are_golden() {
    let mut home = Home::new();
    let (mut wal, _) = home.open();
    wal.append(&[persist(
        2,
        vec![command(1, 1, b"hello"), command(2, 2, b"")],
    )])
    .unwrap();
    wal.append(&[persist(3, vec![command(3, 2, b"x")])])
        .unwrap();
    wal.sync().unwrap();
    let segment = std::fs::read(home.file("00000001.wal")).unwrap();
    let vote = std::fs::read(home.file("vote")).unwrap();
    assert_eq!(vote[..64], vote[4096..4160]);
    assert_eq!(hex(&segment[..96]), GOLDEN_HEADER);
    assert_eq!(hex(&segment[4096..4096 + 224]), GOLDEN_RECORDS);
    assert_eq!(hex(&vote[..64]), GOLDEN_VOTE);
    assert!(segment[4096 + 224..].iter().all(|byte| *byte == 0));
}

const GOLDEN_HEADER: [&str; 3] = [
    "5152542d57414c31b17998100100000030313233343536373839616263646566",
    "0100000000000000004000000100000000000000000000000000000001010100",
    "0000000000000000000000000000000000000000000000000000000000000000",
];
const GOLDEN_RECORDS: [&str; 7] = [
    "2cd07c4c0291183fb17998100500000201000000000000000100000000000000",
    "0100000000000000001000000100000068656c6c6f0000002107e77076ffa932",
    "0291183f00000002010000000000000002000000000000000200000000000000",
    "00100000010000005a28be885c3176a476ffa932000000040100000000000000",
    "020000000000000000000000000000000010000001000000f957c6c19a9e4bc9",
    "5c3176a401000002010000000000000002000000000000000300000000000000",
    "0010000001000000780000000000000000000000000000000000000000000000",
];
const GOLDEN_VOTE: [&str; 2] = [
    "5152542d564f5431303132333435363738396162636465660300000000000000",
    "03000000000000000100000000000000010000000000000000000000ccac9191",
];
