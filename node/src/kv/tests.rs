//! Tests of small parts that scripts reach only by luck.

use super::interval_set::IntervalSet;
use super::membership::{ClusterInfo, Member, Members};
use super::types::{Interval, Put, Txn, TxnOp};
use super::{Op, quota, validate};
use crate::storage::revision_log::Sizes;
use bytes::Bytes;
use proptest::prelude::*;

fn intervals() -> impl Strategy<Value = Interval> {
    let key = || prop::collection::vec(0..3u8, 0..3).prop_map(Bytes::from);
    prop_oneof![
        key().prop_map(Interval::Key),
        (key(), key()).prop_map(|(start, end)| Interval::Between { start, end }),
        (prop::bool::weighted(0.1), key()).prop_map(|(from, key)| {
            if from {
                Interval::From(key)
            } else {
                Interval::Key(key)
            }
        }),
    ]
}

proptest! {
    #[test]
    fn a_set_of_intervals_contains_what_one_of_them_contains(
        first in prop::collection::vec(intervals(), 0..6),
        second in prop::collection::vec(intervals(), 0..6),
        key in prop::collection::vec(0..3u8, 0..4),
    ) {
        let (mut set, mut other) = (IntervalSet::default(), IntervalSet::default());
        first.iter().for_each(|interval| set.add(interval));
        second.iter().for_each(|interval| other.add(interval));
        set.add_all(other);
        let expected = first.iter().chain(&second).any(|interval| interval.contains(&key));
        prop_assert_eq!(set.contains(&key), expected);
    }

    #[test]
    fn a_prefix_contains_exactly_what_begins_with_it(
        prefix in prop::collection::vec(prop::sample::select(vec![0, 1, 0xfe, 0xff]), 0..3),
        key in prop::collection::vec(prop::sample::select(vec![0, 1, 0xfe, 0xff]), 1..5),
    ) {
        let interval = Interval::prefix(Bytes::from(prefix.clone()));
        let begins = key.starts_with(&prefix);
        // After a prefix of nothing but 0xff comes nothing: all keys from it on are meant.
        prop_assert_eq!(interval.contains(&key), begins);
    }

    #[test]
    fn membership_data_survives_its_bytes_and_bad_bytes_are_refused(
        ids in prop::collection::btree_set(1..u64::MAX, 0..4),
        removed in prop::collection::btree_set(any::<u64>(), 0..4),
        text in ".{0,12}",
        learner in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let member = |id: u64| Member {
            id,
            name: text.clone(),
            peer_urls: vec![format!("http://{id}")],
            client_urls: vec![text.clone(), String::new()],
            learner,
        };
        let members = Members {
            cluster: ClusterInfo { uuid: [3; 16], id: 9 },
            members: ids.into_iter().map(|id| (id, member(id))).collect(),
            removed,
            cluster_version: text.clone(),
        };
        let bytes = members.encode();
        let short = Bytes::copy_from_slice(&bytes[..cut.index(bytes.len())]);
        prop_assert!(Members::decode(&short).is_err());
        prop_assert_eq!(Members::decode(&Bytes::from(bytes)), Ok(members));
    }
}

fn put(key: &str, value_bytes: usize) -> TxnOp {
    let (key, value) = (
        Bytes::from(key.to_owned()),
        Bytes::from(vec![0; value_bytes]),
    );
    TxnOp::Put(Put {
        key,
        value,
        ..Put::default()
    })
}

#[test]
fn a_txn_costs_its_larger_branch_and_what_writes_nothing_passes_a_full_store() {
    let nested = Txn {
        success: vec![put("ab", 10)],
        ..Txn::default()
    };
    let txn = Op::Txn(Txn {
        success: vec![put("a", 1), TxnOp::Txn(nested)],
        failure: vec![put("a", 300)],
        ..Txn::default()
    });
    assert_eq!(quota::cost(&txn), 256 + 1 + 300);
    let of = |in_use, total| Sizes { total, in_use };
    let full = Err(super::Error::NoSpace);
    let small = of(1_000, 1_000);
    assert!(quota::check(&txn, small, Some(1_558)).is_ok());
    assert_eq!(quota::check(&txn, small, Some(1_557)), full);
    let dead = 2_000 / 2 + (128 << 20);
    let crowded = of(0, 2_000 - 557 + dead - 1);
    assert!(quota::check(&txn, crowded, Some(2_000)).is_ok());
    let crowded = of(0, 2_000 - 557 + dead);
    assert_eq!(quota::check(&txn, crowded, Some(2_000)), full);
    let huge = of(u64::MAX, u64::MAX);
    assert!(
        quota::check(&txn, huge, None).is_ok(),
        "no quota, no refusal"
    );
    let compact = Op::Txn(Txn::default());
    assert!(quota::check(&compact, huge, Some(1)).is_ok());
}

#[test]
fn a_txn_nested_too_deeply_is_refused_before_it_becomes_a_command() {
    let deep = |levels: usize| {
        (0..levels).fold(Txn::default(), |inner, _| Txn {
            success: vec![TxnOp::Txn(inner)],
            ..Txn::default()
        })
    };
    let most = super::command::TXN_DEPTH_MAX - 1;
    assert!(validate::txn(&deep(most), 1_000).is_ok());
    assert_eq!(
        validate::txn(&deep(most + 1), 1_000),
        Err(super::Error::TooManyOps)
    );
    let decode = |txn| {
        let command = super::Command {
            request: super::RequestId::default(),
            op: Op::Txn(txn),
        };
        super::Command::decode(&Bytes::from_owner(command.encode()))
    };
    assert!(decode(deep(most)).is_ok());
    assert!(decode(deep(most + 1)).is_err());
}

#[test]
fn a_small_command_cannot_expand_without_bound() {
    // A txn that claims very many empty operations: one byte each, hundreds in memory.
    let mut bytes = vec![1, 0, 0, 3, 0];
    let count = super::command::TXN_ITEMS_MAX + 1;
    let mut length = count;
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(std::iter::repeat_n(0, count + 1));
    let refused = super::Command::decode(&Bytes::from(bytes));
    assert!(
        matches!(refused, Err(super::DecodeError::TooDeep { .. })),
        "{refused:?}"
    );
}
