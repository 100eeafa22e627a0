//! The index against an ordered map of version lists, under random changes.

use super::{Index, Version, Want};
use crate::kv::types::Interval;
use crate::storage::revision_log::Location;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

type Model = BTreeMap<Vec<u8>, Vec<Version>>;

fn location(main: i64) -> Location {
    Location::new(1, main.unsigned_abs() * 8, 64)
}

/// What a change does to one key.
#[derive(Clone, Copy, Debug)]
enum Change {
    Put,
    Delete,
    Prune(i64),
    Move,
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    // Few enough to meet often, many enough to split and merge inner nodes.
    prop_oneof![
        (0..12_000u32).prop_map(|n| format!("k{n:05}").into_bytes()),
        (0..40u32).prop_map(|n| format!("k{n:05}").into_bytes()),
        proptest::collection::vec(any::<u8>(), 1..4),
    ]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => Just(Change::Put),
        2 => Just(Change::Delete),
        1 => (0..300i64).prop_map(Change::Prune),
        1 => Just(Change::Move),
    ]
}

fn change(index: &mut Index, model: &mut Model, key: &[u8], main: i64, change: Change) {
    match change {
        Change::Put | Change::Delete => {
            let version = i64::from(matches!(change, Change::Put));
            let new = Version {
                main,
                create: main,
                version,
                sub: 0,
                location: location(main),
            };
            let before = index.upsert(key, |_| new);
            let versions = model.entry(key.to_vec()).or_default();
            assert_eq!(before, versions.last().copied());
            versions.push(new);
        }
        Change::Prune(back) => {
            let at = main - back;
            let mut removed = Vec::new();
            index.prune(key, at, &mut removed);
            let Some(versions) = model.get_mut(key) else {
                return;
            };
            let before: Vec<Version> = versions.clone();
            // The newest at or before `at` stays unless it is a deletion before it.
            let newest = before.iter().rposition(|v| v.main <= at);
            let stays =
                |place: usize, v: &Version| v.main >= at || Some(place) == newest && v.version != 0;
            let mut place = 0;
            versions.retain(|v| {
                place += 1;
                stays(place - 1, v)
            });
            assert_eq!(removed.len(), before.len() - versions.len());
            if versions.is_empty() {
                model.remove(key);
            }
        }
        Change::Move => {
            let Some(versions) = model.get_mut(key) else {
                return;
            };
            let middle = versions.len() / 2;
            let moved = &mut versions[middle];
            moved.location = location(main + 1_000_000);
            assert!(index.holds(key, moved.main, moved.sub) && !index.holds(key, moved.main, 1));
            assert!(index.relocate(key, moved.main, moved.sub, moved.location));
            assert!(!index.relocate(key, main + 1, 0, moved.location));
        }
    }
}

fn all(index: &Index, from: &[u8], want: Want) -> Vec<(Vec<u8>, Vec<Version>)> {
    let mut found = Vec::new();
    index.visit(from, want, |entry| {
        found.push((entry.key().to_vec(), entry.versions().copied().collect()));
        ControlFlow::Continue(())
    });
    found
}

