//! Bit rot and lost bytes: an error that names the place, or what was never synced is cut; never
//! wrong data, never a silently shorter history.

use super::disk::{Loss, TestDisk};
use super::harness::{DIR, Machine, Plain, filled, small};
use crate::storage::revision_log::{Error, MetaKind};
use quorate_raft::LogIndex;

/// Opens a copy with one kind of damage, and checks that nothing wrong comes of it: all that can
/// be read is what was written, all of it up to the last mark, and the history does not end before
/// `mark_min`.
fn check(
    disk: &TestDisk,
    (expected, last): &(Plain, u64),
    mark_min: u64,
    what: &str,
) -> Option<Error> {
    let (machine, errors) = match Machine::open_damaged(disk, small()) {
        Ok(opened) => opened,
        Err(error) => return Some(error),
    };
    let mark = machine.opened.mark.applied.index.0;
    assert!(
        mark >= mark_min,
        "{what}: the history ends at {mark}, {mark_min} was synced"
    );
    let plain = machine.index.plain();
    for version in &plain.0 {
        assert!(
            expected.0.contains(version),
            "{what}: {version:?} was never written"
        );
    }
    for (row, bytes) in &plain.1 {
        assert_eq!(expected.1.get(row), Some(bytes), "{what}");
    }
    if errors.is_empty() && mark == *last {
        assert_eq!(
            plain.0.len(),
            expected.0.len(),
            "{what}: something is missing"
        );
    }
    errors.into_iter().next()
}

/// Segments, manifest and watermark.
fn files(disk: &TestDisk) -> Vec<String> {
    disk.files()
        .into_iter()
        .filter(|path| path.starts_with(DIR))
        .collect()
}

#[test]
fn f10_n08_a_flipped_bit_anywhere_is_found_or_harmless() {
    let disk = TestDisk::new();
    let machine = filled(&disk);
    let mark = machine.applied;
    let expected = (machine.index.plain(), mark);
    drop(machine);
    let (mut found, mut harmless) = (0, 0);
    for path in files(&disk) {
        for offset in 0..disk.bytes(&path).len() {
            let damaged = disk.fork();
            damaged.flip(&path, offset, (offset % 8) as u8);
            let what = format!("bit flipped in {path} at {offset}");
            match check(&damaged, &expected, mark, &what) {
                Some(Error::Corrupt { path: named, .. }) => {
                    // Damage of the first header's version reads as a newer format, by design.
                    assert!(
                        named.ends_with(&path[4..]),
                        "{what}: the error names {named}"
                    );
                    found += 1;
                }
                Some(error) => panic!("{what}: {error}"),
                // The watermark is a second proof; dead records and marks are not read.
                None => harmless += 1,
            }
        }
    }
    assert!(found > 1000, "{found} found, {harmless} harmless");
}

#[test]
fn f05_a_file_cut_anywhere_is_found_or_was_never_synced() {
    let disk = TestDisk::new();
    let machine = filled(&disk);
    let mark = machine.applied;
    let expected = (machine.index.plain(), mark);
    drop(machine);
    for path in files(&disk)
        .into_iter()
        .filter(|path| !path.ends_with("WATERMARK"))
    {
        let bytes = disk.bytes(&path);
        for len in 0..bytes.len() {
            let damaged = disk.fork();
            damaged.set_bytes(&path, bytes[..len].to_vec());
            let what = format!("{path} cut to {len} of {} bytes", bytes.len());
            let error = check(&damaged, &expected, mark, &what);
            assert!(
                error.is_some_and(|error| error.is_corrupt()),
                "{what}: not noticed"
            );
        }
    }
}

/// A log whose last batches were written but not synced: the process stopped in between.
fn with_unsynced_tail() -> (TestDisk, (Plain, u64), u64) {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("synced", &[1; 60]);
    machine.mark();
    machine.flush().unwrap();
    machine.put("written", &[2; 60]);
    machine.mark();
    machine.put("written too", &[3; 60]);
    machine.mark();
    let synced = machine.log.synced().index.0;
    disk.stop_after(1);
    machine.flush().unwrap_err();
    disk.lose_power(Loss::Nothing);
    (disk, (machine.index.plain(), machine.applied), synced)
}

#[test]
fn f05_a_flipped_bit_in_the_unsynced_tail_cuts_it_there() {
    let (disk, expected, synced) = with_unsynced_tail();
    let path = "log/00000001.rev";
    let (mut cut, mut refused) = (0, 0);
    for offset in 0..disk.bytes(path).len() {
        let damaged = disk.fork();
        damaged.flip(path, offset, 3);
        match check(
            &damaged,
            &expected,
            synced,
            &format!("bit flipped at {offset}"),
        ) {
            Some(error) => {
                assert!(error.is_corrupt());
                refused += 1;
            }
            None => cut += 1,
        }
    }
    assert!(cut > 100 && refused > 100, "{cut} cut, {refused} refused");
}

