//! Bits flip, sectors vanish, writes go astray, syncs fail: the verdict is legal, and no entry that
//! was never written ever comes back.

use crate::wal_model::{DIR, Model, Moment, command, open, rng, work};
use quorate_node::env::{Disk, Rng};
use quorate_node::storage::{Error, Recovered, Verdict};
use quorate_raft::{Entry, HardState, LogIndex, MemberId, Persist, PersistId, Term};
use quorate_sim::disk::{Fault, SECTOR_BYTES, SimDisk};

fn persist(term: u64, range: std::ops::RangeInclusive<u64>) -> Persist {
    let entries = range
        .map(|index| command(Term(term), LogIndex(index), 24))
        .collect();
    let hard_state = Some(HardState {
        term: Term(term),
        vote: Some(MemberId(1)),
    });
    Persist {
        id: PersistId(0),
        hard_state,
        entries,
    }
}

/// A small log: three synced entries with their mark, two more that were never synced.
fn small_log() -> (SimDisk, Vec<Entry>) {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk, 1).unwrap();
    wal.append(&[persist(1, 1..=3)]).unwrap();
    wal.sync().unwrap();
    wal.note_idle().unwrap();
    wal.append(&[persist(1, 4..=5)]).unwrap();
    drop(wal);
    disk.kill_process();
    let entries = persist(1, 1..=5).entries;
    (disk, entries)
}

/// What must hold for any recovery of the small log, whatever was damaged in it.
fn check_small(recovered: &Recovered, entries: &[Entry], context: &str) {
    assert!(
        entries.starts_with(&recovered.entries),
        "{context}: {:?}",
        recovered.entries
    );
    for entry in &recovered.salvaged {
        assert!(entries.contains(entry), "{context}: {entry:?}");
    }
    // The first three were synced, and a mark says so: either they are there, or they are missed.
    let whole = recovered.entries.len() >= 3;
    assert!(
        whole || recovered.verdict == Verdict::Corrupt,
        "{context}: {recovered:?}"
    );
    let repairing = recovered.verdict == Verdict::Corrupt;
    assert_eq!(
        repairing,
        !recovered.damaged.is_empty(),
        "{context}: {recovered:?}"
    );
}

fn check_damaged(disk: &SimDisk, entries: &[Entry], context: &str) {
    match open(disk, 2) {
        Ok((wal, recovered)) => {
            check_small(&recovered, entries, context);
            drop(wal);
            // Recovery acted on its verdict; the next one must see the same log.
            let (_, again) = open(disk, 3).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(again.entries, recovered.entries, "{context}");
            let was_corrupt = recovered.verdict == Verdict::Corrupt;
            assert_eq!(again.verdict == Verdict::Corrupt, was_corrupt, "{context}");
        }
        Err(error) => assert!(error.is_refusal(), "{context}: {error}"),
    }
}

/// Syncs all that is cached, so that damage to the durable bytes is what the next start reads.
fn settle(disk: &SimDisk) {
    for name in disk.list(DIR).unwrap() {
        let path = format!("{DIR}/{name}");
        disk.open(&path, quorate_node::env::OpenMode::Existing)
            .unwrap()
            .sync()
            .unwrap();
    }
    disk.sync_dir(DIR).unwrap();
}

#[test]
fn f05_f10_every_bit_flip_gives_a_legal_verdict_and_never_a_wrong_entry() {
    let (disk, entries) = small_log();
    settle(&disk);
    for name in disk.list(DIR).unwrap() {
        let path = format!("{DIR}/{name}");
        let bytes = disk.durable(&path).unwrap();
        for (byte, content) in bytes.iter().enumerate() {
            // All bits of what was written; one bit of each byte that is still zero, of a few.
            let bits = if *content != 0 {
                0..8
            } else {
                0..u64::from(byte % 16 == 0)
            };
            for bit in bits {
                let damaged = disk.fork(2);
                damaged.flip_bit(&path, byte as u64 * 8 + bit);
                check_damaged(
                    &damaged,
                    &entries,
                    &format!("{name}, byte {byte}, bit {bit}"),
                );
            }
        }
    }
}

#[test]
fn f05_f08_every_truncation_gives_a_legal_verdict() {
    let (disk, entries) = small_log();
    settle(&disk);
    for name in disk.list(DIR).unwrap() {
        let path = format!("{DIR}/{name}");
        let bytes = disk.durable(&path).unwrap();
        for length in (0..bytes.len()).step_by(24) {
            let damaged = disk.fork(2);
            damaged.overwrite(&path, &bytes[..length]);
            check_damaged(&damaged, &entries, &format!("{name} cut to {length}"));
        }
        let damaged = disk.fork(2);
        damaged.remove(&path).unwrap();
        check_damaged(&damaged, &entries, &format!("{name} removed"));
    }
}

