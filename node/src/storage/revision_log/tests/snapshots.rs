//! Snapshots: taken at a mark, sent in any order, resumed after a restart, swapped in as a whole.

use super::disk::{Loss, TestDisk};
use super::harness::{DIR, Machine, filled, small};
use crate::storage::revision_log::{
    Error, Options, Received, Snapshot, SnapshotId, SnapshotReceiver,
};

/// A log of several chunks, and a snapshot of it.
fn large(disk: &TestDisk) -> (Machine, Snapshot) {
    let options = Options {
        segment_bytes: 3 << 20,
        ..small()
    };
    let mut machine = Machine::open_with(disk, options).unwrap();
    for round in 0..12u8 {
        machine.put(&format!("key-{round}"), &vec![round; 700_000]);
        machine.mark();
    }
    machine.flush().unwrap();
    let snapshot = machine
        .log
        .snapshotter()
        .take(|mark| vec![mark.applied.index.0 as u8])
        .unwrap();
    assert!(snapshot.chunk_count() > 6);
    (machine, snapshot)
}

/// Begins to receive a snapshot.
fn begin(disk: &TestDisk, snapshot: &Snapshot) -> SnapshotReceiver {
    SnapshotReceiver::begin(disk.door(), DIR, &snapshot.manifest()).unwrap()
}

/// Sends some chunks.
fn send(receiver: &mut SnapshotReceiver, snapshot: &Snapshot, numbers: &[u32]) {
    for number in numbers {
        let chunk = snapshot.chunk(*number, number % 2 == 0).unwrap();
        receiver
            .write_chunk(snapshot.id(), *number, &chunk)
            .unwrap();
    }
}

/// Sends all that is missing.
fn send_missing(receiver: &mut SnapshotReceiver, snapshot: &Snapshot) {
    let missing: Vec<u32> = receiver.missing().collect();
    send(receiver, snapshot, &missing);
}

#[test]
fn a_snapshot_becomes_the_log_with_its_mark_and_meta() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (machine, snapshot) = large(&source);
    drop(filled(&target));
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    let installed = receiver.install(&small()).unwrap();
    assert_eq!(
        (installed.mark, installed.meta.as_slice()),
        (snapshot.mark(), &[12][..])
    );
    drop(receiver);
    let mut copy = Machine::open(&target).unwrap();
    assert_eq!(copy.opened.installed, Some(installed));
    assert_eq!(copy.opened.mark, snapshot.mark());
    assert_eq!(copy.index.plain(), machine.index.plain());
    // It is a log like any other.
    copy.put("after", b"1");
    copy.mark();
    copy.flush().unwrap();
    let expected = copy.index.plain();
    drop(copy);
    assert_eq!(Machine::open(&target).unwrap().index.plain(), expected);
}

#[test]
fn a_snapshot_holds_what_is_durable_and_nothing_later() {
    let disk = TestDisk::new();
    let mut machine = filled(&disk);
    let (expected, synced) = (machine.index.plain(), machine.log.synced());
    machine.put("later", b"1");
    machine.mark();
    let snapshot = machine.log.snapshotter().take(|_| Vec::new()).unwrap();
    assert_eq!(snapshot.mark().applied, synced);
    let target = TestDisk::new();
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    assert_eq!(Machine::open(&target).unwrap().index.plain(), expected);
}

#[test]
fn d09_chunks_may_come_twice_and_in_any_order() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (machine, snapshot) = large(&source);
    let mut receiver = begin(&target, &snapshot);
    let mut numbers: Vec<u32> = (0..snapshot.chunk_count()).rev().collect();
    numbers.rotate_left(3);
    send(&mut receiver, &snapshot, &numbers);
    for number in numbers {
        let chunk = snapshot.chunk(number, true).unwrap();
        let again = receiver.write_chunk(snapshot.id(), number, &chunk).unwrap();
        assert_eq!(again, Received::Duplicate);
    }
    receiver.install(&small()).unwrap();
    assert_eq!(
        Machine::open(&target).unwrap().index.plain(),
        machine.index.plain()
    );
}