#[test]
fn f05_the_unsynced_tail_may_end_anywhere() {
    let (disk, expected, synced) = with_unsynced_tail();
    let bytes = disk.bytes("log/00000001.rev");
    let mut marks = Vec::new();
    for len in (0..=bytes.len()).rev() {
        let damaged = disk.fork();
        damaged.set_bytes("log/00000001.rev", bytes[..len].to_vec());
        if check(&damaged, &expected, synced, &format!("cut to {len}")).is_none() {
            let machine = Machine::open(&damaged).unwrap();
            marks.push(machine.opened.mark.applied.index.0);
        }
    }
    marks.dedup();
    let last = expected.1;
    assert_eq!(marks, [last, last - 1, synced]);
}

#[test]
fn f06_what_was_cut_never_comes_back() {
    let (disk, ..) = with_unsynced_tail();
    disk.flip("log/00000001.rev", 300, 1);
    let mut machine = Machine::open(&disk).unwrap();
    machine.put("after the cut", b"1");
    machine.mark();
    machine.flush().unwrap();
    let expected = machine.index.plain();
    drop(machine);
    disk.lose_power(Loss::Unsynced);
    assert_eq!(Machine::open(&disk).unwrap().index.plain(), expected);
}

#[test]
fn a_later_mark_proves_that_earlier_damage_was_synced() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    for key in ["a", "b", "c"] {
        machine.put(key, &[1; 30]);
        machine.mark();
        machine.flush().unwrap();
    }
    drop(machine);
    // The watermark is lost, as a power loss may have it: marks alone are left to prove it.
    disk.set_bytes("log/WATERMARK", Vec::new());
    disk.flip("log/00000001.rev", 80, 2);
    let error = Machine::open(&disk).err().unwrap();
    let Error::Corrupt {
        segment, offset, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((segment, offset), (1, 64));
}

#[test]
fn a_missing_segment_or_manifest_is_damage_and_not_an_empty_log() {
    let disk = TestDisk::new();
    drop(filled(&disk));
    for path in files(&disk)
        .into_iter()
        .filter(|path| !path.ends_with("WATERMARK"))
    {
        let damaged = disk.fork();
        damaged.door().remove(&path).unwrap();
        let error = Machine::open(&damaged).err().unwrap();
        assert!(error.is_corrupt(), "without {path}: {error}");
    }
}

#[test]
fn f11_a_write_that_landed_elsewhere_is_found() {
    let disk = TestDisk::new();
    let machine = filled(&disk);
    let mark = machine.applied;
    let expected = (machine.index.plain(), mark);
    drop(machine);
    let (first, second) = ("log/00000001.rev", "log/00000002.rev");
    let one = disk.bytes(first);
    let mut other = disk.bytes(second);
    other[64..200].copy_from_slice(&one[64..200]);
    let damaged = disk.fork();
    damaged.set_bytes(second, other);
    assert!(check(&damaged, &expected, mark, "records of another segment").is_some());
    let (of_one, of_other) = (disk.bytes(first), disk.bytes(second));
    let swapped = disk.fork();
    swapped.set_bytes(first, of_other);
    swapped.set_bytes(second, of_one);
    assert!(Machine::open(&swapped).err().unwrap().is_corrupt());
}

#[test]
fn f14_a_huge_length_allocates_nothing_and_is_damage() {
    let disk = TestDisk::new();
    let mut machine = Machine::open(&disk).unwrap();
    machine.row(MetaKind::Lease, "a", b"b");
    machine.mark();
    machine.flush().unwrap();
    drop(machine);
    for at in [72, 73, 74, 75] {
        let damaged = disk.fork();
        let mut bytes = damaged.bytes("log/00000001.rev");
        bytes[at] = 0xff;
        damaged.set_bytes("log/00000001.rev", bytes);
        assert!(Machine::open(&damaged).err().unwrap().is_corrupt());
    }
}

#[test]
fn recovery_after_damage_of_the_unsynced_tail_keeps_the_synced_mark() {
    let (disk, _, synced) = with_unsynced_tail();
    disk.lose_power(Loss::Unsynced);
    let machine = Machine::open(&disk).unwrap();
    assert_eq!(machine.opened.mark.applied.index, LogIndex(synced));
}
