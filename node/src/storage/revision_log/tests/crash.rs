//! A crash at every change of the disk, and again at every change of the recovery: the log opens,
//! holds what was synced, and is the state of some mark.

use super::disk::{Loss, TestDisk};
use super::harness::{Machine, Plain};
use crate::storage::revision_log::{Compacted, Error, MetaKind};
use std::collections::BTreeMap;

/// The states that the log may be found in, by the index of their mark.
type States = BTreeMap<u64, Plain>;

/// Rolls, compactions and a snapshot; notes the state at every mark. Ends early when the disk does.
fn work(disk: &TestDisk, states: &mut States, synced: &mut u64) -> Result<(), Error> {
    let mut machine = Machine::open(disk)?;
    *synced = machine.applied;
    let mut compactor = machine.log.compactor();
    for round in 0..10u8 {
        machine.put(&format!("key-{}", round % 3), &[round; 90]);
        machine.put("counter", &[round]);
        if round % 4 == 1 {
            machine.delete("key-0");
            machine.row(MetaKind::Lease, "7", &[round]);
        }
        if round % 4 == 3 {
            machine.row(MetaKind::Lease, "7", b"");
            machine.compact(machine.revision - 2);
        }
        machine.mark();
        states.insert(machine.applied, machine.index.plain());
        machine.flush()?;
        *synced = machine.applied;
        while machine.compactor_step(&mut compactor)? == Compacted::Worked {}
        if round == 6 {
            let snapshot = machine.log.snapshotter().take(|_| Vec::new())?;
            assert_eq!(snapshot.mark().applied.index.0, machine.applied);
        }
    }
    machine.check_values();
    Ok(())
}

/// Opens the log and compares it with the states it may be in.
fn check(disk: &TestDisk, states: &States, synced: u64, what: &str) {
    let machine = match Machine::open(disk) {
        Ok(machine) => machine,
        Err(error) => panic!("{what}: {error}"),
    };
    let mark = machine.opened.mark.applied.index.0;
    assert!(
        mark >= synced,
        "{what}: mark {mark}, but {synced} was reported as synced"
    );
    if mark > 0 {
        assert_eq!(
            machine.index.plain(),
            states[&mark],
            "{what}: state at mark {mark}"
        );
    }
    machine.check_values();
}

#[test]
fn f07_f09_n10_a_crash_at_every_change_leaves_a_state_that_was() {
    let (whole, mut states, mut synced) = (TestDisk::new(), States::new(), 0);
    work(&whole, &mut states, &mut synced).unwrap();
    for stop in 0..whole.changes() {
        let disk = TestDisk::new();
        disk.stop_after(stop);
        let mut synced = 0;
        work(&disk, &mut States::new(), &mut synced).unwrap_err();
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn] {
            let crashed = disk.fork();
            crashed.lose_power(loss);
            let what = format!("crash at change {stop}, {loss:?}");
            check(&crashed, &states, synced, &what);
            check(&crashed, &states, synced, &format!("{what}, opened twice"));
        }
    }
}

#[test]
fn f09_n10_a_crash_at_every_change_of_the_recovery_changes_nothing() {
    let (whole, mut states, mut synced) = (TestDisk::new(), States::new(), 0);
    work(&whole, &mut states, &mut synced).unwrap();
    for stop in (0..whole.changes()).step_by(3) {
        let disk = TestDisk::new();
        disk.stop_after(stop);
        let mut synced = 0;
        work(&disk, &mut States::new(), &mut synced).unwrap_err();
        disk.lose_power(Loss::Torn);
        for again in 0.. {
            let recovering = disk.fork();
            recovering.stop_after(again);
            let opened = Machine::open(&recovering).map(drop);
            let stopped = recovering.has_stopped();
            recovering.lose_power(Loss::Unsynced);
            let what = format!("crash at change {stop}, then at change {again} of recovery");
            check(&recovering, &states, synced, &what);
            if !stopped {
                assert!(opened.is_ok(), "{what}");
                break;
            }
        }
    }
}

#[test]
fn work_goes_on_after_any_crash() {
    let (whole, mut states, mut synced) = (TestDisk::new(), States::new(), 0);
    work(&whole, &mut states, &mut synced).unwrap();
    for stop in (0..whole.changes()).step_by(5) {
        let disk = TestDisk::new();
        disk.stop_after(stop);
        work(&disk, &mut States::new(), &mut 0).unwrap_err();
        disk.lose_power(Loss::Torn);
        let mut later = States::new();
        work(&disk, &mut later, &mut 0).unwrap();
        let machine = Machine::open(&disk).unwrap();
        assert_eq!(
            machine.index.plain(),
            later[&machine.applied],
            "crash at change {stop}"
        );
    }
}
