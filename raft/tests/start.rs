//! What a node makes of the things start-up found on disk.

use quorate_raft::{
    Config, Entry, EntryId, HardState, LogIndex, MemberId, Membership, Node, Payload, Restored,
    RoleKind, SnapshotMeta, StartError, Term,
};

fn config() -> Config {
    Config {
        id: MemberId(1),
        election_ticks: 10,
        heartbeat_ticks: 1,
        seed: 1,
        append_bytes_max: 1000,
        inflight_appends_max: 10,
        inflight_bytes_max: 1000,
        uncommitted_bytes_max: 1000,
        pending_reads_max: 10,
        promote_lag_max: 0,
        #[cfg(planted)]
        planted: 0,
    }
}

fn entry(term: u64, index: u64) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: LogIndex(index),
    };
    Entry {
        id,
        payload: Payload::Command(b"x".as_slice().into()),
    }
}

fn restored(term: u64, entries: Vec<Entry>) -> Restored {
    let membership = Membership::of_voters([MemberId(1)]);
    Restored {
        hard_state: HardState {
            term: Term(term),
            vote: None,
        },
        snapshot: SnapshotMeta {
            membership,
            ..SnapshotMeta::default()
        },
        entries,
        ..Restored::default()
    }
}

fn refusal(restored: Restored) -> StartError {
    Node::new(config(), restored).expect_err("it must not start")
}

#[test]
fn a04_a_log_without_its_term_is_refused() {
    let found = refusal(restored(0, vec![entry(3, 1)]));
    assert_eq!(
        found,
        StartError::TermOrder {
            index: LogIndex(1),
            found: Term(3)
        }
    );
}

#[test]
fn a04_a_log_out_of_order_is_refused() {
    let found = refusal(restored(3, vec![entry(3, 1), entry(2, 2)]));
    assert_eq!(
        found,
        StartError::TermOrder {
            index: LogIndex(2),
            found: Term(2)
        }
    );
    let found = refusal(restored(3, vec![entry(3, 1), entry(3, 3)]));
    let (expected, found_at) = (LogIndex(2), LogIndex(3));
    assert_eq!(
        found,
        StartError::NotContiguous {
            expected,
            found: found_at
        }
    );
}

#[test]
fn a_commit_hint_beyond_the_log_is_clamped() {
    let hint = Restored {
        commit: LogIndex(9),
        ..restored(1, vec![entry(1, 1)])
    };
    let node = Node::new(config(), hint).expect("a hint is no error");
    assert_eq!(
        (node.commit(), node.role()),
        (LogIndex(1), RoleKind::Follower)
    );
}

#[test]
fn d03_a_state_machine_that_does_not_fit_the_log_is_refused() {
    let ahead = Restored {
        applied: LogIndex(2),
        ..restored(1, vec![entry(1, 1)])
    };
    let (applied, last) = (LogIndex(2), LogIndex(1));
    assert_eq!(
        refusal(ahead),
        StartError::AppliedBeyondLog { applied, last }
    );
    let mut behind = restored(1, vec![entry(1, 6)]);
    behind.snapshot.last = EntryId {
        term: Term(1),
        index: LogIndex(5),
    };
    let (applied, base) = (LogIndex(0), LogIndex(5));
    assert_eq!(
        refusal(behind),
        StartError::AppliedBeforeLog { applied, base }
    );
}

#[test]
fn an_impossible_membership_is_refused() {
    let mut both = restored(0, Vec::new());
    both.snapshot.membership.learners.insert(MemberId(1));
    assert_eq!(refusal(both), StartError::Membership(LogIndex(0)));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let config = Config {
        election_ticks: 1,
        ..config()
    };
    let found = Node::new(config, restored(0, Vec::new())).expect_err("it must not start");
    assert!(found.to_string().contains("election_ticks"), "{found}");
}
