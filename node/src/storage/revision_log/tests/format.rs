//! Bytes on disk: an accidental change of format fails here. An intended one shows in the diff of
//! `golden/`, with its version number; `UPDATE_GOLDEN=1` rewrites it.

use super::disk::TestDisk;
use super::harness::{DIR, Machine, small};
use crate::storage::revision_log::{MetaKind, Options, SegmentState, inspect};

/// Bytes as lines of sixteen.
fn dump(bytes: &[u8]) -> String {
    let line = |(at, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:06x}  {}\n", at * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

/// Compares bytes with a committed dump.
fn check(name: &str, bytes: &[u8]) {
    let path = format!(
        "{}/src/storage/revision_log/tests/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, dump(bytes)).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(dump(bytes), golden, "the format of {name} has changed");
}

/// One record of each kind, in a sealed segment.
fn one_of_each(disk: &TestDisk) -> Machine {
    let options = Options {
        segment_bytes: 200,
        ..small()
    };
    let mut machine = Machine::open_with(disk, options).unwrap();
    machine.put("key", b"value");
    machine.delete("key");
    machine.row(MetaKind::Alarm, "row", b"bytes");
    machine.compact(1);
    machine.mark();
    machine.flush().unwrap();
    machine
}

#[test]
fn bytes_of_a_sealed_segment_are_golden() {
    let disk = TestDisk::new();
    one_of_each(&disk);
    check("segment.txt", &disk.bytes("log/00000001.rev"));
}

#[test]
fn bytes_of_manifest_and_watermark_are_golden() {
    let disk = TestDisk::new();
    one_of_each(&disk);
    check("manifest.txt", &disk.bytes("log/MANIFEST"));
    let watermark = disk.bytes("log/WATERMARK");
    check("watermark.txt", &watermark[watermark.len() - 32..]);
}

#[test]
fn bytes_of_a_snapshot_manifest_are_golden() {
    let machine = one_of_each(&TestDisk::new());
    let snapshot = machine
        .log
        .snapshotter()
        .take(|_| b"meta".to_vec())
        .unwrap();
    check("snapshot.txt", &snapshot.manifest());
}

#[test]
fn a_newer_format_is_refused_and_says_so() {
    let disk = TestDisk::new();
    one_of_each(&disk);
    let mut bytes = disk.bytes("log/MANIFEST");
    bytes[8] = 2;
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    disk.set_bytes("log/MANIFEST", bytes);
    let error = Machine::open(&disk).err().unwrap().to_string();
    assert!(error.contains("MANIFEST has format version 2"), "{error}");
}

#[test]
fn inspection_tells_what_is_there_without_changing_it() {
    let disk = TestDisk::new();
    let mut machine = one_of_each(&disk);
    machine.put("later", b"1");
    machine.mark();
    machine.flush().unwrap();
    drop(machine);
    let before = disk.changes();
    let infos = inspect(&disk, DIR, true).unwrap();
    assert_eq!(disk.changes(), before);
    let states: Vec<_> = infos
        .iter()
        .map(|info| (info.id, info.state, info.records))
        .collect();
    assert_eq!(
        states,
        [(1, SegmentState::Sealed, 4), (2, SegmentState::Open, 1)]
    );
    assert_eq!(infos[0].revisions, (1, 2));
    assert_eq!(infos[1].revisions, (3, 3));
    assert_eq!(infos[1].last_mark.unwrap().applied.index.0, 2);
    disk.flip("log/00000001.rev", 100, 0);
    let infos = inspect(&disk, DIR, true).unwrap();
    let damage = infos[0].damage.as_ref().unwrap();
    assert!(
        damage.contains("00000001.rev is damaged at byte 64"),
        "{damage}"
    );
    assert_eq!(infos[1].damage, None);
}
