//! An adversary with access to the data directory: every byte of every small file cut, flipped or
//! gone, files of another member, a device that fails or is full at every single operation.
//!
//! The real recovery of identity, peers, vote and log answers each time: all that was acknowledged
//! is there, or the damage is told by a refusal that names file and remedy, or by the verdict.

use super::revision_log::tests::disk::{Loss, TestDisk};
use super::*;
use crate::env::Rng;
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, MemberId, Payload, Persist, PersistId, Term,
};

const WAL: &str = "wal";
const SEGMENT: &str = "wal/00000001.wal";
/// What tells whose directory it is, and what keeps it apart from others.
const IDENTITY: [&str; 2] = ["identity", "identity.copy"];
const SMALL_FILES: [&str; 6] = [
    "identity",
    "identity.copy",
    "peers",
    "lock",
    "wal/vote",
    "wal/watermark",
];
const ENTRIES: u64 = 12;
const HARD_STATE: HardState = HardState {
    term: Term(3),
    vote: Some(MemberId(2)),
};
const LIFE: PeerLife = PeerLife {
    directory_id: [5; 16],
    incarnation: 4,
    boot_nonce: 77,
};

struct Counter(u64);

impl Rng for Counter {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn entry(index: u64) -> Entry {
    Entry {
        id: EntryId {
            term: Term(3),
            index: LogIndex(index),
        },
        payload: Payload::Command(vec![index as u8; 40].into()),
    }
}

fn persist(number: u64, indexes: std::ops::RangeInclusive<u64>) -> Persist {
    Persist {
        id: PersistId(number),
        hard_state: Some(HARD_STATE),
        entries: indexes.map(entry).collect(),
    }
}

/// What a start finds.
struct Held {
    identity: Option<Identity>,
    peers: PeersSeen,
    wal: Wal,
    recovered: Recovered,
}

fn start(disk: &TestDisk, seed: u64) -> Result<Held, Error> {
    let (dir, _) = DataDir::open(disk.door(), &mut Counter(seed), 1)?;
    let identity = dir.identity();
    let peers = PeersSeen::open(disk.door(), dir.directory_id(), identity.is_some())?;
    let mut options = WalOptions::new(dir.directory_id(), dir.incarnation());
    options.segment_bytes = wal::SEGMENT_BYTES_MIN;
    options.was_member = identity.is_some();
    let (wal, recovered) = Wal::examine(disk.door(), WAL, options)?.go_on()?;
    Ok(Held {
        identity,
        peers,
        wal,
        recovered,
    })
}

/// A member's directory: what it has acknowledged is synced, and known to be.
fn member(seed: u64) -> TestDisk {
    let disk = TestDisk::new();
    let (mut dir, _) = DataDir::open(disk.door(), &mut Counter(seed), 1).unwrap();
    let mut options = WalOptions::new(dir.directory_id(), dir.incarnation());
    options.segment_bytes = wal::SEGMENT_BYTES_MIN;
    let (mut wal, _) = Wal::open(disk.door(), WAL, options).unwrap();
    PeersSeen::create(&*disk.door(), dir.directory_id()).unwrap();
    dir.become_member([seed as u8; 16], seed, MemberId(seed), 1)
        .unwrap();
    let mut peers = PeersSeen::open(disk.door(), dir.directory_id(), true).unwrap();
    peers.introduce(MemberId(9), LIFE).unwrap();
    wal.append(&[persist(1, 1..=ENTRIES)]).unwrap();
    wal.sync().unwrap();
    wal.note_idle().unwrap();
    drop(wal);
    disk.lose_power(Loss::Nothing);
    disk
}

/// Nothing is lost in silence, and nothing is made up.
fn judge(case: &str, outcome: Result<Held, Error>) {
    let mut held = match outcome {
        Err(error) => {
            let text = error.to_string();
            assert!(error.is_refusal(), "{case}: {text}");
            let names_a_file = ["identity", "peers", "wal", "lock", "\"\""];
            assert!(
                names_a_file.iter().any(|name| text.contains(name)),
                "{case}: {text}"
            );
            assert!(text.contains("Nothing was changed"), "{case}: {text}");
            return;
        }
        Ok(held) => held,
    };
    let identity = held
        .identity
        .unwrap_or_else(|| panic!("{case}: the member is gone"));
    assert!(!identity.removed && !identity.stale, "{case}: {identity:?}");
    let seen = PeerLife {
        incarnation: 3,
        ..LIFE
    };
    let forgot = held.peers.introduce(MemberId(9), seen).unwrap();
    assert!(
        matches!(forgot, PeerDecision::Refuse(_)),
        "{case}: a peer is forgotten"
    );
    assert_eq!(held.recovered.hard_state, HARD_STATE, "{case}");
    let whole = &held.recovered.entries;
    let expected: Vec<Entry> = (1..=whole.len() as u64).map(entry).collect();
    assert_eq!(*whole, expected, "{case}: entries that were never written");
    if held.recovered.verdict == Verdict::Corrupt {
        assert!(
            held.wal.is_repairing() && !held.recovered.damaged.is_empty(),
            "{case}"
        );
    } else {
        assert_eq!(whole.len() as u64, ENTRIES, "{case}: {:?}", held.recovered);
    }
}

fn files(disk: &TestDisk) -> Vec<String> {
    disk.files()
        .into_iter()
        .filter(|name| !name.contains("spare"))
        .collect()
}

#[test]
fn n9_every_file_of_a_directory_is_one_that_the_adversary_knows() {
    let mut expected: Vec<String> = SMALL_FILES.map(str::to_owned).into();
    expected.push(SEGMENT.to_owned());
    expected.sort();
    let mut found = files(&member(100));
    found.sort();
    assert_eq!(found, expected);
    judge("untouched", start(&member(100), 300));
}

#[test]
fn n8_a_flipped_bit_in_any_byte_of_any_file_loses_nothing_in_silence() {
    let original = member(100);
    for file in files(&original) {
        for at in 0..original.bytes(&file).len() {
            let disk = original.fork();
            disk.flip(&file, at, at as u8);
            judge(&format!("{file}, byte {at} flipped"), start(&disk, 300));
        }
    }
}

#[test]
fn f05_a_file_cut_at_any_byte_loses_nothing_in_silence() {
    let original = member(100);
    for file in files(&original) {
        let bytes = original.bytes(&file);
        for length in 0..bytes.len() {
            let disk = original.fork();
            disk.set_bytes(&file, bytes[..length].to_vec());
            judge(&format!("{file} cut to {length}"), start(&disk, 300));
        }
    }
}

#[test]
fn n9_a_file_that_is_gone_or_of_another_member_or_kind_loses_nothing_in_silence() {
    let (original, other) = (member(100), member(200));
    let all = files(&original);
    for file in &all {
        let disk = original.fork();
        disk.remove_file(file);
        judge(&format!("{file} gone"), start(&disk, 300));
        for source in &all {
            if source == file && file == "lock" {
                continue;
            }
            let disk = original.fork();
            disk.set_bytes(file, other.bytes(source));
            judge(
                &format!("{source} of another member in place of {file}"),
                start(&disk, 300),
            );
        }
    }
    let both = original.fork();
    for file in IDENTITY {
        both.set_bytes(file, other.bytes(file));
    }
    let refused = start(&both, 300)
        .err()
        .expect("the log belongs to the one, the identity not");
    assert!(refused.is_refusal(), "{refused}");
}

/// A start, writes, a roll of the segment, a release: answers the last entry that was acknowledged.
fn life(disk: &TestDisk) -> (u64, Result<(), Error>) {
    let mut acknowledged = ENTRIES;
    let mut run = || {
        let mut held = start(disk, 300)?;
        for round in 0..4 {
            let first = ENTRIES + 1 + round * 40;
            held.wal.append(&[persist(2 + round, first..=first + 39)])?;
            held.wal.sync()?;
            acknowledged = first + 39;
            held.wal.note_commit(LogIndex(acknowledged));
            held.wal.note_idle()?;
            held.wal.prepare()?;
        }
        held.wal.release(LogIndex(40))?;
        held.wal.sync()?;
        Ok(())
    };
    let result = run();
    (acknowledged, result)
}

/// After whatever happened, a start on a good device has all that was acknowledged.
fn whole_up_to(disk: &TestDisk, acknowledged: u64, case: &str) {
    let held = start(disk, 400).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_ne!(held.recovered.verdict, Verdict::Corrupt, "{case}");
    assert_eq!(held.recovered.hard_state, HARD_STATE, "{case}");
    let base = held
        .recovered
        .base
        .map_or(LogIndex(0), |base| base.last.index);
    let first = base.next().0;
    let last = base.0 + held.recovered.entries.len() as u64;
    assert!(
        last >= acknowledged,
        "{case}: {last} of {acknowledged} acknowledged"
    );
    let expected: Vec<Entry> = (first..=last).map(entry).collect();
    assert_eq!(held.recovered.entries, expected, "{case}");
}

#[test]
fn f04_a_device_that_fails_at_any_operation_loses_nothing_acknowledged() {
    let original = member(100);
    let whole = original.fork();
    let before = whole.changes();
    let (all, result) = life(&whole);
    result.unwrap();
    let operations = whole.changes() - before;
    assert!(
        operations > 60 && all == ENTRIES + 160,
        "{operations} operations, {all} entries"
    );
    for operation in 0..operations {
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn] {
            let case = format!("operation {operation} of {operations} fails, then {loss:?}");
            let disk = original.fork();
            disk.stop_after(operation);
            let (acknowledged, result) = life(&disk);
            let error = result
                .err()
                .unwrap_or_else(|| panic!("{case}: nobody noticed"));
            assert!(error.is_fatal(), "{case}: {error}");
            disk.lose_power(loss);
            whole_up_to(&disk, acknowledged, &case);
        }
    }
}

#[test]
fn f12_a_full_device_refuses_cleanly_and_takes_the_same_again() {
    for room_for in 0..3 {
        let disk = member(100).fork();
        let mut held = start(&disk, 300).unwrap();
        let mut next = ENTRIES + 1;
        let mut number = 2;
        for _ in 0..room_for {
            held.wal
                .append(&[persist(number, next..=next + 99)])
                .unwrap();
            held.wal.sync().unwrap();
            (next, number) = (next + 100, number + 1);
        }
        disk.set_full(true);
        let big = persist(number, next..=next + 199);
        let error = held.wal.append(std::slice::from_ref(&big)).unwrap_err();
        assert!(
            matches!(error, Error::NoSpace { .. }) && !error.is_fatal(),
            "{error}"
        );
        assert!(error.to_string().contains("free some space"), "{error}");
        // What is there stays, also over a start on the full device.
        held.wal.sync().unwrap();
        disk.set_full(false);
        held.wal.append(&[big]).unwrap();
        held.wal.sync().unwrap();
        drop(held);
        disk.lose_power(Loss::Unsynced);
        whole_up_to(&disk, next + 199, &format!("room for {room_for}"));
    }
}
