//! Power is lost at every single operation, also during recovery: nothing durable is ever missing.

use crate::wal_model::{Model, open, rng, work};
use quorate_node::storage::Verdict;
use quorate_sim::disk::SimDisk;

const STEPS: usize = 40;
/// Crash images drawn at each point.
const IMAGES: u64 = 3;

/// Runs the work of a seed until the machine stops after so many operations.
fn run(seed: u64, stop_after: u64) -> (SimDisk, Model, bool) {
    let disk = SimDisk::new(seed);
    disk.stop_after(stop_after);
    let mut model = Model::default();
    let finished = open(&disk, 1)
        .and_then(|(mut wal, _)| work(&mut wal, &mut model, &mut rng(seed, 1), STEPS))
        .is_ok();
    (disk, model, finished)
}

fn crash_everywhere(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut stop = 0;
        loop {
            let (disk, model, finished) = run(seed, stop);
            for image in 0..IMAGES {
                let crashed = disk.fork(seed ^ (image << 32) ^ stop);
                crashed.crash();
                let context = format!("seed {seed}, stopped after {stop}, image {image}");
                recover_under_crashes(&crashed, &model, &context, image);
            }
            if finished {
                break;
            }
            stop += 1;
        }
    }
}

/// Recovers, crashing after every number of recovery's own operations, and then for good.
fn recover_under_crashes(disk: &SimDisk, model: &Model, context: &str, image: u64) {
    let mut start = 2;
    for operations in (image..).step_by(2) {
        disk.stop_after(operations);
        let result = open(disk, start);
        start += 1;
        if let Ok((_, recovered)) = result {
            assert_ne!(
                recovered.verdict,
                Verdict::Corrupt,
                "{context}: {recovered:?}"
            );
            model.check(&recovered, context);
            disk.crash();
            // Whatever was answered once is durable: a crash right afterwards changes nothing.
            let again = open(disk, start).map(|(_, again)| again);
            let again = again.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(again.entries, recovered.entries, "{context}");
            assert_eq!(again.hard_state, recovered.hard_state, "{context}");
            assert_ne!(again.verdict, Verdict::Corrupt, "{context}");
            return;
        }
        let error = result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("has stopped"), "{context}: {error}");
        disk.crash();
    }
}

#[test]
fn f07_f09_a_crash_at_any_operation_loses_nothing_durable() {
    crash_everywhere(0..12);
}

#[test]
fn f15_a_log_goes_on_through_one_crash_after_another() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let mut model = Model::default();
        let mut draw = rng(seed, 2);
        for start in 1..12 {
            let (mut wal, recovered) = open(&disk, start).unwrap();
            let context = format!("seed {seed}, start {start}");
            assert_ne!(recovered.verdict, Verdict::Corrupt, "{context}");
            model.check(&recovered, &context);
            model = Model::recovered(&recovered);
            disk.stop_after(draw.below(60));
            // The error is the machine stopping, or there is none.
            let _ = work(&mut wal, &mut model, &mut draw, STEPS);
            if draw.below(4) == 0 {
                disk.kill_process()
            } else {
                disk.crash()
            }
        }
    }
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let digest = |seed| {
        let (disk, _, _) = run(seed, 90);
        disk.crash();
        disk.digest()
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}