#[test]
fn d09_a_corrupt_or_foreign_chunk_is_refused_by_number() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (_machine, snapshot) = large(&source);
    let mut receiver = begin(&target, &snapshot);
    let mut refuse = |number: u32, wire: &[u8]| {
        let error = receiver
            .write_chunk(snapshot.id(), number, wire)
            .unwrap_err();
        let Error::ChunkRefused { number: named, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(named, number);
    };
    for compress in [false, true] {
        let chunk = snapshot.chunk(2, compress).unwrap();
        for at in [0, 1, chunk.len() / 2, chunk.len() - 1] {
            let mut wrong = chunk.to_vec();
            wrong[at] ^= 0x40;
            refuse(2, &wrong);
        }
        refuse(2, &chunk[..chunk.len() - 1]);
        refuse(3, &snapshot.chunk(0, compress).unwrap());
        refuse(9999, &chunk);
    }
    refuse(2, b"");
    assert_eq!(receiver.missing().count(), snapshot.chunk_count() as usize);
}

#[test]
fn d05_a_chunk_of_another_transfer_is_refused() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (_machine, snapshot) = large(&source);
    let mut receiver = begin(&target, &snapshot);
    let other = SnapshotId(snapshot.id().0 ^ 1);
    let error = receiver.write_chunk(other, 0, &snapshot.chunk(0, false).unwrap());
    assert!(matches!(error.unwrap_err(), Error::SnapshotRefused { .. }));
}

#[test]
fn d09_a_transfer_goes_on_after_a_restart_with_what_survived() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (machine, snapshot) = large(&source);
    let mut receiver = begin(&target, &snapshot);
    send(&mut receiver, &snapshot, &[0, 3, 5]);
    drop(receiver);
    target.lose_power(Loss::Nothing);
    // The log itself may be opened in between, and keeps what has arrived.
    drop(Machine::open(&target).unwrap());
    let mut receiver = begin(&target, &snapshot);
    let missing: Vec<u32> = receiver.missing().collect();
    assert_eq!(missing.len(), snapshot.chunk_count() as usize - 3);
    assert!(![0, 3, 5].iter().any(|number| missing.contains(number)));
    send(&mut receiver, &snapshot, &missing[1..]);
    drop(receiver);
    target.lose_power(Loss::Torn);
    let mut receiver = begin(&target, &snapshot);
    assert!(
        receiver.missing().count() > 1,
        "torn chunks do not count as there"
    );
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    assert_eq!(
        Machine::open(&target).unwrap().index.plain(),
        machine.index.plain()
    );
}

#[test]
fn an_incomplete_snapshot_is_not_installed() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (_machine, snapshot) = large(&source);
    let old = filled(&target).index.plain();
    let mut receiver = begin(&target, &snapshot);
    send(&mut receiver, &snapshot, &[0]);
    let error = receiver.install(&small()).unwrap_err();
    assert!(
        matches!(error, Error::SnapshotIncomplete { first: 1, .. }),
        "{error}"
    );
    assert_eq!(Machine::open(&target).unwrap().index.plain(), old);
}

#[test]
fn d03_d08_a_crash_at_every_change_of_an_install_leaves_the_old_or_the_new_state() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let machine = filled(&source);
    let snapshot = machine
        .log
        .snapshotter()
        .take(|_| b"meta".to_vec())
        .unwrap();
    let new = machine.index.plain();
    let mut old = Machine::open(&target).unwrap();
    old.put("old", b"state");
    old.mark();
    old.flush().unwrap();
    let old = old.index.plain();
    let install = |disk: &TestDisk| {
        let mut receiver = SnapshotReceiver::begin(disk.door(), DIR, &snapshot.manifest())?;
        let missing: Vec<u32> = receiver.missing().collect();
        for number in missing {
            receiver.write_chunk(snapshot.id(), number, &snapshot.chunk(number, true)?)?;
        }
        receiver.install(&small())
    };
    let (mut kept, mut replaced) = (0, 0);
    for stop in 0.. {
        let disk = target.fork();
        disk.stop_after(stop);
        let result = install(&disk);
        if !disk.has_stopped() {
            result.unwrap();
            break;
        }
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn] {
            let crashed = disk.fork();
            crashed.lose_power(loss);
            let machine = Machine::open(&crashed).unwrap();
            match machine.opened.installed {
                None => {
                    assert_eq!(
                        machine.index.plain(),
                        old,
                        "crash at change {stop}, {loss:?}"
                    );
                    kept += 1;
                }
                Some(_) => {
                    assert_eq!(machine.opened.mark, snapshot.mark());
                    assert_eq!(
                        machine.index.plain(),
                        new,
                        "crash at change {stop}, {loss:?}"
                    );
                    replaced += 1;
                }
            }
            drop(machine);
            // Whatever it is, the install can be done again.
            install(&crashed).unwrap();
            assert_eq!(Machine::open(&crashed).unwrap().index.plain(), new);
        }
    }
    assert!(
        kept > 10 && replaced > 2,
        "{kept} kept, {replaced} replaced"
    );
}