fn compare(index: &Index, model: &Model, probes: &[(Vec<u8>, Vec<u8>)], revision: i64) {
    let expected: Vec<_> = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(all(index, &[], Want::All), expected);
    let mut backwards = Vec::new();
    index.visit_back(None, Want::All, |entry| {
        backwards.push(entry.key().to_vec());
        ControlFlow::Continue(())
    });
    assert!(
        backwards.iter().rev().eq(model.keys()),
        "backwards is not the reverse of forwards"
    );
    let alive = |versions: &Vec<Version>| versions.last().is_some_and(|v| v.version != 0);
    assert_eq!(
        index.live(),
        model.values().filter(|v| alive(v)).count() as u64
    );
    for (a, b) in probes {
        let between = Interval::Between {
            start: Bytes::copy_from_slice(a),
            end: Bytes::copy_from_slice(b),
        };
        let inside = |k: &Vec<u8>| a <= k && k < b;
        let count = model.iter().filter(|(k, v)| inside(k) && alive(v)).count() as u64;
        assert_eq!(index.count(&between), count, "{a:?} to {b:?}");
        let from = Interval::From(Bytes::copy_from_slice(a));
        let count = model.iter().filter(|(k, v)| a <= *k && alive(v)).count() as u64;
        assert_eq!(index.count(&from), count, "from {a:?}");
        let live: Vec<_> = all(index, a, Want::Live)
            .into_iter()
            .filter(|(_, v)| alive(v))
            .collect();
        assert_eq!(
            live.len() as u64,
            count,
            "skipping what is dead must skip nothing else"
        );
        assert_eq!(
            index.get(a).map(|e| e.versions().copied().collect()),
            model.get(a).cloned()
        );
        let at = model
            .get(a)
            .and_then(|v| v.iter().rev().find(|v| v.main <= revision));
        let at = at.filter(|v| v.version != 0);
        assert_eq!(index.get(a).and_then(|entry| entry.at(revision)), at);
        let mut before = None;
        index.visit_back(Some(a), Want::All, |entry| {
            before = Some(entry.key().to_vec());
            ControlFlow::Break(())
        });
        assert_eq!(
            before.as_ref(),
            model
                .range::<Vec<u8>, _>(..a.clone())
                .next_back()
                .map(|e| e.0)
        );
    }
    let stale = |v: &Vec<Version>| v.len() > 1 || !alive(v);
    let found = all(index, &[], Want::Stale)
        .iter()
        .filter(|(_, v)| stale(v))
        .count();
    assert_eq!(found, model.values().filter(|v| stale(v)).count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_an_ordered_map(
        steps in proptest::collection::vec((keys(), changes()), 1..3000),
        probes in proptest::collection::vec((keys(), keys()), 8),
    ) {
        let (mut index, mut model) = (Index::default(), Model::new());
        let mut main = 1;
        for (key, step) in &steps {
            main += 1;
            change(&mut index, &mut model, key, main, *step);
        }
        compare(&index, &model, &probes, main / 2);
        // Empty it again from one end: nodes merge, the root shrinks.
        let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
        for (place, key) in keys.iter().enumerate() {
            main += 2;
            change(&mut index, &mut model, key, main - 1, Change::Delete);
            change(&mut index, &mut model, key, main, Change::Prune(0));
            if place % 500 == 0 {
                compare(&index, &model, &probes, main);
            }
        }
        compare(&index, &model, &probes, main);
        prop_assert_eq!(index.live(), 0);
    }
}

/// Ascending, descending and shuffled arrival, large enough for three levels.
#[test]
fn many_keys_in_any_order_are_all_found_and_counted() {
    const KEYS: u64 = 20_000;
    for step in [1, KEYS - 1, 7_919] {
        let (mut index, mut model) = (Index::default(), Model::new());
        for place in 0..KEYS {
            let key = format!("{:08}", place * step % KEYS).into_bytes();
            change(
                &mut index,
                &mut model,
                &key,
                2 + place.cast_signed(),
                Change::Put,
            );
        }
        let probe = (b"00000500".to_vec(), b"00019000".to_vec());
        compare(&index, &model, &[probe], 100);
        assert_eq!(index.live(), KEYS);
    }
}

/// Keys come and go at the left edge of inner nodes, where a bound that was ignored while its
/// child was the first becomes one that counts when two inner nodes merge.
#[test]
fn keys_below_an_old_bound_are_found_after_inner_nodes_merge() {
    const KEYS: u64 = 40_000;
    let key = |n: u64| format!("{n:08}").into_bytes();
    let (mut index, mut model) = (Index::default(), Model::new());
    let mut main = 1;
    let mut apply = |index: &mut Index, model: &mut Model, key: &[u8], what: &[Change]| {
        for step in what {
            main += 1;
            change(index, model, key, main, *step);
        }
    };
    const GONE: &[Change] = &[Change::Delete, Change::Prune(0), Change::Prune(-1)];
    for n in 0..KEYS {
        apply(&mut index, &mut model, &key(2 * n), &[Change::Put]);
    }
    // Blocks of several sizes are emptied, refilled at their right end, and thinned out, so that
    // inner nodes lose their first children and shrink until they merge.
    for block in [4_096, 2_000, 700] {
        for start in (0..KEYS).step_by(block) {
            for n in (start..KEYS.min(start + block as u64 * 7 / 8)).rev() {
                apply(&mut index, &mut model, &key(2 * n), GONE);
            }
            for n in start..KEYS.min(start + 64) {
                let odd = 2 * (n + block as u64 * 7 / 8).min(KEYS) - 1;
                apply(&mut index, &mut model, &key(odd), &[Change::Put]);
            }
        }
        let probes: Vec<_> = (0..40)
            .map(|n| (key(n * 1_999), key(n * 2_003 + 500)))
            .collect();
        compare(&index, &model, &probes, i64::MAX);
        for (n, _) in model.clone() {
            assert!(index.get(&n).is_some(), "{}", n.escape_ascii());
        }
    }
}
