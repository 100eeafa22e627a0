//! The fault matrix: which test provokes which hazard, and which guard it would miss.
//!
//! `rows.rs` is the table; `cargo xtask fix` writes it to `docs/fault-matrix.md`, and
//! `cargo xtask faults` takes every guard out in turn and demands that its tests fail.

// The words for faults and the kinds of seeds are for the document.
#[allow(dead_code, reason = "compiled again by examples/fault_matrix.rs")]
mod rows;

use quorate_operator::planted::Bug;

use rows::{HAZARDS, ROWS, SEEDS, Test};

#[test]
fn every_hazard_has_a_row_with_a_test() {
    let numbers: Vec<u8> = ROWS.iter().map(|row| row.hazard).collect();
    let all: Vec<u8> = (1..=HAZARDS).collect();
    assert_eq!(numbers, all, "one row for each hazard, in order");
    for row in ROWS {
        let hazard = row.hazard;
        assert!(!row.faults.is_empty(), "H{hazard} names no fault");
        assert!(!row.proofs.is_empty(), "H{hazard} names no test");
        assert!(!row.what.is_empty() && !row.guard.is_empty(), "H{hazard}");
    }
}

#[test]
fn every_planted_bug_is_to_be_found_by_a_test() {
    let proofs = || ROWS.iter().flat_map(|row| row.proofs);
    for bug in Bug::ALL {
        let found = proofs().any(|proof| proof.bug == Some(*bug));
        assert!(found, "{bug:?} is in no row");
    }
    for proof in proofs() {
        let ours = match proof.test {
            Test::Script(_) => true,
            Test::In(file, _) => file.starts_with("operator/"),
        };
        assert!(
            ours || proof.bug.is_none(),
            "{:?}: bugs of the operator are found by its own tests",
            proof.test
        );
    }
    for (bug, _) in SEEDS {
        assert!(Bug::ALL.contains(bug));
    }
}