#[test]
fn a_damaged_log_is_rebuilt_by_a_snapshot() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (machine, snapshot) = large(&source);
    drop(filled(&target));
    target.flip("log/MANIFEST", 20, 0);
    assert!(Machine::open(&target).err().unwrap().is_corrupt());
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    assert_eq!(
        Machine::open(&target).unwrap().index.plain(),
        machine.index.plain()
    );
}

#[test]
fn segments_that_are_here_already_are_not_fetched_again() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let (mut machine, snapshot) = large(&source);
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    drop((receiver, snapshot));
    machine.put("new", b"1");
    machine.mark();
    machine.flush().unwrap();
    let snapshot = machine.log.snapshotter().take(|_| Vec::new()).unwrap();
    let mut receiver = begin(&target, &snapshot);
    let missing = receiver.missing().count();
    assert!(
        missing * 2 < snapshot.chunk_count() as usize,
        "{missing} are fetched again"
    );
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    assert_eq!(
        Machine::open(&target).unwrap().index.plain(),
        machine.index.plain()
    );
}

#[test]
fn a_snapshot_outlives_compaction_and_its_directory_goes_with_it() {
    let disk = TestDisk::new();
    let mut machine = filled(&disk);
    let expected = machine.index.plain();
    let snapshot = machine.log.snapshotter().take(|_| Vec::new()).unwrap();
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.compact_fully().unwrap();
    let target = TestDisk::new();
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    receiver.install(&small()).unwrap();
    assert_eq!(Machine::open(&target).unwrap().index.plain(), expected);
    assert!(
        disk.files()
            .iter()
            .any(|path| path.starts_with("log/snapshot-"))
    );
    drop(snapshot);
    assert!(
        !disk
            .files()
            .iter()
            .any(|path| path.starts_with("log/snapshot-"))
    );
}

#[test]
fn f10_rot_at_the_sender_is_never_sent_or_installed() {
    let disk = TestDisk::new();
    let machine = filled(&disk);
    let snapshot = machine.log.snapshotter().take(|_| Vec::new()).unwrap();
    disk.flip("log/00000001.rev", 100, 0);
    assert!(snapshot.chunk(0, false).unwrap_err().is_corrupt());
    // A snapshot of what is damaged already is refused by whoever receives it.
    let snapshot = machine.log.snapshotter().take(|_| Vec::new()).unwrap();
    let target = TestDisk::new();
    let mut receiver = begin(&target, &snapshot);
    send_missing(&mut receiver, &snapshot);
    assert!(receiver.install(&small()).unwrap_err().is_corrupt());
}

#[test]
fn f14_a_hostile_manifest_is_refused() {
    let (source, target) = (TestDisk::new(), TestDisk::new());
    let snapshot = filled(&source)
        .log
        .snapshotter()
        .take(|_| Vec::new())
        .unwrap();
    let manifest = snapshot.manifest();
    let refused = |bytes: &[u8]| {
        let result = SnapshotReceiver::begin(target.door(), DIR, bytes);
        assert!(matches!(result.err(), Some(Error::SnapshotRefused { .. })));
    };
    for at in 0..manifest.len() {
        let mut wrong = manifest.to_vec();
        wrong[at] ^= 0x81;
        refused(&wrong);
        refused(&manifest[..at]);
    }
    target.set_free_bytes(100);
    refused(&manifest);
}
