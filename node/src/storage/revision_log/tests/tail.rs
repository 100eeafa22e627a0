//! The memory tail and the flusher: what is readable when, and what becomes durable when.

use super::disk::{Loss, TestDisk};
use super::harness::{Machine, small};
use crate::storage::revision_log::tail::Tail;
use crate::storage::revision_log::{Flushed, Options};
use quorate_raft::LogIndex;

#[test]
fn a_record_is_readable_before_its_batch_ends_and_after_it_is_flushed() {
    let mut machine = Machine::open(&TestDisk::new()).unwrap();
    let location = machine.put("a", b"in memory");
    machine.check_values();
    machine.mark();
    machine.flush().unwrap();
    assert_eq!(machine.log.tail_bytes(), 0);
    assert_eq!(
        machine.log.read(location).unwrap().value(),
        &b"in memory"[..]
    );
}

#[test]
fn a_record_of_a_rewritten_segment_is_not_looked_for_in_an_earlier_one() {
    let mut tail = Tail::new(1, 320);
    tail.push(&mut vec![1; 64]);
    tail.roll(2, 64);
    assert_eq!(tail.get(1, 320, 64).unwrap(), vec![1; 64]);
    // Segment 9 was written by compaction; the chunk before it in order begins further back.
    assert_eq!(tail.get(9, 64, 64), None);
}

#[test]
fn appending_and_marking_touch_no_disk() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    let before = disk.changes();
    for _ in 0..100 {
        machine.put("key", &[7; 100]);
        machine.mark();
    }
    assert_eq!(disk.changes(), before);
}

#[test]
fn w10_nothing_beyond_what_the_wal_holds_becomes_durable() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    for round in 0..8u8 {
        machine.put("key", &[round; 100]);
        machine.mark();
    }
    assert_eq!(machine.log.flush_step().unwrap(), Flushed::Idle);
    machine.log.allow_durable(LogIndex(3));
    while machine.log.flush_step().unwrap() == Flushed::Worked {}
    assert_eq!(machine.log.synced().index, LogIndex(3));
    drop(machine);
    disk.lose_power(Loss::Nothing);
    assert_eq!(
        Machine::open(&disk).unwrap().opened.mark.applied.index,
        LogIndex(3)
    );
}

#[test]
fn w10_a_limit_never_goes_back() {
    let mut machine = Machine::open(&TestDisk::new()).unwrap();
    machine.put("a", b"1");
    machine.mark();
    machine.log.allow_durable(LogIndex(1));
    machine.log.allow_durable(LogIndex(0));
    assert_eq!(machine.log.flush_step().unwrap(), Flushed::Worked);
}

#[test]
fn a_batch_without_a_mark_does_not_survive() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("a", b"1");
    machine.mark();
    machine.put("b", b"2");
    machine.flush().unwrap();
    drop(machine);
    let machine = Machine::open(&disk).unwrap();
    assert_eq!(machine.index.keys.keys().collect::<Vec<_>>(), [b"a"]);
}

#[test]
fn a_full_tail_asks_for_a_pause_and_a_flush_ends_it() {
    let options = Options {
        tail_bytes_max: 1000,
        ..small()
    };
    let mut machine = Machine::open_with(&TestDisk::new(), options).unwrap();
    while !machine.log.is_over_limit() {
        machine.put("key", &[1; 64]);
        machine.mark();
    }
    assert!(machine.log.tail_bytes() > 1000);
    machine.flush().unwrap();
    assert!(!machine.log.is_over_limit());
    machine.check_values();
}

#[test]
fn f04_a_failed_write_is_final() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("a", b"1");
    machine.mark();
    disk.stop_after(1); // the write succeeds, the sync does not
    assert!(machine.flush().unwrap_err().is_fatal());
    disk.lose_power(Loss::Nothing); // the disk works again: nothing is retried
    assert!(machine.flush().unwrap_err().is_fatal());
    assert!(machine.log.failure().unwrap().contains("sync"));
    assert_eq!(machine.log.synced().index, LogIndex(0));
}

#[test]
fn a_record_larger_than_a_segment_is_kept_whole() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("large", &vec![9; 700_000]);
    machine.put("small", b"1");
    machine.mark();
    machine.put("next", b"2");
    machine.mark();
    machine.check_values();
    machine.flush().unwrap();
    let expected = machine.index.plain();
    drop(machine);
    assert_eq!(Machine::open(&disk).unwrap().index.plain(), expected);
}

#[test]
fn the_background_thread_flushes_what_is_allowed_before_it_ends() {
    let disk = TestDisk::new();
    let options = Options {
        background: true,
        flush_delay_ms: 1,
        ..small()
    };
    let mut machine = Machine::open_with(&disk, options).unwrap();
    for round in 0..50u8 {
        machine.put("key", &[round; 50]);
        machine.mark();
        machine.log.allow_durable(LogIndex(machine.applied));
    }
    let expected = machine.index.plain();
    drop(machine);
    disk.lose_power(Loss::Unsynced);
    let machine = Machine::open(&disk).unwrap();
    assert_eq!(machine.opened.mark.applied.index, LogIndex(50));
    assert_eq!(machine.index.plain(), expected);
}