#[test]
fn f10_f11_damage_in_a_long_log_is_noticed_and_never_served() {
    for seed in 0..150 {
        let disk = SimDisk::new(seed);
        let (mut wal, _) = open(&disk, 1).unwrap();
        let mut model = Model::default();
        let mut draw = rng(seed, 3);
        work(&mut wal, &mut model, &mut draw, 60).unwrap();
        let fault = match draw.below(3) {
            0 => Some(Fault::WriteIsLost),
            1 => Some(Fault::WriteIsMisdirected(8 * (draw.below(400) + 1))),
            _ => None,
        };
        fault.into_iter().for_each(|fault| disk.inject(fault));
        // Misdirected bytes are a disk's lie: the log must survive them, not see them.
        work(&mut wal, &mut model, &mut draw, 10).unwrap();
        drop(wal);
        settle(&disk);
        damage_one_sector(&disk, &mut draw);
        disk.crash();
        let context = format!("seed {seed}, {fault:?}");
        match open(&disk, 2) {
            Ok((_, recovered)) => check_written(&recovered, &model, &context),
            Err(error) => assert!(error.is_refusal(), "{context}: {error}"),
        }
    }
}

fn damage_one_sector(disk: &SimDisk, draw: &mut quorate_sim::tape::Tape) {
    let names = disk.list(DIR).unwrap();
    let path = format!("{DIR}/{}", names[draw.below(names.len() as u64) as usize]);
    let length = disk.durable(&path).unwrap().len() as u64;
    if length == 0 {
        return;
    }
    let sector = draw.below(length.div_ceil(SECTOR_BYTES as u64)) as usize;
    match draw.below(3) {
        0 => disk.zero_sector(&path, sector),
        1 => disk.make_unreadable(&path, sector),
        _ => disk.flip_bit(&path, draw.next_u64() % (length * 8)),
    }
}

/// No entry comes back that was never written; what is there is the log of some moment.
fn check_written(recovered: &Recovered, model: &Model, context: &str) {
    let written = |entry: &Entry| {
        model
            .moments
            .iter()
            .any(|moment: &Moment| moment.entries.contains(entry))
    };
    let all = recovered.entries.iter().chain(&recovered.salvaged);
    for entry in all {
        assert!(
            written(entry),
            "{context}: {:?} was never written",
            entry.id
        );
    }
    let base = recovered
        .base
        .as_ref()
        .map_or(LogIndex(0), |base| base.last.index);
    for (number, entry) in recovered.entries.iter().enumerate() {
        assert_eq!(entry.id.index.0, base.0 + 1 + number as u64, "{context}");
    }
}

#[test]
fn f04_a_failed_sync_ends_the_log() {
    let disk = SimDisk::new(4);
    let (mut wal, _) = open(&disk, 1).unwrap();
    wal.append(&[persist(1, 1..=3)]).unwrap();
    disk.inject(Fault::SyncFails);
    let error = wal.sync().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    assert!(matches!(wal.sync(), Err(Error::Stopped)));
    assert!(matches!(
        wal.append(&[persist(1, 4..=4)]),
        Err(Error::Stopped)
    ));
    drop(wal);
    // The pages count as clean, with old or new content: the next start asks the device.
    disk.kill_process();
    let (_, recovered) = open(&disk, 2).unwrap();
    disk.crash();
    let (_, again) = open(&disk, 3).unwrap();
    assert_eq!(again.entries, recovered.entries);
}

#[test]
fn a03_a_failed_write_of_the_vote_ends_the_log() {
    for fault in [Fault::WriteFails, Fault::SyncFails] {
        let disk = SimDisk::new(4);
        let (mut wal, _) = open(&disk, 1).unwrap();
        disk.inject(fault);
        let error = wal.append(&[persist(7, 1..=1)]).unwrap_err();
        assert!(error.is_fatal(), "{error}");
        assert_eq!(
            wal.hard_state(),
            HardState::default(),
            "memory must not run ahead of disk"
        );
        assert!(matches!(
            wal.append(&[persist(7, 1..=1)]),
            Err(Error::Stopped)
        ));
    }
}

#[test]
fn f12_no_space_is_a_clean_refusal_and_writing_goes_on_when_there_is_room() {
    let disk = SimDisk::new(4);
    let (mut wal, _) = open(&disk, 1).unwrap();
    let used = u64::MAX - disk.free_bytes().unwrap();
    disk.set_capacity(used + 4096);
    let mut last = 0;
    let error = loop {
        match wal.append(&[persist(1, last + 1..=last + 10)]) {
            Ok(_) => last += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!(wal.last().index, LogIndex(last));
    wal.sync().unwrap();
    disk.set_capacity(u64::MAX);
    wal.append(&[persist(1, last + 1..=last + 10)]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    let (_, recovered) = open(&disk, 2).unwrap();
    assert_eq!(recovered.entries, persist(1, 1..=last + 10).entries);
}

#[test]
fn f14_hostile_lengths_are_an_error_and_no_allocation() {
    let (disk, entries) = small_log();
    settle(&disk);
    let path = format!("{DIR}/00000001.wal");
    let bytes = disk.durable(&path).unwrap();
    for start in [4096, 4096 + 72] {
        for field in [12, 16, 24, 32, 40] {
            let mut hostile = bytes.clone();
            hostile[start + field..start + field + 3].fill(0xff);
            let damaged = disk.fork(2);
            damaged.overwrite(&path, &hostile);
            check_damaged(&damaged, &entries, &format!("field {field} of {start:#x}"));
        }
    }
}
