//! Compaction: what may go, what must stay, and that nobody notices.

use super::disk::{Loss, TestDisk};
use super::harness::{DIR, Machine, small};
use crate::storage::revision_log::{Compacted, Error, MetaKind, Options, SegmentState, inspect};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Fills segments with versions of a few keys, most of them obsolete.
fn churn(machine: &mut Machine, rounds: u8) {
    for round in 0..rounds {
        machine.put(&format!("key-{}", round % 4), &[round; 80]);
        machine.mark();
    }
    machine.flush().unwrap();
}

#[test]
fn obsolete_versions_free_their_space_and_the_rest_stays() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("forever", b"here");
    churn(&mut machine, 60);
    let before = machine.log.sizes();
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.compact_fully().unwrap();
    machine.check_values();
    let after = machine.log.sizes();
    assert!(after.total < before.total / 3, "{before:?} -> {after:?}");
    assert!(after.in_use <= after.total);
    let expected = machine.index.plain();
    drop(machine);
    disk.lose_power(Loss::Unsynced);
    assert_eq!(Machine::open(&disk).unwrap().index.plain(), expected);
}

#[test]
fn nothing_is_rewritten_when_nothing_is_obsolete() {
    let mut machine = Machine::open(&TestDisk::new()).unwrap();
    for round in 0..30 {
        machine.put(&format!("key-{round}"), &[1; 80]);
        machine.mark();
    }
    machine.flush().unwrap();
    let mut compactor = machine.log.compactor();
    assert_eq!(
        machine.compactor_step(&mut compactor).unwrap(),
        Compacted::Idle
    );
}

#[test]
fn f03_a_compaction_that_is_not_durable_removes_nothing() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    churn(&mut machine, 30);
    let before = machine.index.plain();
    machine.compact(machine.revision);
    machine.mark();
    let mut compactor = machine.log.compactor();
    let mut last = Compacted::Worked;
    while last == Compacted::Worked {
        last = machine.compactor_step(&mut compactor).unwrap();
    }
    assert_eq!(last, Compacted::Waiting);
    drop(compactor);
    drop(machine);
    disk.lose_power(Loss::Nothing);
    assert_eq!(Machine::open(&disk).unwrap().index.plain(), before);
}

#[test]
fn a_tombstone_does_not_go_before_what_it_hides() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    // A segment that is not worth rewriting hides one obsolete version of a key ...
    machine.put("ghost", b"boo");
    for key in ["a", "b", "c", "d", "e"] {
        machine.put(key, &[1; 60]);
    }
    machine.mark();
    machine.flush().unwrap();
    // ... whose tombstone is in a segment full of obsolete versions.
    machine.delete("ghost");
    churn(&mut machine, 20);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.compact_fully().unwrap();
    let expected = machine.index.plain();
    assert!(!machine.index.keys.contains_key(&b"ghost"[..]));
    drop(machine);
    let mut machine = Machine::open(&disk).unwrap();
    assert_eq!(machine.index.plain(), expected, "a deleted key came back");
    // Once the segment before it is rewritten as well, the tombstone goes.
    for key in ["a", "b", "c", "d", "e"] {
        machine.put(key, b"new");
    }
    machine.compact(machine.revision);
    machine.mark();
    churn(&mut machine, 8);
    machine.compact_fully().unwrap();
    let expected = machine.index.plain();
    drop(machine);
    assert_eq!(Machine::open(&disk).unwrap().index.plain(), expected);
}

#[test]
fn the_newest_row_of_each_kind_and_key_survives_and_a_removed_one_stays_away() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.row(MetaKind::Membership, "", b"first");
    machine.row(MetaKind::Lease, "gone", b"granted");
    machine.row(MetaKind::Alarm, "", b"nospace");
    churn(&mut machine, 12);
    machine.row(MetaKind::Membership, "", b"second");
    machine.row(MetaKind::Lease, "gone", b"");
    churn(&mut machine, 12);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.compact_fully().unwrap();
    let expected = machine.index.rows.clone();
    assert_eq!(expected.len(), 2);
    drop(machine);
    assert_eq!(Machine::open(&disk).unwrap().index.rows, expected);
}

#[test]
fn a_row_whose_successor_is_not_durable_stays() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.row(MetaKind::Membership, "", b"durable");
    churn(&mut machine, 12);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.row(MetaKind::Membership, "", b"in memory");
    machine.mark();
    let mut compactor = machine.log.compactor();
    while machine.compactor_step(&mut compactor).unwrap() == Compacted::Worked {}
    drop(compactor);
    drop(machine);
    let rows = Machine::open(&disk).unwrap().index.rows;
    assert_eq!(rows[&(MetaKind::Membership, Vec::new())], b"durable");
}

#[test]
fn a_pin_keeps_what_was_looked_up_readable() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    let location = machine.put("key-0", b"looked up under the pin");
    let pin = machine.log.reader().pin();
    churn(&mut machine, 20);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    machine.compact_fully().unwrap();
    assert_eq!(
        pin.read_value(location).unwrap(),
        &b"looked up under the pin"[..]
    );
    drop(pin);
    machine.compact_fully().unwrap();
    let error = machine.log.read(location).unwrap_err();
    assert!(matches!(error, Error::Moved { segment: 1 }), "{error}");
    let unlisted = |info: &_| matches!(info, SegmentState::Unlisted);
    let infos = inspect(&disk, DIR, true).unwrap();
    assert!(
        !infos.iter().any(|info| unlisted(&info.state)),
        "a file is left behind"
    );
}

#[test]
fn readers_go_on_while_segments_are_rewritten() {
    let options = Options {
        background: true,
        flush_delay_ms: 1,
        ..small()
    };
    let mut machine = Machine::open_with(&TestDisk::new(), options).unwrap();
    let location = machine.put("constant", &[5; 70]);
    machine.mark();
    let (reader, stop) = (machine.log.reader(), Arc::new(AtomicBool::new(false)));
    let reads = Arc::new(AtomicU64::new(0));
    let pin = reader.pin();
    let reading = {
        let (stop, reads) = (Arc::clone(&stop), Arc::clone(&reads));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(pin.read_value(location).unwrap(), &[5; 70][..]);
                reads.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for _ in 0..10 {
        let before = reads.load(Ordering::Relaxed);
        churn(&mut machine, 12);
        machine.compact(machine.revision);
        machine.mark();
        machine.flush().unwrap();
        machine.compact_fully().unwrap();
        machine.check_values();
        // On a busy machine a round may be over before the reader has had its turn.
        while reads.load(Ordering::Relaxed) == before && !reading.is_finished() {
            std::thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    reading.join().unwrap();
}

#[test]
fn no_space_for_the_new_segment_changes_nothing() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    churn(&mut machine, 20);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    let mut compactor = machine.log.compactor();
    disk.stop_after(2);
    let mut step = machine.compactor_step(&mut compactor);
    while let Ok(Compacted::Worked) = step {
        step = machine.compactor_step(&mut compactor);
    }
    let error = step.unwrap_err();
    assert!(
        matches!(error, Error::Aborted { .. }) && !error.is_fatal(),
        "{error}"
    );
    disk.lose_power(Loss::Nothing);
    machine.check_values();
    machine.compact_fully().unwrap();
    machine.check_values();
}

#[test]
fn f10_damage_is_found_by_compaction_and_not_copied() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    churn(&mut machine, 20);
    machine.compact(machine.revision);
    machine.mark();
    machine.flush().unwrap();
    disk.flip("log/00000001.rev", 100, 0);
    let error = machine.compact_fully().unwrap_err();
    let Error::Corrupt {
        segment, offset, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((segment, offset), (1, 64));
}
